package hunt_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/node/hunt"
	"dragnet/node/hunt/witnesses"
	"dragnet/node/ingest"
	"dragnet/store/disk"
)

// stored imports a folder of logs into a new data directory; its standard keys
// are those of epoch.
func stored(t *testing.T, folder, epoch string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	w, err := disk.NewWriter(dir, epoch)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := ingest.NewImporter(nil, w)
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

// inDatabase imports a folder of logs into a new database, by several nodes in turn.
func inDatabase(t *testing.T, folder, epoch string) string {
	t.Helper()
	address := testkit.StartClickHouse(t).Address("hunted")
	files, err := ingest.Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	const perNode = 9
	for from := 0; from < len(files); from += perNode {
		place, err := ingest.OpenWriter(ctx, address, epoch)
		if err != nil {
			t.Fatal(err)
		}
		sources, err := place.Sources(ctx)
		if err != nil || len(sources) != from {
			t.Fatalf("%d sources before file %d (%v)", len(sources), from, err)
		}
		m := ingest.NewImporter(sources, place)
		// The last one that the node before imported is offered again.
		for i := max(0, from-1); i < min(from+perNode, len(files)); i++ {
			done, err := m.Import(ctx, files[i])
			if err != nil || i < from && done.Flows > 0 {
				t.Fatalf("import %s: %+v, %v", files[i], done, err)
			}
		}
		if err := m.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := place.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return address
}

// someOf is a folder with every third log of another.
func someOf(t *testing.T, folder string) string {
	t.Helper()
	files, err := ingest.Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	some := t.TempDir()
	for i := 0; i < len(files); i += 3 {
		if err := os.Symlink(files[i], filepath.Join(some, filepath.Base(files[i]))); err != nil {
			t.Fatal(err)
		}
	}
	return some
}

// question is one way to put a pattern.
type question struct {
	text  string
	hash  key.Hash
	style detective.Style
	mode  dossier.Mode
	here  bool // the detective joins
	to    flow.Time
}

// questions are patterns by every hash, and each other choice by turns.
func questions() (all []question) {
	hashes := []key.Hash{{Kind: key.Linear, Bits: 12}, {Kind: key.Linear, Bits: 19}, {Kind: key.Product}, {Kind: key.ProductMod, Modulus: 4093}}
	n := 0
	for _, text := range []string{
		"in src=167.94.138.145",
		"out dst=64.225.56.201 proto=tcp dport=22",
		"in dport=30003 proto=tcp state=failed src=120.245.134.0/24",
		"out dst=64.225.56.201 dport=22 proto=tcp state=established then[1h] out dst=64.225.56.201 dport=80 proto=tcp",
		"out dport=22 proto=tcp dst=64.225.56.201 and in src=167.94.138.0/24 or in src=167.94.138.145 sport=1",
		"out dst=2a03:b0c0:2:f0::245:6001 proto=tcp",
		"out dst=64.225.56.201 state=S0,REJ,RSTO duration<=5m bytes>=100",
		"in src=167.94.138.0/24 sent>=20 flows>=2",
	} {
		for _, h := range hashes {
			styles := []detective.Style{detective.Hybrid, detective.SelfDescribing, detective.Standard}
			q := question{text: text, hash: h, style: styles[n%3], mode: []dossier.Mode{dossier.OPRF, dossier.Paper}[n/2%2], here: n%4 == 1}
			if q.style == detective.Standard && n > 8 {
				q.style = detective.Hybrid // later patterns are not in the catalogue
			}
			if n%5 == 2 {
				q.to = flow.FromTime(time.Date(2024, 1, 24, 10, 0, 0, 0, time.UTC))
			}
			all = append(all, q)
			n++
		}
	}
	return all
}

// ask puts the question to one witness.
func (q question) ask(t *testing.T, source, epoch string) (*hunt.Outcome, error) {
	t.Helper()
	sources, err := witnesses.Open([]string{source})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pattern.Parse(q.text, pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	c := configuration(nil)
	c.Detective.Epoch, c.Detective.Style, c.Detective.Mode, c.Detective.Hash, c.Detective.JoinHere = epoch, q.style, q.mode, q.hash, q.here
	c.Detective.KDFMemory = dossier.MinKDFMemory
	c.Detective.Window = flow.Window{From: flow.MinTime, To: q.to}
	return hunt.Run(context.Background(), c, p, sources)
}

// TestTheStoreAnswersAsTheFilesDo runs one hunt on a folder of logs and on the
// stores made of it, by every way a question can be put.
func TestTheStoreAnswersAsTheFilesDo(t *testing.T) {
	testkit.Long(t)
	folder := someOf(t, testkit.Data(t, "zeek-logs", "missing_host"))
	const epoch = "2026-11-22"
	stores := map[string]string{"indexed": stored(t, folder, epoch), "another day's index": stored(t, folder, "2026-11-21"), "ClickHouse": inDatabase(t, folder, epoch)}
	found, refused := 0, 0
	for _, q := range questions() {
		files, asked := q.ask(t, "w="+folder, epoch)
		for name, place := range stores {
			got, err := q.ask(t, "w="+place, epoch)
			if (err == nil) != (asked == nil) {
				t.Fatalf("%s, %+v: %v, but of files %v", name, q, err, asked)
			}
			if err != nil {
				continue
			}
			if diff := cmp.Diff(document(t, files.Result), document(t, got.Result)); diff != "" {
				t.Errorf("%s, %+v: files (-) and store (+) differ:\n%s", name, q, diff)
			}
		}
		switch {
		case asked != nil:
			t.Logf("%+v: %v", q, asked)
			refused++
		case len(files.Result.Hosts) > 0:
			found++
		}
	}
	if found < len(questions())/2 {
		t.Errorf("of %d questions only %d found a host, and %d could not be asked", len(questions()), found, refused)
	}
}
