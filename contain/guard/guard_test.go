package guard

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

var monday = flow.FromTime(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))

const (
	second = flow.Time(time.Second)
	day    = flow.Time(24 * time.Hour)
)

func addr(network, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(network), 0, byte(host)})
}

// edge is a guard with what it did.
type edge struct {
	*Guard
	events []Action
	n      uint32
}

func small(change func(*Configuration)) Configuration {
	c := DefaultConfiguration()
	c.Name = "edge"
	c.Scope = daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}, Ports: []uint16{80}}
	c.Limits.Entries, c.Limits.Records, c.Limits.Requests, c.Limits.Days = 64, 1024, 1<<12, 1
	c.Validation.By = "the access switches"
	c.Standing = StandingConfiguration{By: "ada", Why: "the network asked for it", Enforce: true, Most: 3, For: 30 * 24 * time.Hour}
	if change != nil {
		change(&c)
	}
	return c
}

func newEdge(t testing.TB, change func(*Configuration)) *edge {
	t.Helper()
	e := &edge{}
	g, err := New(small(change), monday, nil, func(x Action) { e.events = append(e.events, x) })
	if err != nil {
		t.Fatal(err)
	}
	e.Guard = g
	return e
}

// probe lets a source scan one address that refuses, dropped or not: the guard
// only watches.
func (e *edge) probe(now flow.Time, src netip.Addr) (passes bool) {
	e.n++
	syn := packet.Packet{
		Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: src, SrcPort: uint16(e.n), DstPort: 80, Seq: e.n * 7,
		Dst: netip.AddrFrom4([4]byte{byte(20 + e.n>>16), byte(e.n >> 8), byte(e.n), 1}),
	}
	if passes = e.Packet(now, &syn, Path{Inside: true}); passes {
		e.Packet(now, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: syn.Dst, Dst: src, SrcPort: 80, DstPort: syn.SrcPort, Ack: syn.Seq + 1}, Path{Outside: true})
	}
	return passes
}

// scan scans once a second until the source is at its limit.
func (e *edge) scan(t testing.TB, now flow.Time, src netip.Addr) flow.Time {
	t.Helper()
	for range 2000 {
		if now += second; !e.probe(now, src) {
			return now
		}
	}
	t.Fatalf("%s never came to its limit", src)
	return 0
}

func (e *edge) count(what string) (n int) {
	for _, x := range e.events {
		if x.What == what {
			n++
		}
	}
	return n
}

func TestHoldsUnderTheStandingDecision(t *testing.T) {
	e := newEdge(t, nil)
	now := e.scan(t, monday, addr(0, 1))
	p := e.Plan(now)
	if len(p.Holds) != 1 || p.Holds[0].Target.Addr() != addr(0, 1) || p.Holds[0].For < time.Second || !p.Changed {
		t.Fatalf("plan %+v, want one hold", p)
	}
	if again := e.Plan(now); len(again.Holds) != 0 || again.Changed {
		t.Errorf("the same again: %+v", again)
	}
	hold := e.events[len(e.events)-1]
	if hold.What != "hold" || hold.Limit != "temporal" || hold.Decision != e.standing.ID || hold.Verdict != dossier.Active {
		t.Errorf("recorded %+v", hold)
	}
	e.probe(now+second/2, addr(0, 1))
	if p := e.Plan(now); len(p.Holds) != 0 {
		t.Errorf("held twice: %+v", p.Holds)
	}
	e.Reconcile(now + flow.Time(longestHold) + 2*quiet)
	if e.count("release") != 1 || len(e.holds) != 0 {
		t.Errorf("%d released, %d held, long after the last scan", e.count("release"), len(e.holds))
	}
}

// What slipped through before the router knew counts.
func TestSlippedScansCount(t *testing.T) {
	e := newEdge(t, nil)
	now := e.scan(t, monday, addr(0, 1))
	failed := func() uint64 { r := e.Edge().Report(now); return r.Failed() }
	before := failed()
	syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: addr(0, 1), Dst: netip.MustParseAddr("203.0.113.1"), SrcPort: 1, DstPort: 80, Seq: 41}
	if e.Packet(now, &syn, Path{Inside: true}) {
		t.Fatal("passes")
	}
	e.Packet(now, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: syn.Dst, Dst: syn.Src, SrcPort: 80, DstPort: 1, Ack: 42}, Path{Outside: true})
	if got := failed(); got != before+1 {
		t.Errorf("%d failures, want %d", got, before+1)
	}
}

func TestDryRunHoldsNobody(t *testing.T) {
	e := newEdge(t, func(c *Configuration) { c.Standing.Enforce = false })
	now := e.scan(t, monday, addr(0, 1))
	if p := e.Plan(now); len(p.Holds) != 0 || len(p.Decisions) != 0 {
		t.Errorf("a dry run hands the router %+v", p)
	}
	if e.count("hold") != 1 || e.events[len(e.events)-1].Verdict != dossier.DryRun {
		t.Errorf("events %+v, want a hold in a dry run", e.events)
	}
}

func TestWithoutAStandingDecisionItOnlyCounts(t *testing.T) {
	e := newEdge(t, func(c *Configuration) { c.Standing = StandingConfiguration{} })
	now := e.scan(t, monday, addr(0, 1))
	e.scan(t, monday+day, addr(0, 1))
	e.Tick(monday + 2*day)
	if p := e.Plan(now); len(p.Holds)+len(p.Decisions) != 0 || len(e.events) != 0 {
		t.Errorf("%+v, %+v", p, e.events)
	}
}

// The standing decision's bound is for blocks, and not for the limit itself: else
// who brings that many sources to their limits ends it for all others.
func TestBudgetOfTheStandingDecision(t *testing.T) {
	e := newEdge(t, nil) // 3 addresses
	for host := range 6 {
		e.scan(t, monday, addr(0, host))
	}
	now := monday + 1000*second
	if n := len(e.holds); n != 6 || e.Stats().Refused != 0 {
		t.Errorf("%d held, %d refused; want all 6", n, e.Stats().Refused)
	}
	e.Tick(monday + day + second) // all were at their limit for a day
	blocked := 0
	for _, d := range e.Plan(now).Decisions {
		if d.Verdict != dossier.Active || !strings.Contains(d.Steps[0].Who, e.standing.ID) || d.Until > e.standing.Until || d.Undo == "" {
			t.Errorf("%+v", d)
		}
		blocked++
	}
	if blocked != 3 || e.count("refused") == 0 {
		t.Errorf("%d blocked of at most 3, %d refused", blocked, e.count("refused"))
	}
	if e.probe(monday+day+2*second, e.own[0].Target.Addr()) {
		t.Error("a blocked source passes")
	}
	e.Reconcile(e.own[0].Until + 1)
	if p := e.Plan(0); len(p.Decisions) != 0 || !p.Changed || e.count("unblock") != blocked {
		t.Errorf("after its time: %+v, %d unblocked", p, e.count("unblock"))
	}
}

func TestAllowListWins(t *testing.T) {
	protected := netip.PrefixFrom(addr(0, 1), 32)
	e := newEdge(t, func(c *Configuration) { c.Allow = []netip.Prefix{protected} })
	for n := range 1000 {
		if !e.probe(monday+flow.Time(n)*second/10, addr(0, 1)) {
			t.Fatal("a protected source is hindered")
		}
	}
	o := daw.AgentPolicy{Version: daw.MessageVersion, Decisions: []dossier.Decision{block("A", "10.0.0.1/32"), block("B", "10.0.0.0/30"), block("C", "10.0.0.9/32")}}
	if err := e.ApplyPolicy(monday, e.MakeReport(monday), o); err != nil {
		t.Fatal(err)
	}
	p := e.Plan(monday)
	if len(p.Decisions) != 1 || p.Decisions[0].ID != "C" {
		t.Errorf("the router is told %+v", p.Decisions)
	}
	for i, r := range e.Receipts(monday, "edge", []dossier.Receipt{{Decision: "C", Applied: true}}) {
		if want := i == 2; r.Applied != want || !want && !strings.Contains(r.Problem, "allow list") {
			t.Errorf("receipt %+v", r)
		}
	}
	// A list that comes later releases a host that is held.
	now := e.scan(t, monday, addr(0, 2))
	o.Allow = []netip.Prefix{netip.PrefixFrom(addr(0, 2), 32)}
	if err := e.ApplyPolicy(now, e.MakeReport(now), o); err != nil {
		t.Fatal(err)
	}
	if !e.Plan(now).Release || !e.probe(now+second, addr(0, 2)) {
		t.Error("a newly protected source is still hindered")
	}
}

func block(id, target string) dossier.Decision {
	return dossier.Decision{ID: id, Target: netip.MustParsePrefix(target), Verdict: dossier.Active, Until: monday + 9*day, Steps: []dossier.Step{{}}}
}

// Orders: a standing decision of the station, blocks, their end.
func TestOrders(t *testing.T) {
	e := newEdge(t, func(c *Configuration) { c.Station, c.Standing = true, StandingConfiguration{} })
	standing := dossier.Decision{ID: "S", Target: netip.MustParsePrefix("0.0.0.0/0"), Verdict: dossier.Active, Until: monday + 9*day, Standing: &dossier.Standing{Rule: "daw", Most: 5}}
	obey := func(now flow.Time, all ...dossier.Decision) {
		t.Helper()
		if err := e.ApplyPolicy(now, e.MakeReport(now), daw.AgentPolicy{Version: daw.MessageVersion, Days: 1, Decisions: all}); err != nil {
			t.Fatal(err)
		}
	}
	obey(monday, standing, block("A", "10.0.0.1/32"), block("far", "192.0.2.1/32"))
	if e.probe(monday, addr(0, 1)) {
		t.Error("not blocked as ordered")
	}
	now := e.scan(t, monday, addr(0, 2))
	if p := e.Plan(now); len(p.Holds) != 1 {
		t.Errorf("no hold under the station's standing decision: %+v", p)
	}
	e.Tick(monday + day + second)
	b := e.MakeReport(monday + day + second)
	if len(b.Persistent) != 1 || b.Persistent[0].Addr != addr(0, 2) || b.Validate() != nil {
		t.Errorf("persistent %+v: the station is to judge, %v", b.Persistent, b.Validate())
	}
	stopped := standing
	stopped.Verdict = dossier.Stopped
	a := block("A", "10.0.0.1/32")
	a.Verdict = dossier.Stopped
	obey(now, stopped, a)
	if p := e.Plan(now); !p.Release || len(p.Decisions) != 0 || len(e.holds) != 0 {
		t.Errorf("after the stop: %+v, %d held", p, len(e.holds))
	}
	if !e.probe(now+second, addr(0, 1)) {
		t.Error("still blocked after the stop")
	}
	if got := e.Edge().NextBlock(addr(0, 1)); got != e.c.Limits.FirstBlock {
		t.Errorf("a stopped block counts as an earlier one: the next lasts %v", got)
	}
	if len(e.MakeReport(now).Persistent) != 0 {
		t.Error("what the station has heard is told again")
	}
	for _, bad := range []daw.AgentPolicy{{Version: 9}, {Version: 1, Days: -1}, {Version: 1, Scope: &daw.Scope{}}} {
		if err := e.ApplyPolicy(now, b, bad); err == nil {
			t.Errorf("orders %+v are applied", bad)
		}
	}
}

// A router has its own bound, independent of the policy.
func TestRouterHasABoundOfItsOwn(t *testing.T) {
	e := newEdge(t, func(c *Configuration) { c.Most, c.Standing = 10, StandingConfiguration{} })
	o := daw.AgentPolicy{Version: daw.MessageVersion, Decisions: []dossier.Decision{block("A", "10.0.0.0/29"), block("B", "10.9.0.0/16"), block("everybody", "0.0.0.0/0")}}
	if err := e.ApplyPolicy(monday, e.MakeReport(monday), o); err != nil {
		t.Fatal(err)
	}
	p := e.Plan(monday)
	if len(p.Decisions) != 1 || p.Decisions[0].ID != "A" {
		t.Errorf("the router is told %+v", p.Decisions)
	}
	for i, r := range e.Receipts(monday, "edge", nil) {
		if i > 0 && !strings.Contains(r.Problem, "at most 10 addresses") {
			t.Errorf("%+v", r)
		}
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	var events []Action
	begin := func(now flow.Time) *edge {
		t.Helper()
		g, problem, err := Load(small(nil), now, dir, func(x Action) { events = append(events, x) })
		if err != nil || problem != nil {
			t.Fatal(err, problem)
		}
		return &edge{Guard: g}
	}
	e := begin(monday)
	e.scan(t, monday, addr(0, 1))
	e.Tick(monday + day + second)
	if len(e.own) != 1 {
		t.Fatalf("%d blocked", len(e.own))
	}
	now := e.scan(t, monday+day+second, addr(0, 2))
	if err := e.Save(dir); err != nil {
		t.Fatal(err)
	}
	e = begin(now)
	if e.probe(now, addr(0, 1)) || e.probe(now+second/100, addr(0, 2)) {
		t.Error("limits or blocks were lost")
	}
	if p := e.Plan(now); len(p.Decisions) != 1 || !p.Changed {
		t.Errorf("the router is told %+v", p)
	}
	for _, name := range []string{edgeFile, guardFile} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		g, problem, err := Load(small(nil), now, dir, nil)
		if g == nil || problem == nil || err != nil {
			t.Errorf("with half of %s: %v, %v", name, problem, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// IPv6 hosts that take ever new addresses are held back by their /64.
func TestHoldsOfANetwork64(t *testing.T) {
	e := newEdge(t, nil)
	for n := range 20_000 {
		src := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 8: byte(n >> 8), 9: byte(n)})
		if !e.probe(monday+flow.Time(n)*second/20, src) {
			break
		}
	}
	p := e.Plan(monday)
	if len(p.Holds) == 0 || p.Holds[0].Target != netip.MustParsePrefix("2001:db8::/64") {
		t.Errorf("holds %v, want the /64", p.Holds)
	}
}

func TestConfigurationMistakes(t *testing.T) {
	for say, change := range map[string]func(*Configuration){
		"enforcement needs a name": func(c *Configuration) { c.Standing.By = "" },
		"standing.why":             func(c *Configuration) { c.Standing.Why = "" },
		"standing":                 func(c *Configuration) { c.Standing.Most = 0 },
		"scope.ports":              func(c *Configuration) { c.Scope.Ports = nil },
		"omega":                    func(c *Configuration) { c.Limits.Omega = 1 },
		"most":                     func(c *Configuration) { c.Most = 0 },
		"every":                    func(c *Configuration) { c.Every = 0 },
		"report":                   func(c *Configuration) { c.Report = 0 },
		"allow[0]":                 func(c *Configuration) { c.Allow = []netip.Prefix{{}} },
	} {
		if _, err := New(small(change), monday, nil, nil); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v", say, err)
		}
	}
	c := small(nil)
	c.Scope.Sources, c.Site.Networks = nil, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	g, err := New(c, monday, nil, nil)
	if err != nil || g.scope.Sources[0] != c.Site.Networks[0] {
		t.Errorf("the site's networks are not taken for the scope: %v", err)
	}
}

func TestJournalKeepsTwoFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	long := Action{Why: strings.Repeat("x", 1<<20)}
	for range 40 {
		if err := j.write(long); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	var total int64
	files, err := filepath.Glob(path + "*")
	for _, f := range files {
		info, e := os.Stat(f)
		err = errors.Join(err, e)
		total += info.Size()
	}
	if err != nil || len(files) != 2 || total > 3*journalSize {
		t.Errorf("%d files of %d bytes, %v", len(files), total, err)
	}
}
