package clickhouse

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"dragnet/detect/failures"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/store"
)

// masks are those of the catalogue, prefixes that cut halves and limbs, and
// some without an address.
func masks() []key.Mask {
	all := []key.Mask{
		{SPort: true}, {DPort: true, Proto: true}, {Family: key.IPv4, Prefix: 17, SPort: true, DPort: true, Proto: true},
		{Family: key.IPv4, Prefix: 1}, {Family: key.IPv6, Prefix: 64, DPort: true}, {Family: key.IPv6, Prefix: 23, Proto: true},
		{Family: key.IPv6, Prefix: 101, SPort: true, DPort: true, Proto: true},
	}
	for _, s := range key.Catalogue() {
		if s.End == key.In {
			all = append(all, s.Mask)
		}
	}
	return all
}

var someStates = []pattern.StateFilter{pattern.AnyState, pattern.Established, pattern.Failed, pattern.InState(flow.SF) | pattern.InState(flow.REJ), pattern.Failed | pattern.InState(flow.S1)}

// checkLookupFindsWhatKeysSay: over masks, ends, hashes and states, the server
// finds the flows that key.Keyer does.
func checkLookupFindsWhatKeysSay(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	flows := someFlows(5, 1500)
	add(t, w, flows)
	hashes := []key.Hash{{Kind: key.Linear, Bits: 31}, {Kind: key.Linear, Bits: 5}, {Kind: key.Product}, {Kind: key.ProductMod, Modulus: 65521}, {Kind: key.ProductMod, Modulus: 1 << 56}}
	found := 0
	for i, m := range masks() {
		for _, end := range []key.End{key.In, key.Out} {
			for _, h := range hashes {
				clue := &dossier.AskedClue{End: end, Mask: m, State: someStates[i%len(someStates)], Salt: key.Salt{byte(i), 5}}
				found += lookup(t, w.Store, flows, clue, h)
			}
		}
	}
	if found < 10_000 {
		t.Errorf("%d flows were found in all: too few to say anything", found)
	}
	clue := &dossier.AskedClue{Mask: key.Mask{Proto: true}, Keys: []dossier.AskedKey{{K: 1}}}
	if _, ok, err := w.Lookup(context.Background(), clue, key.Hash{Kind: key.ProductMod, Modulus: 1<<56 + 1}, flow.AllTime, nil); ok || err != nil {
		t.Errorf("a modulus beyond SQL's integers: %v, %v", ok, err)
	}
}

// lookup asks for the keys of two of flows.
func lookup(t *testing.T, s *Store, flows []flow.Flow, clue *dossier.AskedClue, h key.Hash) int {
	t.Helper()
	keyer, err := key.NewKeyer(clue.Mask, clue.End, h, clue.Salt)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[key.K]bool{}
	for i := 10; len(wanted) < 2 && i < len(flows); i++ {
		if k, ok := keyer.Flow(&flows[i]); ok && !wanted[k] {
			wanted[k] = true
			clue.Keys = append(clue.Keys, dossier.AskedKey{K: k})
		}
	}
	window := flow.Window{From: 20000 * dayLength, To: 20002*dayLength + 5}
	var want, got []flow.Flow
	for _, f := range flows {
		if k, ok := keyer.Flow(&f); ok && wanted[k] && clue.State.Accepts(&f) && window.Contains(f.Start) {
			want = append(want, f)
		}
	}
	cov, ok, err := s.Lookup(context.Background(), clue, h, window, func(batch []flow.Flow) error {
		got = append(got, batch...)
		return nil
	})
	if err != nil || !ok || cov.Flows != uint64(len(flows)) {
		t.Fatalf("%v %v: coverage %d, %v, %v", clue.Mask, h, cov.Flows, ok, err)
	}
	names := func(flows []flow.Flow) (out []string) {
		for _, f := range flows {
			out = append(out, fmt.Sprint(f.Start, f.Orig, f.Resp, f.OrigPort, f.RespPort, f.Proto, f.State, f.ICMPError))
		}
		slices.Sort(out)
		return out
	}
	if diff := gocmp.Diff(names(want), names(got)); diff != "" {
		t.Errorf("%v %v %v %v: want (-) and found (+) differ:\n%s", clue.End, clue.Mask, h, clue.State, diff)
	}
	return len(got)
}

// checkTally: counts at the server are those of a loop over the flows.
func checkTally(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	flows := someFlows(6, 2000)
	add(t, w, flows)
	for _, text := range []string{"", "state=failed", "src=198.51.1.0/24 state=established", "host=2001:db8::/32 dport=22", "dst=2001:db8:0:1:8100::/72 proto=tcp", "host=198.51.0.2 sport=1", "state=S0,SF", "src=128.0.0.0/1"} {
		filter, err := pattern.ParseFilter(text, pattern.NoFiles)
		if err != nil {
			t.Fatal(err)
		}
		for by := range groupings {
			want, got := map[flow.Flow]store.Tally{}, map[flow.Flow]store.Tally{}
			for i := range flows {
				if filter.Matches(&flows[i]) {
					count(want, by, &flows[i])
				}
			}
			_, err := w.Tally(context.Background(), filter, flow.AllTime, by, func(v store.Tally) error {
				got[v.Flow] = v
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for g, v := range want {
				if g.Start != 0 {
					delete(want, g)
					v.Flow.Start = v.First
					want[v.Flow] = v
				}
			}
			if diff := gocmp.Diff(want, got, comparing); diff != "" {
				t.Errorf("%q by %d: counted here (-) and there (+) differ:\n%s", text, by, diff)
			}
		}
	}
}

// count is the slow twin of Tally.
func count(groups map[flow.Flow]store.Tally, by store.Grouping, f *flow.Flow) {
	var g flow.Flow
	switch by {
	case store.BySource:
		g.Orig = f.Orig
	case store.ByDestination:
		g.Resp = f.Resp
	case store.ByService:
		g.Proto, g.RespPort = f.Proto, f.RespPort
	case store.ByProto:
		g.Proto = f.Proto
	case store.ByState:
		g.State = f.State
	case store.ByHour:
		g.Start = beginning(f.Start, time.Hour)
	case store.ByDay:
		g.Start = beginning(f.Start, 24*time.Hour)
	}
	v, seen := groups[g]
	if !seen {
		v = store.Tally{Flow: g, First: f.Start, Last: f.Start}
	}
	v.Flows++
	if f.Established() {
		v.Established++
	}
	if f.Failed() {
		v.Failed++
	}
	if f.Known.Has(flow.Counts) {
		v.Bytes += f.OrigIPBytes + f.RespIPBytes
	} else {
		v.Bytes += f.OrigBytes + f.RespBytes
	}
	v.First, v.Last = min(v.First, f.Start), max(v.Last, f.Start)
	groups[g] = v
}

// beginning rounds down; before the first whole span of all time it wraps, as
// the numbers do.
func beginning(t flow.Time, span time.Duration) flow.Time {
	n := int64(t) / int64(span)
	if t < 0 && int64(t)%int64(span) != 0 {
		n--
	}
	return flow.Time(n * int64(span))
}

// checkFailingSources: the detector finds the same in the flows of the sources
// that the server names as in all flows.
func checkFailingSources(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	flows := someFlows(7, 6000)
	add(t, w, flows)
	c := failures.DefaultConfiguration()
	c.Remote, c.Local, c.Silence, c.Share, c.Alpha = 4, 9, 2, 0.1, 0.5
	span, least := c.Slice()
	sources, err := w.FailingSources(context.Background(), flow.AllTime, span, least, least)
	if err != nil {
		t.Fatal(err)
	}
	findings := func(scan func(fn func([]flow.Flow) error) error) []dossier.Finding {
		var read []flow.Flow
		if err := scan(func(batch []flow.Flow) error { read = append(read, batch...); return nil }); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(read, compareFlows)
		d := failures.New(c)
		d.Add(read)
		return d.Findings()
	}
	want := findings(func(fn func([]flow.Flow) error) error { return fn(slices.Clone(flows)) })
	got := findings(func(fn func([]flow.Flow) error) error {
		_, err := w.ScanFrom(context.Background(), sources, flow.AllTime, flow.AllColumns, fn)
		return err
	})
	if diff := gocmp.Diff(want, got, comparing); diff != "" || len(want) == 0 {
		t.Errorf("%d findings; in all flows (-) and in those of %d sources (+):\n%s", len(want), len(sources), diff)
	}
	none, err := w.FailingSources(context.Background(), flow.AllTime, c.Window, 1000, 1000)
	if err != nil || len(none) > 0 {
		t.Errorf("above all bounds: %v, %v", none, err)
	}
}

func checkActivity(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	flows := someFlows(8, 2000)
	add(t, w, flows)
	filter, err := pattern.ParseFilter("src=198.51.1.0/24", pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	const step = 10 * time.Minute
	want, got := map[string]uint64{}, map[string]uint64{}
	for i := range flows {
		if f := &flows[i]; filter.Matches(f) {
			want[fmt.Sprint(f.Orig, beginning(f.Start, step)/flow.Time(step))]++
		}
	}
	_, err = w.Activity(context.Background(), filter.Src, flow.AllTime, step, func(host netip.Addr, at int64, n uint64) error {
		got[fmt.Sprint(host, flow.Time(at))] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got); diff != "" || len(want) < 100 {
		t.Errorf("%d points; counted here (-) and there (+):\n%s", len(want), diff)
	}
}
