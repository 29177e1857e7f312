package disk

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
)

// TestDamageIsNamedAndTheRestReadable changes, cuts or removes one file at a
// time: Check must name it, and every other flow must still be read.
func TestDamageIsNamedAndTheRestReadable(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	stored(t, whole, smalls(0, 9000), smalls(9000, 9500)).Close()
	rng := rand.New(rand.NewPCG(3, 4))
	flip := func(b []byte) []byte { b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255)); return b }
	damages := map[string]func([]byte) []byte{
		"a byte changed": flip,
		"cut":            func(b []byte) []byte { return b[:rng.IntN(len(b))] },
		"longer":         func(b []byte) []byte { return append(b, 0) },
		"empty":          func([]byte) []byte { return nil },
	}
	for name, damage := range damages {
		rounds := 1
		if name == "a byte changed" {
			if rounds = 60; testkit.Short(t) {
				rounds = 10
			}
		}
		for range rounds {
			for file, kind := range map[string]string{"000000000001.seg": "seg", "000000000001.2026-11-22.run": "run"} {
				dir := filepath.Join(t.TempDir(), "d")
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, "segments", file)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(b), 0o640); err != nil {
					t.Fatal(err)
				}
				found, err := Check(context.Background(), dir, nil)
				if err != nil || len(found) != 1 || found[0].File != path {
					t.Fatalf("%s, %s: found %v, %v", file, name, found, err)
				}
				if damaged := found[0].Flows; (damaged == 9000) != (kind == "seg") {
					t.Errorf("%s, %s: %d flows lost", file, name, damaged)
				}
				readRest(t, dir, path, kind)
			}
		}
	}
}

// readRest wants the 500 flows of the sound segment, and all where only a run
// is damaged.
func readRest(t *testing.T, dir, path, kind string) {
	t.Helper()
	s := must(Open(dir))(t)
	defer s.Close()
	got, cov := all(t, s, flow.AllTime, flow.AllColumns)
	if kind == "run" && len(got) != 9500 || len(got) < 500 || len(got) < 9500 && (cov.Skipped == 0 || !strings.Contains(cov.Problems[0].Place, path)) {
		t.Errorf("%s: %d flows, %v", path, len(got), cov)
	}
	m := key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}
	h := key.Hash{Kind: key.Linear, Bits: 31}
	c := dossier.AskedClue{End: key.In, Mask: m, Standard: key.StandardID(key.In, m), Salt: key.OneShotSalt(m, testEpoch)}
	keyer := must(key.NewKeyer(m, key.In, h, c.Salt))(t)
	wanted := smalls(9499, 9500)[0]
	k, _ := keyer.Flow(&wanted)
	c.Keys = []dossier.AskedKey{{K: k}}
	found := false
	_, _, err := s.Lookup(context.Background(), &c, h, flow.AllTime, func(batch []flow.Flow) error {
		for _, f := range batch {
			found = found || f.Orig == wanted.Orig
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("%s: the flow of a sound segment was not found: %v", path, err)
	}
}

func TestADamagedCatalogueIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	stored(t, dir, smalls(0, 5)).Close()
	path := filepath.Join(dir, "catalogue.json")
	for _, text := range []string{"", "{", "{}", `{"version":1,"next":1,"segments":[{"number":5,"flows":3}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		found, err := Check(context.Background(), dir, nil)
		if err != nil || len(found) != 1 || found[0].File != path {
			t.Errorf("%q: %v, %v", text, found, err)
		}
		if _, err := OpenWriter(dir); err == nil {
			t.Errorf("%q was opened for writing", text)
		}
	}
}

// TestDebrisOfACrashGoes leaves what a crash may leave.
func TestDebrisOfACrashGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	stored(t, dir, smalls(0, 5)).Close()
	debris := []string{"segments/000000000099.seg", "segments/.000000000100.seg.1234", "segments/000000000001.2027-01-01.run", ".catalogue.json.77"}
	for _, name := range debris {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := Check(context.Background(), dir, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	s := must(OpenWriter(dir))(t)
	defer s.Close()
	for _, name := range debris {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if got, _ := all(t, s, flow.AllTime, 0); len(got) != 5 {
		t.Errorf("%d flows", len(got))
	}
}

// TestFullDisk fills a small file system: what was committed stays, the error
// says so, and with room again writing goes on.
func TestFullDisk(t *testing.T) {
	testkit.Root(t)
	disk := t.TempDir()
	if err := syscall.Mount("dragnet-test", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	defer syscall.Unmount(disk, syscall.MNT_DETACH)
	dir := filepath.Join(disk, "d")
	s := must(OpenWriter(dir))(t)
	committed := 0
	var full error
	for full == nil && committed < 1<<20 {
		w := must(s.NewWriter(testEpoch))(t)
		if full = w.Append(context.Background(), smalls(committed, committed+10000)); full == nil {
			full = w.Commit()
		}
		if full == nil {
			committed += 10000
		}
		w.Close()
	}
	if full == nil || !strings.Contains(full.Error(), "no space left") || committed == 0 {
		t.Fatalf("%d flows, %v", committed, full)
	}
	s.Close()
	if found, err := Check(context.Background(), dir, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	s = stored(t, dir, smalls(committed, committed+10000))
	defer s.Close()
	got, _ := all(t, s, flow.AllTime, 0)
	// A commit that failed when the catalogue was written may still have been
	// done; here it cannot, since the segment comes first and is larger.
	if len(got) != committed+10000 {
		t.Errorf("%d flows, want %d", len(got), committed+10000)
	}
}

// seeds are a segment and a run of a few flows.
func seeds(f *testing.F) (segment, run []byte) {
	b, x := must(newBuilder())(f), must(newIndexer(testEpoch))(f)
	t := newTable(100)
	t.addFlows(smalls(0, 100))
	return b.buildSegment(t, x.addBlock), x.finishRun()
}

func FuzzSegment(f *testing.F) {
	segment, _ := seeds(f)
	f.Add(segment)
	f.Add(segment[:len(segment)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		foot, err := readFooter(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		readAnyway(t, b, foot)
	})
}

// FuzzBlocks goes on where a right checksum would let it: the sums are made to
// fit.
func FuzzBlocks(f *testing.F) {
	segment, _ := seeds(f)
	foot, err := readFooter(bytes.NewReader(segment), int64(len(segment)))
	if err != nil {
		f.Fatal(err)
	}
	k := foot.blocks[0]
	part := func(e extent) []byte { return segment[e.offset:][:e.length] }
	f.Add(part(k.keys), part(k.common), part(k.detail), part(foot.dictionary), uint16(100))
	f.Fuzz(func(t *testing.T, keys, common, detail, dictionary []byte, rows uint16) {
		if rows == 0 || rows > blockRows {
			return
		}
		var all []byte
		place := func(b []byte) (e extent) {
			all, e = appendPart(all, func(dst []byte) []byte { return append(dst, b...) })
			return e
		}
		readAnyway(t, all, &footer{rows: int(rows), blocks: []block{{keys: place(keys), common: place(common), detail: place(detail)}}, dictionary: place(dictionary)})
	})
}

func readAnyway(t *testing.T, b []byte, foot *footer) {
	r := must(newBlockReader())(t)
	defer r.dec.zstd.Close()
	r.openSegment(bytes.NewReader(b), foot)
	for i := range foot.blocks {
		if r.readBlock(i, flow.AllColumns) == nil {
			if n := len(r.rows.appendFlows(nil, flow.AllTime)); n != foot.rowsOf(i) {
				t.Errorf("%d flows of %d", n, foot.rowsOf(i))
			}
		}
	}
}

func FuzzRun(f *testing.F) {
	_, run := seeds(f)
	f.Add(run, uint32(77), uint8(19))
	f.Fuzz(func(t *testing.T, b []byte, k uint32, size uint8) {
		r, err := readRun(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		var blocks [segmentRows / blockRows]bool
		for id := range r.sections {
			r.findBlocks(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), id, key.K(k), 1+int(size)%31, &blocks)
		}
	})
}
