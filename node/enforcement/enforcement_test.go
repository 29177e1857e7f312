package enforcement

import (
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/daw"
	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/notify"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func scope(prefix string) daw.Scope {
	return daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix(prefix)}, Ports: []uint16{80}}
}

// enforcing configures two guards, a judge that enforces, and a budget.
func enforcing() (Configuration, decide.Configuration) {
	c, rules := DefaultConfiguration(), decide.DefaultConfiguration()
	c.Agents = []Agent{{"edge-1", scope("10.1.0.0/16")}, {"edge-2", scope("10.2.0.0/16")}}
	c.Standing.Most, c.Station.Rises, c.Station.Period = 4, 2, time.Second
	c.Station.Learn = 0
	rules.Enforce, rules.Approval, rules.Addresses, rules.Budget = true, false, 100, 0.1 // 10 addresses
	return c, rules
}

func enforce(t *testing.T, change func(*Configuration, *decide.Configuration)) (*Enforcement, *ledger.Ledger) {
	t.Helper()
	c, rules := enforcing()
	if change != nil {
		change(&c, &rules)
	}
	d, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	e, err := New(c, Dependencies{Ledger: d, Rules: rules, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetRules(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	return e, d
}

func report(agent string, offenders ...string) daw.AgentReport {
	b := daw.AgentReport{Version: daw.MessageVersion, Agent: agent, Validated: true}
	for i, o := range offenders {
		b.Offenders = append(b.Offenders, daw.Offender{Addr: netip.MustParseAddr(o), Rate: float64(100 - i), Failures: 500, Limited: true})
	}
	b.Report.Limited, b.Report.Records = len(offenders), len(offenders)
	return b
}

// exchange takes a guard's report and returns its policy.
func exchange(t *testing.T, e *Enforcement, b daw.AgentReport) daw.AgentPolicy {
	t.Helper()
	if err := e.addReport(b, false); err != nil {
		t.Fatal(err)
	}
	a, err := e.findAgent(b.Agent)
	if err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.makePolicy(a)
}

func active(o daw.AgentPolicy) (targets []string, most int) {
	for _, d := range o.Decisions {
		switch {
		case d.Verdict != dossier.Active:
		case d.Standing != nil:
			most = d.Standing.Most
		default:
			targets = append(targets, d.Target.String())
		}
	}
	return targets, most
}

func update(t *testing.T, r *Enforcement, now flow.Time) {
	t.Helper()
	if err := r.updateDecisions(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

func TestReportsOfOthersAreRefused(t *testing.T) {
	e, d := enforce(t, nil)
	update(t, e, currentTime())
	o := exchange(t, e, report("edge-1"))
	if o.Scope == nil || o.Scope.Sources[0].String() != "10.1.0.0/16" || o.Days != 7 || o.Validate() != nil {
		t.Fatalf("%+v", o)
	}
	if _, most := active(o); most != 2 {
		t.Errorf("a guard of two may hold %d addresses, want half of 4", most)
	}
	if err := e.addReport(report("edge-9"), false); err == nil || !strings.Contains(err.Error(), "edge-9") {
		t.Errorf("a guard that is not configured: %v", err)
	}
	bad := report("edge-1")
	bad.Version = 99
	if err := e.addReport(bad, false); err == nil {
		t.Error("a report of version 99 is taken")
	}
	b := report("edge-1")
	b.Receipts = []dossier.Receipt{{Version: 1, Decision: o.Decisions[0].ID, Point: "guard edge-1", Time: currentTime(), Applied: true}}
	exchange(t, e, b)
	update(t, e, currentTime())
	if got, err := d.Receipts(t.Context(), o.Decisions[0].ID); err != nil || len(got) != 1 {
		t.Errorf("%v, %v: the receipt is not kept", got, err)
	}
}

// A finding is kept and made known once; a block is proposed of strangers only.
func TestFindingsAreKeptNotifiedAndProposedOnce(t *testing.T) {
	e, d := enforce(t, nil)
	var sent []notify.Notice
	e.deps.Notify = func(n notify.Notice) { sent = append(sent, n) }
	e.deps.Site.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	found := []dossier.Finding{
		{Version: 1, ID: "A", Host: flow.Host{Addr: netip.MustParseAddr("198.51.100.7")}, Kind: "scan", Detector: "failures", Summary: "scans"},
		{Version: 1, ID: "B", Host: flow.Host{Addr: netip.MustParseAddr("192.0.2.250")}, Kind: "scan", Detector: "failures", Summary: "ours scans"},
	}
	for range 2 {
		if _, err := e.TakeFindings(t.Context(), found, true); err != nil {
			t.Fatal(err)
		}
		update(t, e, currentTime())
	}
	if n := len(sent); n != 4 || sent[0].Finding == nil || sent[0].Finding.ID != "A" {
		t.Errorf("%d notices, want two findings, a block and the standing decision: %+v", n, sent)
	}
	all, err := d.Decisions(t.Context(), dossier.Active, 10)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, x := range all {
		if x.Standing == nil && (x.Target.String() != "198.51.100.7/32" || len(x.Findings) != 1 || x.Findings[0] != "A") {
			t.Errorf("%+v is not the block of the stranger", x)
		}
	}
}

// A block that an operator undoes, or that expires, is made known as it was when it
// began.
func TestTheEndOfABlockIsNotified(t *testing.T) {
	e, d := enforce(t, nil)
	var sent []notify.Notice
	e.deps.Notify = func(n notify.Notice) {
		if n.Decision != nil && n.Decision.Standing == nil {
			sent = append(sent, n)
		}
	}
	found := []dossier.Finding{{Version: 1, ID: "A", Host: flow.Host{Addr: netip.MustParseAddr("198.51.100.7")}, Kind: "scan", Detector: "failures", Summary: "scans"}}
	if _, err := e.TakeFindings(t.Context(), found, true); err != nil {
		t.Fatal(err)
	}
	now := currentTime()
	update(t, e, now)
	update(t, e, now)
	if len(sent) != 1 || sent[0].Decision.Verdict != dossier.Active {
		t.Fatalf("%+v", sent)
	}
	if err := d.Judge(t.Context(), now, func(j *decide.Judge) error {
		_, err := j.Undo(now, sent[0].Decision.ID, "operator", "a mistake")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	update(t, e, now)
	update(t, e, now)
	if len(sent) != 2 || sent[1].Decision.Verdict != dossier.Undone || sent[1].Decision.ID != sent[0].Decision.ID {
		t.Errorf("%+v", sent)
	}
}

// Offenders rise: the worst are blocked, twice as many each period, within the
// budget; agents learn of their own sources only; a stop ends it all.
func TestAlarmBudgetStop(t *testing.T) {
	r, d := enforce(t, nil)
	now := currentTime()
	var blocked []int
	for period := range 8 {
		var all []string
		for i := range 4 * (period + 1) {
			all = append(all, netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String())
		}
		exchange(t, r, report("edge-1", all...))
		update(t, r, now)
		one, _ := active(exchange(t, r, report("edge-1", all...)))
		two, most := active(exchange(t, r, report("edge-2")))
		if len(two) != 0 || most != 2 {
			t.Fatalf("edge-2 has orders to block %v", two)
		}
		if len(one) > 6 { // 10 of the budget, 4 of which are the standing decision's
			t.Fatalf("%d addresses blocked, the budget leaves 6", len(one))
		}
		for i, target := range one {
			if want := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String() + "/32"; target != want {
				t.Errorf("block %d is %s, want the worst first: %s", i, target, want)
			}
		}
		blocked = append(blocked, len(one))
		now += flow.Time(time.Second)
	}
	t.Log(blocked)
	if blocked[0] != 0 || blocked[len(blocked)-1] != 6 || !r.station.Alarm() {
		t.Errorf("blocked %v per period: want none at first, and the budget's 6 in the end", blocked)
	}
	if o := exchange(t, r, report("edge-2")); o.Days != 2 {
		t.Errorf("n is %d during an alarm, want 2", o.Days)
	}
	if err := d.Stop(t.Context(), now, "ada", "enough"); err != nil {
		t.Fatal(err)
	}
	update(t, r, now+1)
	for _, agent := range []string{"edge-1", "edge-2"} {
		if targets, most := active(exchange(t, r, report(agent))); len(targets) != 0 || most != 0 {
			t.Errorf("after the stop %s still has %v, %d", agent, targets, most)
		}
	}
}

// What an operator took back is not proposed again by the station.
func TestUndoneStaysUndone(t *testing.T) {
	r, d := enforce(t, nil)
	now := currentTime()
	p := daw.Persistent{Offender: daw.Offender{Addr: netip.MustParseAddr("10.1.0.5"), Failures: 300, Days: 7}, Next: time.Hour}
	b := report("edge-1")
	b.Persistent = []daw.Persistent{p, {Offender: daw.Offender{Addr: netip.MustParseAddr("10.2.0.5")}, Next: time.Hour}} // the latter is not its own
	exchange(t, r, b)
	update(t, r, now)
	targets, _ := active(exchange(t, r, report("edge-1")))
	if len(targets) != 1 || targets[0] != "10.1.0.5/32" {
		t.Fatalf("blocked %v, want 10.1.0.5", targets)
	}
	if two, _ := active(exchange(t, r, report("edge-2"))); len(two) != 0 {
		t.Errorf("an agent had another's source blocked: %v", two)
	}
	all, err := d.Decisions(t.Context(), dossier.Active, 10)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, x := range all { // the block, and the standing decision
		if _, err := d.Undo(t.Context(), now+1, x.ID, "ada", "it is the mail server"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range flow.Time(3) {
		exchange(t, r, b)
		update(t, r, now+2+i)
	}
	if targets, most := active(exchange(t, r, report("edge-1"))); len(targets) != 0 || most != 0 {
		t.Errorf("proposed again: %v, %d", targets, most)
	}
	update(t, r, now+flow.Time(8*24*time.Hour))
	if _, most := active(exchange(t, r, report("edge-1"))); most != 2 {
		t.Errorf("long after, %d may be held; want the standing decision again", most)
	}
}

func TestFailLogsReachTheAgentOfTheSource(t *testing.T) {
	r, _ := enforce(t, nil)
	r.takeFailLog(daw.FailLog{Time: currentTime(), Src: netip.MustParseAddr("10.2.0.5"), Dst: netip.MustParseAddr("203.0.113.1"), SrcPort: 1, DstPort: 80, Device: "fw"})
	r.takeFailLog(daw.FailLog{Time: currentTime(), Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("203.0.113.1"), DstPort: 80, Device: "fw"})
	var from []uint64
	for i, want := range []int{0, 1, 1} {
		agent := []string{"edge-1", "edge-2", "edge-2"}[i]
		o := exchange(t, r, report(agent))
		if len(o.FailLogs) != want {
			t.Errorf("%s got %d drop logs, want %d", agent, len(o.FailLogs), want)
		}
		from = append(from, o.FailLogsFrom)
	}
	if from[1] != from[2] {
		t.Errorf("the same drop has the numbers %d and %d", from[1], from[2])
	}
	d := newDrops(100)
	for i := range flow.Time(5) {
		d.addDrop(100+i*dropLife/2, daw.FailLog{})
	}
	if d.first != 102 || len(d.logs) != 3 {
		t.Errorf("%d drops from number %d on; want those of the last two minutes, from 102", len(d.logs), d.first)
	}
}

func TestConfigurationMistakes(t *testing.T) {
	for say, change := range map[string]func(*Configuration){
		"agents[1].name":   func(c *Configuration) { c.Agents = []Agent{{"a", scope("10.0.0.0/8")}, {"a", scope("10.0.0.0/8")}} },
		"scope.ports":      func(c *Configuration) { c.Agents = []Agent{{"a", daw.Scope{Sources: scope("10.0.0.0/8").Sources}}} },
		"standing.most":    func(c *Configuration) { c.Standing.Most = -1 },
		"station.learn":    func(c *Configuration) { c.Station.Learn = -1 },
		"station.chance":   func(c *Configuration) { c.Station.Chance = 1 },
		"station.rises":    func(c *Configuration) { c.Station.Rises = 0 },
		"days":             func(c *Configuration) { c.Days = 0 },
		"faillog.devices ": func(c *Configuration) { c.Faillog.Listen = "127.0.0.1:514" },
	} {
		c := DefaultConfiguration()
		change(&c)
		_, err := New(c, Dependencies{Log: quiet})
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(say)) {
			t.Errorf("%q: %v", say, err)
		}
	}
}
