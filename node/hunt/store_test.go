package hunt

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
	"dragnet/store/disk"
)

// stored imports a folder of logs into a new data directory; its standard keys
// are those of epoch.
func stored(t *testing.T, folder, epoch string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s, err := disk.OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := s.NewWriter(epoch)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := ingest.NewImporter(s, w)
	files, err := ingest.Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, err := m.Import(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func document(t *testing.T, r detective.Result) string {
	t.Helper()
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheStoreAnswersAsTheFilesDo runs one hunt on a folder of logs and on the
// data directory made of it, by every way a question can be put.
func TestTheStoreAnswersAsTheFilesDo(t *testing.T) {
	folder := testkit.Data(t, "zeek-logs", "missing_host")
	const epoch = "2026-11-22"
	for name, dir := range map[string]string{"indexed": stored(t, folder, epoch), "another day's index": stored(t, folder, "2026-11-21")} {
		for _, text := range []string{
			"in src=167.94.138.145",
			"out dst=64.225.56.201 proto=tcp dport=22",
			"in dport=30003 proto=tcp state=failed src=120.245.134.0/24",
			"out dst=64.225.56.201 dport=22 proto=tcp state=established then[1h] out dst=64.225.56.201 dport=80 proto=tcp",
		} {
			for _, style := range []detective.Style{detective.Hybrid, detective.SelfDescribing} {
				var results []detective.Result
				for _, source := range []string{"w=" + folder, "w=" + dir} {
					sources, err := OpenSources([]string{source})
					if err != nil {
						t.Fatal(err)
					}
					p, err := pattern.Parse(text, pattern.NoFiles)
					if err != nil {
						t.Fatal(err)
					}
					c := configuration(nil)
					c.Detective.Epoch, c.Detective.Style, c.Detective.Mode = epoch, style, dossier.OPRF
					out, err := Run(context.Background(), c, p, sources)
					if err != nil {
						t.Fatalf("%s: %v", text, err)
					}
					results = append(results, out.Result)
				}
				if diff := cmp.Diff(document(t, results[0]), document(t, results[1])); diff != "" {
					t.Errorf("%s, %s, %s: files (-) and store (+) differ:\n%s", name, text, style, diff)
				}
				if len(results[0].Hosts) == 0 && results[0].Witnesses[0].Refused == "" {
					t.Errorf("%s: nobody was found, so nothing was compared", text)
				}
			}
		}
	}
}
