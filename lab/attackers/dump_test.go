package attackers_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"dragnet/ask/witness"
	"dragnet/ask/witness/audit"
	"dragnet/ask/witness/policy"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/lab/attackers"
	"dragnet/node/ingest"
)

// traffic is a log held in memory, with the hosts contacted in it over IPv4, and the
// contacting ones by how much of it they open.
type traffic struct {
	memory
	hosts   map[netip.Addr]bool
	popular []netip.Addr
}

type memory []flow.Flow

func (m memory) Scan(_ context.Context, w flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	return flow.Coverage{Flows: uint64(len(m))}, fn(m)
}

func (m memory) Coverage(context.Context) (flow.Coverage, error) {
	return flow.Coverage{Flows: uint64(len(m))}, nil
}

func readTraffic(t *testing.T) *traffic {
	t.Helper()
	log, err := ingest.Open(testkit.Data(t, "zeek-logs", "missing_host"))
	if err != nil {
		t.Fatal(err)
	}
	out := &traffic{hosts: map[netip.Addr]bool{}}
	opens := map[netip.Addr]map[netip.Addr]bool{}
	var mu sync.Mutex
	if _, err := log.Scan(t.Context(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		out.memory = append(out.memory, batch...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range out.memory {
		f := &out.memory[i]
		if !f.Orig.Is4() || !f.Resp.Is4() {
			continue
		}
		out.hosts[f.Resp] = true
		if opens[f.Orig] == nil {
			opens[f.Orig] = map[netip.Addr]bool{}
		}
		opens[f.Orig][f.Resp] = true
	}
	for a := range opens {
		out.popular = append(out.popular, a)
	}
	slices.SortFunc(out.popular, func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(len(opens[b]), len(opens[a])), a.Compare(b))
	})
	return out
}

// sweep is every prefix of a length, in random order but at most limit of them.
func sweep(bits, limit int) []netip.Prefix {
	random := rand.New(rand.NewPCG(7, 7))
	var out []netip.Prefix
	for _, i := range random.Perm(1 << bits)[:min(limit, 1<<bits)] {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i)<<(32-bits))
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(b), bits))
	}
	return out
}

// best is what an attacker asks who knows the witness's traffic as well as the
// witness does: the prefixes of a length that open most.
func (l *traffic) best(bits int) []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	for _, a := range l.popular {
		p, err := a.Prefix(bits)
		if err == nil && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// learn runs an attacker for days and returns the share of hosts it knows after each.
func (l *traffic) learn(t *testing.T, rules policy.Rules, prefixes []netip.Prefix, days int) []float64 {
	t.Helper()
	d := l.attack(t, &rules, prefixes)
	known, err := d.Run(t.Context(), days)
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for _, hosts := range known {
		out = append(out, float64(l.countHosts(hosts))/float64(len(l.hosts)))
	}
	t.Logf("refusals: %v", d.Refused())
	return out
}

// attack is an attacker of a new witness of the traffic.
func (l *traffic) attack(t *testing.T, rules *policy.Rules, prefixes []netip.Prefix) attackers.Dump {
	t.Helper()
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "audit.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	trail, err := audit.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	bounds := witness.DefaultConfiguration()
	bounds.TooCommon = rules.TooCommon
	w, err := witness.New(bounds, "victim", l.memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	return attackers.Dump{Witness: w, Trail: trail, Rules: rules, Prefixes: prefixes, First: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
}

func (l *traffic) countHosts(known map[netip.Addr]bool) (n int) {
	for a := range known {
		if l.hosts[a] {
			n++
		}
	}
	return n
}

// alone has the default budgets, and answers one detective about any mask: what the
// budgets do by themselves.
func alone() policy.Rules {
	rules := policy.Default()
	rules.Independent, rules.Masks = 1, nil
	return rules
}

// TestDump plays the attack that listed 870 of 873 hosts in 32 questions of one day:
// every prefix of 12 bits. Without the budgets of what is learnt it still does;
// with the defaults it gets next to nothing.
func TestDump(t *testing.T) {
	if testkit.Short(t) {
		t.Skip("hashes the log some hundred times")
	}
	l := readTraffic(t)
	open := alone()
	open.PerOrganisation.Addresses, open.PerOrganisation.Hosts = math.MaxInt64, math.MaxInt
	open.PerRoster.Addresses, open.PerRoster.Hosts = math.MaxInt64, math.MaxInt
	if got := l.learn(t, open, sweep(12, 1<<12), 1); got[0] < 0.9 {
		t.Errorf("without budgets the attack learns %.3f of the hosts in a day; it should work, or this test shows nothing", got[0])
	}
	if got := l.learn(t, alone(), sweep(12, 1<<12), 7); got[6] > 0.05 {
		t.Errorf("by prefixes of 12 bits %.3f of the hosts are learnt in a week", got[6])
	}
}

// TestDumpBySlices plays an attacker who knows which addresses open most, and cuts
// what is refused as too many hosts into slices by what travels in clear: states,
// sizes, counts. The budget of hosts bounds the day however it is cut.
func TestDumpBySlices(t *testing.T) {
	if testkit.Short(t) {
		t.Skip("hashes the log some hundred times")
	}
	l := readTraffic(t)
	rules := alone()
	rules.PerOrganisation.Hosts = 100
	d := l.attack(t, &rules, l.best(32)[:4])
	start := d.First
	known := map[netip.Addr]bool{}
	for day := range 3 {
		before := len(known)
		for _, slice := range []string{"flows>=50", "state=SF", "state=S1,S2,S3,RSTO", "state=RSTR,OTH,RSTRH", "state=REJ bytes<=100", "state=REJ bytes>=100", "state=S0 sent<=50", "state=S0", "duration>=1m", "ports>=5"} {
			d.Condition, d.First = slice, start.AddDate(0, 0, 2*day) // a day's budget lasts a span longer
			again := d
			hosts, err := again.Run(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(known, hosts[0])
		}
		if got := len(known) - before; got > rules.PerOrganisation.Hosts {
			t.Errorf("day %d: %d hosts were learnt by slices, with a budget of %d", day+1, got, rules.PerOrganisation.Hosts)
		}
		t.Logf("day %d: %d of %d hosts known", day+1, l.countHosts(known), len(l.hosts))
	}
	if len(known) == 0 {
		t.Error("the attack learnt nothing, and so shows nothing")
	}
}

// TestDumpCurve writes the curve of docs/explanation/asking.md: the share learnt
// against days, for attackers who know nothing and one who knows which addresses
// open most. DRAGNET_FULL=1 runs all of it.
func TestDumpCurve(t *testing.T) {
	if testkit.Short(t) {
		t.Skip("hashes the log some hundred times")
	}
	l := readTraffic(t)
	days := 3
	if os.Getenv("DRAGNET_FULL") != "" {
		days = 30
	}
	lengths := []int{12, 16, 24, 32}
	t.Logf("%d flows, %d hosts contacted, %d contacting", len(l.memory), len(l.hosts), len(l.popular))
	for _, bits := range lengths {
		limit := 300
		if os.Getenv("DRAGNET_FULL") != "" {
			limit = 1 << 17
		}
		blind := l.learn(t, alone(), sweep(min(bits, 24), limit), days)
		if bits <= 24 {
			t.Log(curve(fmt.Sprintf("knows nothing, /%d", bits), blind))
			if last := blind[len(blind)-1]; last > 0.10 {
				t.Errorf("/%d, knowing nothing: %.3f of the hosts in %d days", bits, last, days)
			}
		}
		t.Log(curve(fmt.Sprintf("knows all, /%d", bits), l.learn(t, alone(), l.best(bits), days)))
	}
}

func curve(name string, shares []float64) string {
	out := name + ":"
	for _, day := range []int{1, 2, 3, 7, 14, 30} {
		if day <= len(shares) {
			out += fmt.Sprintf("  day %d %.3f", day, shares[day-1])
		}
	}
	return out
}
