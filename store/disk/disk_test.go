package disk

import (
	"cmp"
	"context"
	"flag"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/store"
)

var update = flag.Bool("update", false, "write testdata/format1, only for a new format")

const testEpoch = "2026-11-22"

// drawFlow makes any flow that can be stored; few addresses and ports, so that
// keys meet.
func drawFlow(t *rapid.T) flow.Flow {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		n := byte(rapid.IntRange(1, 6).Draw(t, "host"))
		if rapid.IntRange(0, 3).Draw(t, "version") == 0 {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 8: n, 12: n, 15: n})
		}
		return netip.AddrFrom4([4]byte{198, 51, 100, n})
	})
	number := rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64())
	f := flow.Flow{
		Start:    flow.Time(rapid.OneOf(rapid.Int64Range(0, 1e12), rapid.Just[int64](math.MinInt64), rapid.Just[int64](math.MaxInt64)).Draw(t, "start")),
		Duration: time.Duration(rapid.OneOf(rapid.Int64Range(0, 1e6), rapid.Just[int64](3_000_000)).Draw(t, "duration")),
		Orig:     addr.Draw(t, "orig"), Resp: addr.Draw(t, "resp"),
		OrigPort: rapid.Uint16Range(0, 3).Draw(t, "sport"), RespPort: rapid.SampledFrom([]uint16{22, 69, 65535}).Draw(t, "dport"),
		Proto: rapid.SampledFrom([]flow.Proto{flow.TCP, flow.UDP, 255}).Draw(t, "proto"), State: rapid.SampledFrom([]flow.State{flow.SF, flow.S0, flow.OTH}).Draw(t, "state"),
		OrigFlags: flow.TCPFlags(rapid.Uint8().Draw(t, "flags")), RespFlags: flow.TCPFlags(rapid.Uint8().Draw(t, "flags")),
		ICMPError: rapid.SampledFrom([]uint16{0, 0x0301}).Draw(t, "icmp"), Known: flow.Columns(rapid.Uint16Range(0, uint16(flow.AllColumns)).Draw(t, "known")),
		Sampling: rapid.SampledFrom([]uint32{0, 1, 1000}).Draw(t, "sampling"), Domain: rapid.Uint32().Draw(t, "domain"),
		OrigISN: rapid.Uint32().Draw(t, "isn"), RespISN: rapid.Uint32().Draw(t, "isn"),
		History:   rapid.SampledFrom([]string{"", "S", "ShADadFf", "^hA"}).Draw(t, "history"),
		OrigBytes: number.Draw(t, "n"), RespBytes: number.Draw(t, "n"), OrigPkts: number.Draw(t, "n"), RespPkts: number.Draw(t, "n"),
		OrigIPBytes: number.Draw(t, "n"), RespIPBytes: number.Draw(t, "n"), MissedBytes: number.Draw(t, "n"),
	}
	if rapid.Bool().Draw(t, "exporter") {
		f.Exporter = addr.Draw(t, "exporter")
	}
	return f
}

func compareFlows(a, b flow.Flow) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.OrigISN, b.OrigISN), cmp.Compare(a.RespISN, b.RespISN), cmp.Compare(a.Domain, b.Domain))
}

var comparing = cmpopts.EquateComparable(netip.Addr{})

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// stored makes a data directory with one commit for each batch.
func stored(t testing.TB, dir string, batches ...[]flow.Flow) *Store {
	t.Helper()
	s := must(OpenWriter(dir))(t)
	w := must(s.NewWriter(testEpoch))(t)
	for _, b := range batches {
		if err := w.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// all reads everything, sorted.
func all(t testing.TB, s *Store, w flow.Window, cols flow.Columns) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	var mu sync.Mutex
	var got []flow.Flow
	cov, err := s.Scan(context.Background(), w, cols, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, batch...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, compareFlows)
	return got, cov
}

// small is a flow like many others, told apart by n.
func small(n int) flow.Flow {
	return flow.Flow{
		Start: flow.Time(n) * flow.Time(time.Second), OrigISN: uint32(n), Proto: flow.TCP, State: flow.SF, RespPort: 22,
		Orig: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), Resp: netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), Known: flow.ISNs,
	}
}

func smalls(from, to int) (out []flow.Flow) {
	for n := from; n < to; n++ {
		out = append(out, small(n))
	}
	return out
}

func TestWhatGoesInComesOut(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		flows := rapid.SliceOfN(rapid.Custom(drawFlow), 1, 60).Draw(rt, "flows")
		cut := rapid.IntRange(0, len(flows)).Draw(rt, "cut")
		path := filepath.Join(dir, t.Name(), string(rune('a'+runs%26)), time.Duration(runs).String())
		s := stored(t, path, flows[:cut], flows[cut:])
		s.Close()
		s = must(Open(path))(t)
		defer s.Close()
		slices.SortFunc(flows, compareFlows)
		got, cov := all(t, s, flow.AllTime, flow.AllColumns)
		if diff := gocmp.Diff(flows, got, comparing); diff != "" {
			rt.Fatalf("stored (-) and read (+) differ:\n%s", diff)
		}
		var want flow.Coverage
		want.Saw(flows)
		if diff := gocmp.Diff(want, cov); diff != "" {
			rt.Fatalf("coverage:\n%s", diff)
		}
		w := flow.Window{From: flow.Time(rapid.Int64Range(0, 1e12).Draw(rt, "from")), To: flow.Time(rapid.Int64Range(0, 1e12).Draw(rt, "to"))}
		inside := 0
		for i := range flows {
			if w.Contains(flows[i].Start) {
				inside++
			}
		}
		if got, _ := all(t, s, w, 0); len(got) != inside {
			rt.Fatalf("%d flows in the window, want %d", len(got), inside)
		}
		if found, err := Check(context.Background(), path, nil); err != nil || len(found) > 0 {
			rt.Fatal(found, err)
		}
	})
}

func drawMask(t *rapid.T) key.Mask {
	standard := key.Catalogue()
	if rapid.Bool().Draw(t, "standard") {
		return standard[rapid.IntRange(0, len(standard)-1).Draw(t, "number")].Mask
	}
	m := key.Mask{
		Family: rapid.SampledFrom([]key.AddressFamily{key.NoAddr, key.IPv4, key.IPv6}).Draw(t, "family"),
		SPort:  rapid.Bool().Draw(t, "sport"), DPort: rapid.Bool().Draw(t, "dport"), Proto: true,
	}
	if m.Family != key.NoAddr {
		m.Prefix = uint8(rapid.SampledFrom([]int{8, 24, m.Family.Bits()}).Draw(t, "prefix"))
	}
	return m
}

// TestLookupFindsWhatHashingEveryFlowFinds compares with the slow way, over
// every kind of mask and hash, with and without a run for the salt.
func TestLookupFindsWhatHashingEveryFlowFinds(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		flows := rapid.SliceOfN(rapid.Custom(drawFlow), 1, 80).Draw(rt, "flows")
		s := stored(t, filepath.Join(dir, time.Duration(runs).String()), flows[:len(flows)/2], flows[len(flows)/2:])
		defer s.Close()
		m := drawMask(rt)
		end := rapid.SampledFrom([]key.End{key.In, key.Out}).Draw(rt, "end")
		h := rapid.SampledFrom([]key.Hash{{Kind: key.Linear, Bits: 2}, {Kind: key.Linear, Bits: 19}, {Kind: key.Linear, Bits: 31}, {Kind: key.Product}, {Kind: key.ProductMod, Modulus: 7}}).Draw(rt, "hash")
		epoch := rapid.SampledFrom([]string{testEpoch, "2026-11-23"}).Draw(rt, "epoch")
		c := dossier.AskedClue{End: end, Mask: m, Salt: key.OneShotSalt(m, epoch), Standard: key.StandardID(end, m)}
		c.Bounds = rapid.SampledFrom([]pattern.Bounds{nil, {{Measure: pattern.Bytes, Least: 7}}, {{Measure: pattern.Duration, Most: 9}}}).Draw(rt, "bounds")
		keyer := must(key.NewKeyer(m, end, h, c.Salt))(t)
		asked := map[key.K]bool{}
		for range rapid.IntRange(1, 3).Draw(rt, "keys") {
			k, ok := keyer.Flow(&flows[rapid.IntRange(0, len(flows)-1).Draw(rt, "asked")])
			if !ok || asked[k] {
				continue
			}
			asked[k] = true
			c.Keys = append(c.Keys, dossier.AskedKey{K: k})
		}
		if len(c.Keys) == 0 {
			return
		}
		// Hosts that do not matter may be left out, and no others.
		var hosts map[netip.Addr]bool
		if rapid.Bool().Draw(rt, "among hosts") {
			hosts = map[netip.Addr]bool{}
			for range rapid.IntRange(0, 5).Draw(rt, "hosts") {
				hosts[end.X(&flows[rapid.IntRange(0, len(flows)-1).Draw(rt, "host")])] = true
			}
		}
		matters := func(f *flow.Flow) bool {
			k, ok := keyer.Flow(f)
			return ok && asked[k] && c.Bounds.Accept(f, end) && (hosts == nil || hosts[end.X(f)])
		}
		var want, got []flow.Flow
		for i := range flows {
			if matters(&flows[i]) {
				want = append(want, flows[i])
			}
		}
		var mu sync.Mutex
		cov, ok, err := s.LookupAmong(context.Background(), &c, h, flow.AllTime, hosts, func(batch []flow.Flow) error {
			mu.Lock()
			defer mu.Unlock()
			for i := range batch {
				if matters(&batch[i]) {
					got = append(got, batch[i])
				}
			}
			return nil
		})
		if err != nil || !ok || cov.Flows != uint64(len(flows)) || cov.Skipped > 0 {
			rt.Fatal(cov, ok, err)
		}
		short := func(f flow.Flow) [4]any { return [4]any{f.Start, f.Orig, f.Resp, f.RespPort} }
		if len(got) != len(want) {
			rt.Fatalf("%v %v: %d flows found, want %d", m, h, len(got), len(want))
		}
		count := map[[4]any]int{}
		for i := range want {
			count[short(want[i])]++
			count[short(got[i])]--
		}
		for f, n := range count {
			if n != 0 {
				rt.Fatalf("%v %v: %v is off by %d", m, h, f, n)
			}
		}
	})
}

func TestSmallSegmentsBecomeLargeOnes(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	var batches [][]flow.Flow
	const commits, each = 200, 50
	for i := range commits {
		batches = append(batches, smalls(i*each, (i+1)*each))
	}
	dir := t.TempDir()
	s := stored(t, filepath.Join(dir, "d"), batches...)
	defer s.Close()
	if n := len(s.Segments()); n > 3*mergeWidth {
		t.Errorf("%d segments after %d small commits", n, commits)
	}
	got, _ := all(t, s, flow.AllTime, flow.AllColumns)
	if diff := gocmp.Diff(smalls(0, commits*each), got, comparing); diff != "" {
		t.Error(diff)
	}
	files, err := os.ReadDir(filepath.Join(s.Dir(), "segments"))
	if err != nil || len(files) != 2*len(s.Segments()) {
		t.Errorf("%d files for %d segments: %v", len(files), len(s.Segments()), err)
	}
}

func TestFullSegments(t *testing.T) {
	s := stored(t, filepath.Join(t.TempDir(), "d"), smalls(0, segmentRows+blockRows+1))
	defer s.Close()
	got, _ := all(t, s, flow.AllTime, flow.AllColumns)
	if len(s.Segments()) != 2 || len(got) != segmentRows+blockRows+1 || gocmp.Diff(small(segmentRows), got[segmentRows], comparing) != "" {
		t.Errorf("%d segments, %d flows", len(s.Segments()), len(got))
	}
}

func TestRotateMovesEveryRunToTheNewEpoch(t *testing.T) {
	s := stored(t, filepath.Join(t.TempDir(), "d"), smalls(0, 3000), smalls(3000, 3010))
	defer s.Close()
	w := must(s.NewWriter(testEpoch))(t)
	hashed := 0
	var mu sync.Mutex
	err := w.Reindex(context.Background(), "2026-11-23", false, func(n int) { mu.Lock(); hashed += n; mu.Unlock() })
	if err != nil || hashed != 3010 {
		t.Fatal(hashed, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, g := range s.Segments() {
		if g.Epoch != "2026-11-23" || g.RunBytes == 0 {
			t.Errorf("segment %d is of epoch %q", g.Number, g.Epoch)
		}
	}
	files, _ := filepath.Glob(filepath.Join(s.Dir(), "segments", "*.run"))
	if len(files) != 2 || !strings.HasSuffix(files[0], ".2026-11-23.run") {
		t.Errorf("runs: %v", files)
	}
	if found, err := Check(context.Background(), s.Dir(), nil); err != nil || len(found) > 0 {
		t.Errorf("checked beside a writer: %v, %v", found, err)
	}
}

func TestOneWriterAndManyReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := stored(t, dir, smalls(0, 5), smalls(100000, 100005))
	if _, err := OpenWriter(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two writers: %v", err)
	}
	a, b := must(Open(dir))(t), must(Open(dir))(t)
	defer b.Close()
	if _, err := a.NewWriter(testEpoch); err == nil {
		t.Error("wrote to what is open for reading")
	}
	w := must(s.NewWriter(testEpoch))(t)
	if removed, err := w.Prune(t.Context(), store.Keep{Age: time.Hour}, time.Now()); err != nil || len(removed) != 1 {
		t.Fatal(removed, err)
	}
	// They opened the directory before, and read all of what it was then.
	for _, reader := range []*Store{a, b} {
		if got, cov := all(t, reader, flow.AllTime, flow.AllColumns); len(got) != 10 || cov.Skipped > 0 {
			t.Errorf("a reader found %d flows, %v", len(got), cov)
		}
	}
	a.Close()
	w.Close()
	s.Close()
	if s, err := OpenWriter(dir); err != nil {
		t.Error(err)
	} else {
		s.Close()
	}
	if got, _ := all(t, b, flow.AllTime, flow.AllColumns); len(got) != 10 {
		t.Errorf("after another writer came, a reader found %d flows", len(got))
	}
	b.Close()
	must(OpenWriter(dir))(t).Close()
	if files, _ := os.ReadDir(filepath.Join(dir, "segments")); len(files) != 2 {
		t.Errorf("%d files are left", len(files))
	}
}

func TestADirectoryWithOtherFilesIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWriter(dir); err == nil || !strings.Contains(err.Error(), "letter") {
		t.Errorf("%v", err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("opened")
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	stored(t, dir, smalls(0, 5)).Close()
	if err := os.WriteFile(filepath.Join(dir, "catalogue.json"), []byte(`{"version":3,"shards":[]}`), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "format 3") {
		t.Errorf("%v", err)
	}
}

// TestFormatOneStaysReadable reads a directory written when the format was
// made; testdata/format1 is smalls(0, 100) in two commits.
func TestFormatOneStaysReadable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if *update {
		stored(t, "testdata/format1", smalls(0, 60), smalls(60, 100)).Close()
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/format1")); err != nil {
		t.Fatal(err)
	}
	s := must(Open(dir))(t)
	defer s.Close()
	got, _ := all(t, s, flow.AllTime, flow.AllColumns)
	if diff := gocmp.Diff(smalls(0, 100), got, comparing); diff != "" {
		t.Error(diff)
	}
	if found, err := Check(context.Background(), dir, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}

func TestBackupIsWhole(t *testing.T) {
	dir := t.TempDir()
	s := stored(t, filepath.Join(dir, "d"), smalls(0, 5000), smalls(5000, 5100))
	defer s.Close()
	to := filepath.Join(dir, "copy")
	if err := s.Backup(context.Background(), to, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(context.Background(), to, nil); err == nil {
		t.Error("a backup was overwritten")
	}
	if found, err := Check(context.Background(), to, nil); err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
	c := must(Open(to))(t)
	defer c.Close()
	got, _ := all(t, c, flow.AllTime, flow.AllColumns)
	if diff := gocmp.Diff(smalls(0, 5100), got, comparing); diff != "" {
		t.Error(diff)
	}
}

func TestWhatRetentionRemoves(t *testing.T) {
	day := flow.Time(24 * time.Hour)
	segments := []Segment{
		{Number: 1, From: 0, To: 1 * day, Bytes: 10},
		{Number: 2, From: 9 * day, To: 10 * day, Bytes: 10},
		{Number: 3, From: 39 * day, To: 40 * day, Bytes: 10},
	}
	at := func(d flow.Time) flow.Time { return d * day }
	for _, c := range []struct {
		name string
		keep store.Keep
		now  flow.Time
		want []uint64
	}{
		{"nothing", store.Keep{}, at(1000), nil},
		{"by age", store.Keep{Age: 30 * 24 * time.Hour}, at(40), []uint64{1}},
		{"clock far ahead", store.Keep{Age: 30 * 24 * time.Hour}, at(40000), []uint64{1}},
		{"clock behind", store.Keep{Age: 30 * 24 * time.Hour}, at(20), nil},
		{"by size", store.Keep{Bytes: 20}, at(40), []uint64{1}},
		{"by size, all", store.Keep{Bytes: 5}, at(40), []uint64{1, 2, 3}},
		{"by both", store.Keep{Age: 35 * 24 * time.Hour, Bytes: 10}, at(40), []uint64{1, 2}},
	} {
		gone := chooseRemoved(segments, c.keep, c.now)
		var got []uint64
		for n := range gone {
			got = append(got, n)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: segments %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPruneRemovesFiles(t *testing.T) {
	s := stored(t, filepath.Join(t.TempDir(), "d"), smalls(0, 100), smalls(100000, 100010))
	defer s.Close()
	w := must(s.NewWriter(testEpoch))(t)
	defer w.Close()
	removed, err := w.Prune(t.Context(), store.Keep{Age: time.Hour}, time.Now())
	if err != nil || len(removed) != 1 || removed[0].Flows != 100 {
		t.Fatalf("%v, %v", removed, err)
	}
	if got, _ := all(t, s, flow.AllTime, 0); len(got) != 10 {
		t.Errorf("%d flows are left", len(got))
	}
	if files, _ := os.ReadDir(filepath.Join(s.Dir(), "segments")); len(files) != 2 {
		t.Errorf("%d files are left", len(files))
	}
}
