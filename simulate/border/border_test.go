package border

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/flow"
)

func day(t testing.TB, change func(*Configuration)) []flow.Flow {
	t.Helper()
	c := DefaultConfiguration()
	c.Connections, c.WebServers, c.NameServers, c.MailServers = 20_000, 2000, 1000, 300
	if change != nil {
		change(&c)
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var all []flow.Flow
	cov, err := l.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(b []flow.Flow) error {
		all = append(all, b...)
		return nil
	})
	if err != nil || cov.Flows != uint64(len(all)) || len(all) != c.Connections {
		t.Fatalf("%d connections, coverage %d, %v; want %d", len(all), cov.Flows, err, c.Connections)
	}
	return all
}

var sameAddr = cmpopts.EquateComparable(netip.Addr{})

func TestOneSeedOneDay(t *testing.T) {
	first := day(t, nil)
	if d := cmp.Diff(first, day(t, nil), sameAddr); d != "" {
		t.Errorf("two readings differ:\n%s", d)
	}
	other := day(t, func(c *Configuration) { c.Seed = 2 })
	same := 0
	for i := range first {
		if first[i].Resp == other[i].Resp {
			same++
		}
	}
	if same > len(first)/10 {
		t.Errorf("seeds 1 and 2 agree on %d of %d destinations", same, len(first))
	}
}

func TestTimesFillTheDayInOrder(t *testing.T) {
	flows := day(t, nil)
	if !slices.IsSortedFunc(flows, func(a, b flow.Flow) int { return int(a.Start - b.Start) }) {
		t.Error("not in order of time")
	}
	c := DefaultConfiguration()
	if first := flows[0].Start.Time(); !first.Equal(c.Start) {
		t.Errorf("starts %v, want %v", first, c.Start)
	}
	if left := c.Start.Add(c.Duration).Sub(flows[len(flows)-1].Start.Time()); left <= 0 || left > time.Minute {
		t.Errorf("the last connection is %v before the end of the day", left)
	}
}

// TestSharesAreKept distinguishes kinds by who is inside.
func TestSharesAreKept(t *testing.T) {
	c := DefaultConfiguration()
	s := c.Shares
	inbound := 0
	for _, f := range day(t, nil) {
		orig, resp := c.Site.Contains(f.Orig), c.Site.Contains(f.Resp)
		if orig == resp {
			t.Fatalf("%v -> %v does not cross the border", f.Orig, f.Resp)
		}
		if resp {
			inbound++
		}
	}
	got, want := float64(inbound)/20_000, (s.Scanned+s.Backscatter+s.Served)/s.sumShares()
	if math.Abs(got-want) > 5*math.Sqrt(want*(1-want)/20_000) {
		t.Errorf("%.3f of connections come in, want %.3f", got, want)
	}
}

func TestScansSweepTheSite(t *testing.T) {
	flows := day(t, func(c *Configuration) {
		c.Shares = Shares{Scanned: 1}
		c.Site = netip.MustParsePrefix("198.18.0.0/28")
	})
	probed := map[netip.Addr]map[netip.Addr]bool{}
	for _, f := range flows {
		if probed[f.Orig] == nil {
			probed[f.Orig] = map[netip.Addr]bool{}
		}
		probed[f.Orig][f.Resp] = true
	}
	whole := 0
	for _, hosts := range probed {
		if len(hosts) == 16 {
			whole++
		}
	}
	if len(probed) < 1000 || whole < len(probed)-scanners {
		t.Errorf("%d of %d scanners probed every address; only the %d at work in the end may not have", whole, len(probed), scanners)
	}
}

func TestZipfFallsWithRank(t *testing.T) {
	g := newGenerator(DefaultConfiguration())
	p := zipfWeights(100, 1)
	count := make([]float64, 100)
	const n = 200_000
	for range n {
		count[p.drawRank(g.rng)]++
	}
	harmonic := 0.0
	for i := range count {
		harmonic += 1 / float64(i+1)
	}
	for i, got := range count {
		want := n / (float64(i+1) * harmonic)
		if math.Abs(got-want) > 6*math.Sqrt(want) {
			t.Errorf("rank %d was drawn %.0f times, want %.0f", i+1, got, want)
		}
	}
}

func TestWindowCutsTheDay(t *testing.T) {
	c := DefaultConfiguration()
	c.Connections = 2400
	l, _ := New(c)
	w := flow.Window{From: flow.FromTime(c.Start.Add(6 * time.Hour)), To: flow.FromTime(c.Start.Add(12 * time.Hour))}
	n := 0
	if _, err := l.Scan(context.Background(), w, 0, func(b []flow.Flow) error { n += len(b); return nil }); err != nil {
		t.Fatal(err)
	}
	if n != 600 {
		t.Errorf("%d connections in a quarter of the day, want 600 of 2400", n)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Configuration){
		"IPv6 site":      func(c *Configuration) { c.Site = netip.MustParsePrefix("2001:db8::/64") },
		"one host":       func(c *Configuration) { c.Site = netip.MustParsePrefix("192.0.2.1/32") },
		"no servers":     func(c *Configuration) { c.WebServers = 0 },
		"no shares":      func(c *Configuration) { c.Shares = Shares{} },
		"negative share": func(c *Configuration) { c.Shares.Web = -1 },
		"not a number":   func(c *Configuration) { c.Shares.Web = math.NaN() },
	} {
		c := DefaultConfiguration()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	c := DefaultConfiguration()
	c.Connections = b.N
	l, _ := New(c)
	b.ResetTimer()
	if _, err := l.Scan(context.Background(), flow.AllTime, 0, func([]flow.Flow) error { return nil }); err != nil {
		b.Fatal(err)
	}
}
