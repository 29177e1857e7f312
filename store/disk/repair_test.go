package disk

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"dragnet/flow"
	"dragnet/internal/hint"
	"dragnet/internal/testkit"
	"dragnet/store"
)

// withSource is a store of 500 flows in two segments, from one log. Its name would
// match nothing as a pattern.
func withSource(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "d[1]")
	s := stored(t, dir, smalls(0, 400))
	w := must(s.NewWriter(testEpoch))(t)
	if err := w.Append(t.Context(), smalls(400, 500)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(store.ImportedLog{ID: "one", Name: "conn.log", Flows: 100}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	return dir
}

func remove(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantWhole wants no damage, the first n flows of smalls, and the given logs.
func wantWhole(t *testing.T, dir string, n, sources int) {
	t.Helper()
	if found, err := Check(t.Context(), dir, nil); err != nil || len(found) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	s := must(OpenWriter(dir))(t)
	defer s.Close()
	got, _ := all(t, s, flow.AllTime, flow.AllColumns)
	if diff := gocmp.Diff(smalls(0, n), got, comparing); diff != "" {
		t.Error(diff)
	}
	if logs, _ := s.Sources(t.Context()); len(logs) != sources {
		t.Errorf("%d imported logs, want %d", len(logs), sources)
	}
}

// TestLostFilesAreRefusedAndRepaired removes files of a store. Nothing may take
// the store as empty, which would remove its segments.
func TestLostFilesAreRefusedAndRepaired(t *testing.T) {
	for _, c := range []struct {
		lost    []string
		sources int // known after the repair
	}{
		{[]string{catalogueName}, 1},
		{[]string{marker}, 1},
		{[]string{marker, catalogueName}, 1},
		{[]string{catalogueName, copyName}, 0},
		{[]string{marker, catalogueName, copyName}, 0},
	} {
		t.Run(strings.Join(c.lost, ","), func(t *testing.T) {
			dir := withSource(t)
			remove(t, dir, c.lost...)
			if found, err := Check(t.Context(), dir, nil); err != nil || len(found) != 1 || !strings.Contains(found[0].Advice, "store repair") {
				t.Errorf("check: %v, %v", found, err)
			}
			if _, err := Open(dir); err == nil || !strings.Contains(err.Error()+hint.Of(err), "store repair") {
				t.Errorf("opened for reading: %v", err)
			}
			if _, err := OpenWriter(dir); err == nil || !strings.Contains(err.Error()+hint.Of(err), "store repair") {
				t.Errorf("opened for writing: %v", err)
			}
			repaired, err := Repair(t.Context(), dir, nil)
			if err != nil || len(repaired) == 0 {
				t.Fatalf("repair: %v, %v", repaired, err)
			}
			wantWhole(t, dir, 500, c.sources)
			if repaired, err := Repair(t.Context(), dir, nil); err != nil || len(repaired) > 0 {
				t.Errorf("a second repair: %v, %v", repaired, err)
			}
		})
	}
}

func TestALostCopyIsNamedAndWrittenAgain(t *testing.T) {
	for _, how := range []string{"repair", "writer"} {
		dir := withSource(t)
		remove(t, dir, copyName)
		if found, err := Check(t.Context(), dir, nil); err != nil || len(found) != 1 || !strings.HasSuffix(found[0].File, copyName) {
			t.Errorf("%v, %v", found, err)
		}
		if how == "repair" {
			if repaired, err := Repair(t.Context(), dir, nil); err != nil || len(repaired) != 1 {
				t.Errorf("%v, %v", repaired, err)
			}
		}
		must(OpenWriter(dir))(t).Close()
		wantWhole(t, dir, 500, 1)
	}
}

// TestNoFlippedBitIsMissed flips each bit of the catalogue and of its copy. Check
// names the file, no writer takes the damaged one, and repair loses nothing.
func TestNoFlippedBitIsMissed(t *testing.T) {
	dir := withSource(t)
	for _, name := range []string{catalogueName, copyName} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if testkit.Short(t) {
			step = 7
		}
		for bit := 0; bit < 8*len(whole); bit += step {
			b := append([]byte(nil), whole...)
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := parseCatalogue(b); err == nil {
				t.Fatalf("%s: bit %d of byte %d, %q: no error", name, bit%8, bit/8, b)
			}
		}
		for _, bit := range []int{8*12 + 0, 8 * len(whole) / 2, 8*len(whole) - 1} {
			b := append([]byte(nil), whole...)
			b[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, b, 0o640); err != nil {
				t.Fatal(err)
			}
			if found, err := Check(t.Context(), dir, nil); err != nil || len(found) != 1 || found[0].File != path {
				t.Fatalf("%s, bit %d: %v, %v", name, bit, found, err)
			}
			if repaired, err := Repair(t.Context(), dir, nil); err != nil || len(repaired) != 1 || repaired[0].File != path {
				t.Fatalf("%s, bit %d: %v, %v", name, bit, repaired, err)
			}
			wantWhole(t, dir, 500, 1)
		}
	}
}

// TestAnOldCatalogueIsRefused puts an older catalogue back, as a careless restore
// does: a writer would remove the segments that it does not list.
func TestAnOldCatalogueIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	stored(t, dir, smalls(0, 100)).Close()
	old := must(os.ReadFile(filepath.Join(dir, catalogueName)))(t)
	stored(t, dir, smalls(100, 200), smalls(200, 300)).Close()
	if err := os.WriteFile(filepath.Join(dir, catalogueName), old, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWriter(dir); err == nil {
		t.Fatal("opened for writing")
	}
	if found, err := Check(t.Context(), dir, nil); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := Repair(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, dir, 300, 0)
}

// TestARebuiltCatalogueSetsDamageAside rebuilds from segments of which one is
// damaged: it is kept, and not counted.
func TestARebuiltCatalogueSetsDamageAside(t *testing.T) {
	dir := withSource(t)
	remove(t, dir, catalogueName, copyName)
	path := filepath.Join(dir, "segments", "000000000002.seg")
	b := must(os.ReadFile(path))(t)
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
	repaired, err := Repair(t.Context(), dir, nil)
	if err != nil || len(repaired) != 2 || repaired[0].File != path {
		t.Fatalf("%v, %v", repaired, err)
	}
	wantWhole(t, dir, 400, 0)
	if _, err := os.Stat(path + setAside); err != nil {
		t.Errorf("the damaged segment was removed: %v", err)
	}
}

func TestRepairLeavesOtherDirectoriesAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(t.Context(), dir, nil); err == nil {
		t.Error("repaired")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("it left %d entries", len(entries))
	}
	held := withSource(t)
	s := must(OpenWriter(held))(t)
	defer s.Close()
	if _, err := Repair(t.Context(), held, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a directory in use: %v", err)
	}
}

// converting names the directory that TestMain's child converts.
const converting = "DRAGNET_CONVERT_TEST"

func TestMain(m *testing.M) {
	if dir := os.Getenv(converting); dir != "" {
		runtime.LockOSThread() // strace counts the calls of each thread separately
		s, err := OpenWriter(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		s.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestFormatOneIsConvertedWhereverItIsKilled converts a directory of format 1 in a
// process that is killed at its n-th system call that changes a file, for each n
// until one is not reached. Afterwards nothing is lost, and it is of format 2.
func TestFormatOneIsConvertedWhereverItIsKilled(t *testing.T) {
	exe := must(os.Executable())(t)
	strace := testkit.Tool(t, "strace")
	for _, call := range []string{"write", "fchmod", "fsync", "renameat"} {
		killed := 0
		for n := 1; ; n++ {
			dir := filepath.Join(t.TempDir(), "d")
			if err := os.CopyFS(dir, os.DirFS("testdata/format1")); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(strace, "-f", "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), exe)
			cmd.Env = append(os.Environ(), converting+"="+dir)
			out, err := cmd.CombinedOutput()
			if err == nil {
				break
			}
			if len(out) > 0 {
				t.Fatalf("%s %d: %v: %s", call, n, err, out)
			}
			if killed++; killed > 100 {
				t.Fatalf("%s: killed %d times and never done", call, killed)
			}
			if found, err := Check(t.Context(), dir, nil); err != nil || len(found) > 0 {
				t.Errorf("killed at %s %d: %v, %v", call, n, found, err)
			}
			wantWhole(t, dir, 100, 0)
			if v := version(t, dir); v != formatVersion {
				t.Errorf("killed at %s %d: afterwards it has format %d", call, n, v)
			}
		}
		if killed < 2 {
			t.Errorf("%s: the conversion was killed %d times", call, killed)
		}
	}
}

func version(t *testing.T, dir string) int {
	t.Helper()
	var file catalogueFile
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(dir, catalogueName)))(t), &file); err != nil {
		t.Fatal(err)
	}
	return file.Version
}

// TestLogsAreForgottenWithTheirFlows: a log whose flows were removed and whose
// file is gone leaves the catalogue.
func TestLogsAreForgottenWithTheirFlows(t *testing.T) {
	dir := t.TempDir()
	existing := filepath.Join(dir, "conn.log")
	if err := os.WriteFile(existing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := stored(t, filepath.Join(dir, "d"), smalls(0, 100), smalls(100000, 100010))
	defer s.Close()
	kept := smalls(100000, 100001)[0].Start
	w := must(s.NewWriter(testEpoch))(t)
	defer w.Close()
	if err := w.Commit(
		store.ImportedLog{ID: "gone", Head: "00", Name: filepath.Join(dir, "old.log"), Imported: kept - 1},
		store.ImportedLog{ID: "exists", Head: "00", Name: existing, Imported: kept - 1},
		store.ImportedLog{ID: "recent", Head: "00", Name: filepath.Join(dir, "new.log"), Imported: kept + 1},
	); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Prune(context.Background(), store.Keep{Age: time.Hour}, time.Now()); err != nil {
		t.Fatal(err)
	}
	logs, _ := s.Sources(t.Context())
	if len(logs) != 2 || logs[0].ID != "exists" || logs[1].ID != "recent" {
		t.Errorf("left: %v", logs)
	}
}

func FuzzCatalogue(f *testing.F) {
	b, err := (&catalogue{Commit: 3, Next: 2, Segments: []Segment{{Number: 1, Flows: 5}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"next":1,"segments":[],"sources":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCatalogue(b)
		if err != nil || c.version == 1 {
			return
		}
		if again, err := c.encode(); err != nil || string(again) != string(b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}
