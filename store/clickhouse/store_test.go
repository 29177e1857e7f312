package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/store"
)

// someFlows makes flows of a few hosts and ports over three days, and some at
// the ends of time.
func someFlows(seed uint64, n int) []flow.Flow {
	rng := rand.New(rand.NewPCG(seed, 0))
	host := func() netip.Addr {
		a := byte(rng.IntN(6))
		if rng.IntN(4) == 0 {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: a, 8: 0x80 | a, 12: a, 15: a})
		}
		return netip.AddrFrom4([4]byte{198, 51, a & 1, a})
	}
	flows := make([]flow.Flow, n)
	for i := range flows {
		f := &flows[i]
		*f = flow.Flow{
			Start: flow.Time(rng.Int64N(3*int64(dayLength))) + 20000*dayLength, Duration: time.Duration(rng.Int64N(1e12)),
			Orig: host(), Resp: host(), OrigPort: uint16(rng.IntN(4)), RespPort: []uint16{0, 22, 69, 65535}[rng.IntN(4)],
			Proto: []flow.Proto{flow.TCP, flow.TCP, flow.UDP, 255}[rng.IntN(4)], State: flow.State(rng.IntN(14)),
			OrigFlags: flow.TCPFlags(rng.Uint32()), RespFlags: flow.TCPFlags(rng.Uint32()), ICMPError: []uint16{0, 0, 0, 0x0301}[rng.IntN(4)],
			Known: flow.Columns(rng.IntN(int(flow.AllColumns) + 1)), Sampling: []uint32{0, 1, 1000}[rng.IntN(3)], Domain: rng.Uint32(),
			OrigISN: rng.Uint32(), RespISN: rng.Uint32(), History: []string{"", "S", "ShADadFf", "^h\x00'\\"}[rng.IntN(4)],
			OrigBytes: rng.Uint64() >> rng.IntN(64), RespBytes: 1, OrigPkts: 2, RespPkts: rng.Uint64N(9), OrigIPBytes: rng.Uint64() >> rng.IntN(64), RespIPBytes: 3, MissedBytes: 4,
		}
		if rng.IntN(2) == 0 {
			f.Exporter = host()
		}
	}
	for i, t := range []flow.Time{flow.MinTime, -1, 0, flow.MaxTime, 70000 * dayLength} {
		if i < n {
			flows[i].Start = t
		}
	}
	return flows
}

func compareFlows(a, b flow.Flow) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.OrigISN, b.OrigISN), cmp.Compare(a.RespISN, b.RespISN), cmp.Compare(a.Domain, b.Domain))
}

var comparing = cmpopts.EquateComparable(netip.Addr{})

func openWriter(t testing.TB, address string) *Writer {
	t.Helper()
	w, err := OpenWriter(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func add(t testing.TB, w *Writer, flows []flow.Flow, sources ...store.ImportedLog) {
	t.Helper()
	if err := w.Append(context.Background(), flows); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(sources...); err != nil {
		t.Fatal(err)
	}
}

// all reads everything, sorted.
func all(t testing.TB, s *Store, w flow.Window, cols flow.Columns) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	var got []flow.Flow
	cov, err := s.Scan(context.Background(), w, cols, func(batch []flow.Flow) error {
		got = append(got, batch...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, compareFlows)
	return got, cov
}

func expect(flows []flow.Flow, w flow.Window) (want []flow.Flow) {
	for _, f := range flows {
		if w.Contains(f.Start) {
			want = append(want, f)
		}
	}
	slices.SortFunc(want, compareFlows)
	return want
}

// checks are the tests that run on every engine. Open opens the same store at
// each call.
var checks = map[string]func(t *testing.T, open func(*testing.T) *Writer){
	"flows come back": checkFlowsComeBack, "only commits count": checkOnlyCommitsCount, "many days": checkManyDays, "prune": checkPrune,
	"keys": checkLookupFindsWhatKeysSay, "tally": checkTally, "failing sources": checkFailingSources, "activity": checkActivity,
	"claims": checkClaims, "connections": checkConnectionsView,
}

// TestDebiansServer runs them over the native protocol.
func TestDebiansServer(t *testing.T) {
	server := testkit.StartClickHouse(t)
	n := 0
	for name, check := range checks {
		n++
		address := server.Address(fmt.Sprintf("check%d", n))
		t.Run(name, func(t *testing.T) {
			check(t, func(t *testing.T) *Writer { return openWriter(t, address) })
		})
	}
}

// checkFlowsComeBack: what is stored is read again in every field, in any window.
func checkFlowsComeBack(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	flows := someFlows(1, 3000)
	add(t, w, flows[:1000])
	add(t, w, flows[1000:], store.ImportedLog{ID: "a", Skipped: 7})
	var want flow.Coverage
	want.Saw(flows)
	want.Skipped = 7
	day := flow.Time(20001) * dayLength
	for _, window := range []flow.Window{flow.AllTime, {From: day, To: day + dayLength}, {From: day + 1e9, To: day + 77e9}, {From: -5, To: 5}, {From: flow.MaxTime - 1}, {From: flow.MinTime, To: -1}} {
		got, cov := all(t, w.Store, window, flow.AllColumns)
		if diff := gocmp.Diff(expect(flows, window), got, comparing); diff != "" {
			t.Errorf("%v: stored (-) and read (+) differ:\n%s", window, diff)
		}
		if diff := gocmp.Diff(want, cov); diff != "" {
			t.Errorf("coverage: %s", diff)
		}
	}
	few, _ := all(t, w.Store, flow.AllTime, flow.Failures)
	if len(few) != len(flows) {
		t.Fatalf("%d flows with few columns, want %d", len(few), len(flows))
	}
	for i := range few {
		if f := &few[i]; f.Known&^flow.Failures != 0 || f.Duration != 0 || !f.Orig.IsValid() {
			t.Fatalf("flow %d with few columns: %+v", i, f)
		}
	}
}

// checkOnlyCommitsCount: no reader sees what a writer has not committed, whatever
// others do meanwhile, and it is gone when the writer is.
func checkOnlyCommitsCount(t *testing.T, open func(*testing.T) *Writer) {
	a, b := open(t), open(t)
	flows := someFlows(2, 900)
	if err := a.Append(context.Background(), flows[:300]); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	err := a.flushBlock(context.Background()) // the rows are at the server
	a.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	add(t, b, flows[300:600])
	check := func(want []flow.Flow) {
		t.Helper()
		got, cov := all(t, b.Store, flow.AllTime, flow.AllColumns)
		if diff := gocmp.Diff(expect(want, flow.AllTime), got, comparing); diff != "" || cov.Flows != uint64(len(want)) {
			t.Fatalf("coverage %d, want %d; %s", cov.Flows, len(want), diff)
		}
	}
	check(flows[300:600])
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	check(flows[:600])
	if err := a.Append(context.Background(), flows[600:]); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	err = a.flushBlock(context.Background())
	a.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	add(t, open(t), nil, store.ImportedLog{ID: "x"})
	check(flows[:600])
	for i := range fewWriters {
		add(t, open(t), flows[600+i:][:1])
	}
	check(flows[:600+fewWriters])
}

// checkManyDays: a log over more days than a server takes in one block.
func checkManyDays(t *testing.T, open func(*testing.T) *Writer) {
	testkit.Long(t)
	w := open(t)
	flows := someFlows(3, maxPartitions+3)
	for i := range flows {
		flows[i].Start = flow.Time(10000+i) * dayLength
	}
	add(t, w, flows)
	if got, cov := all(t, w.Store, flow.AllTime, flow.AllColumns); len(got) != len(flows) || cov.Flows != uint64(len(flows)) {
		t.Errorf("%d flows and %d counted, want %d", len(got), cov.Flows, len(flows))
	}
}

func checkPrune(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	ctx := context.Background()
	at := func(days ...float64) (flows []flow.Flow) {
		for _, d := range days {
			f := someFlows(4, 6)[5]
			f.Start = flow.Time(d * float64(dayLength))
			flows = append(flows, f)
		}
		return flows
	}
	now := flow.Time(20010.5 * float64(dayLength)).Time()
	if removed, err := w.Prune(ctx, store.Keep{Age: time.Hour}, now); err != nil || len(removed) > 0 {
		t.Fatalf("of nothing: %v, %v", removed, err)
	}
	// The last claims to be of next year: it must not empty the store.
	add(t, w, at(20001.5, 20004.9, 20005.1, 20010.2, 20375))
	add(t, w, at(20001.6, 20010.3))
	removed, err := w.Prune(ctx, store.Keep{Age: 5 * 24 * time.Hour}, now)
	if err != nil {
		t.Fatal(err)
	}
	got, cov := all(t, w.Store, flow.AllTime, flow.AllColumns)
	if len(removed) != 2 || removed[0].Flows+removed[1].Flows != 3 || len(got) != 4 || cov.Flows != 4 {
		t.Errorf("removed %+v, left %d flows (%d counted), want 3 gone and 4 left", removed, len(got), cov.Flows)
	}
	if _, err := w.Prune(ctx, store.Keep{Bytes: 1}, now); err != nil {
		t.Fatal(err)
	}
	if got, cov := all(t, w.Store, flow.AllTime, flow.AllColumns); len(got) != 0 || cov.Flows != 0 {
		t.Errorf("%d flows left beyond the bound, %d counted", len(got), cov.Flows)
	}
	add(t, w, at(20001.5)) // an old log, imported for an investigation
	if got, cov := all(t, w.Store, flow.AllTime, flow.AllColumns); len(got) != 1 || cov.Flows != 1 {
		t.Errorf("after all was removed, one was added: %d, %d counted", len(got), cov.Flows)
	}
}

func TestBeyondIgnoresWhatNobodyCommitted(t *testing.T) {
	all := []partition{{day: 30000, bytes: 5}, {day: 20010, bytes: 5, held: store.Removed{Flows: 1, To: 20010 * dayLength}}, {day: 20000, bytes: 5}}
	gone := chooseRemoved(all, store.Keep{Age: 24 * time.Hour}, math.MaxInt64)
	if len(gone) != 1 || gone[0].day != 20000 {
		t.Errorf("gone %+v, want day 20000 only", gone)
	}
}

// TestADayOfTheFutureGoesFirst: what claims to be of another century does not push
// today's flows out.
func TestADayOfTheFutureGoesFirst(t *testing.T) {
	held := store.Removed{Flows: 1}
	all := []partition{{day: 60000, bytes: 5, held: held}, {day: 20010, bytes: 5, held: held}, {day: 20009, bytes: 5, held: held}}
	gone := chooseRemoved(all, store.Keep{Bytes: 10}, 20010*dayLength+5)
	if len(gone) != 1 || gone[0].day != 60000 {
		t.Errorf("gone %+v, want day 60000 only", gone)
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"clickhouse://u@h/db": "", "clickhouse://u:p@h:9000/db": "", "clickhouse://h": "names no database", "clickhouse://h/a-b": "names no database",
		"tcp://h:9000/db": "names no database", "clickhouse://u:sesame@h:x/db%": "clickhouse://u:...@h",
	} {
		err := Check(address)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("the password is told: %v", err)
		}
	}
	if o, db, err := parseAddress("clickhouse://[2001:db8::1]/flows"); err != nil || db != "flows" || o.Addr[0] != "[2001:db8::1]:9000" {
		t.Errorf("%+v %s %v", o, db, err)
	}
	if _, err := Open(context.Background(), testkit.StartClickHouse(t).Address("nothing")); err == nil || !strings.Contains(err.Error(), "flow import") {
		t.Errorf("a database that is not there: %v", err)
	}
}
