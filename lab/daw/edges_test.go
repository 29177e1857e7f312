package daw_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/testkit"
)

// Of the lab: a day's quota, and how much the judge lets be blocked.
const (
	omega    = 60
	budget   = 40 // addresses
	standing = 30 // of them, for the guards' own limits
	blocks   = budget - standing
	infected = 12 // hosts, in both networks together
)

// start runs a node with a guard at each edge, whose day ends at midnight. After days at
// its limit a source is blocked.
func (l *isp) start(midnight time.Time, days int) {
	l.t.Helper()
	edges := 2
	if l.edges[2] != nil {
		edges = 3
	}
	configuration := fmt.Sprintf(`
store: {directory: %[1]s/data}
admin: {listen: ""}
api: {listen: "0.0.0.0:9121"}
decide: {enforce: true, approval: false, addresses: 100, budget: %[2]g, ttl: 4s}
enforcement:
  every: 250ms
  days: %[4]d
  alarm_days: %[4]d
  standing: {most: %[3]d, for: 1h, why: the lab holds back what fails too often}
  station: {rises: 2, learn: 0s, first: 0.1, period: 1s, silent: 3s}
  agents:
    - {name: edge1, scope: {sources: [10.1.0.0/24], ports: [80]}}
    - {name: edge2, scope: {sources: [10.2.0.0/24], ports: [80]}}
    - {name: edge3, scope: {sources: [10.3.0.0/24], ports: [80]}}
`, l.dir, float64(budget)/100, standing, days)
	l.write("node.yaml", configuration)
	l.startNode()
	for i := range edges {
		token := strings.TrimSpace(l.run("agent", "token", "--data", l.dir+"/data", "--name", fmt.Sprintf("edge%d", i+1), "--role", "guard"))
		node := fmt.Sprintf("https://172.16.%d.1:9121", i+1)
		if _, err := l.edges[i].Run(l.t.Context(), l.agent, "enrol", "guard", node, token, "--state", fmt.Sprintf("%s/enrolled%d", l.dir, i+1)); err != nil {
			l.t.Fatal(err)
		}
		l.write(fmt.Sprintf("edge%d.yaml", i+1), fmt.Sprintf(`
name: edge%[2]d
station: true
channel: {state: %[1]s/enrolled%[2]d}
report: 250ms
every: 1s
state: %[1]s/edge%[2]d
%[5]s
scope: {sources: [10.%[2]d.0.0/24], ports: [80]}
validation: {by: the lab has one host behind each edge}
limits: {omega: %[3]d, bucket: 10, lambda: 1, phi: 0, entries: 4096, records: 4096, requests: 65536, first_block: 2s, midnight: %[4]v}
`, l.dir, i+1, omega, midnight.UTC().Sub(midnight.UTC().Truncate(24*time.Hour)).Round(time.Second), l.where(i)))
		l.startGuard(i)
	}
}

// where says at which interface a guard acts, and how. In the kernel, edge 2 lets all
// pass once its guard was killed.
func (l *isp) where(i int) string {
	if !l.kernel {
		return "live: {interface: inside}"
	}
	return fmt.Sprintf("kernel: {interfaces: [inside], pins: %s/bpf/edge%d, stay: %v}", l.dir, i+1, i != 1)
}

func (l *isp) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *isp) startNode() {
	l.t.Helper()
	p, err := l.core.Start(l.dragnet, "run", "node", "--config", l.dir+"/node.yaml")
	if err == nil {
		l.node = p
		err = p.Await(l.t.Context(), "node started")
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// startGuard gives the guard the capabilities it needs, and no other.
func (l *isp) startGuard(i int) {
	l.t.Helper()
	caps := "-all,+net_raw,+net_admin"
	if l.kernel {
		caps = "-all,+net_admin,+bpf,+perfmon"
	}
	p, err := l.edges[i].Start("setpriv", "--bounding-set", caps, "--inh-caps", "-all",
		l.agent, "run", "guard", "--config", fmt.Sprintf("%s/edge%d.yaml", l.dir, i+1))
	if err == nil {
		l.guards[i] = p
		err = p.Await(l.t.Context(), "guard started")
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// step says how far the story has come.
func (l *isp) step(what string) { l.t.Logf("%5.1f s: %s", time.Since(l.started).Seconds(), what) }

// census is what the kernels of both edges block and hold back.
func (l *isp) census() (blocked, held []string) {
	for i := range 2 {
		blocked = append(blocked, l.listed(i, "blocked4", "blocked6")...)
		held = append(held, l.listed(i, "held4", "held6", "held64")...)
	}
	if len(blocked) > blocks || len(blocked)+len(held) > budget {
		l.t.Errorf("%d sources are blocked and %d held; the judge allows %d blocks, and %d in all", len(blocked), len(held), blocks, budget)
	}
	for _, source := range append(blocked, held...) {
		var network, host int
		if _, err := fmt.Sscanf(source, "10.%d.0.%d", &network, &host); err != nil || host < 10 || host >= 10+infected/2 {
			l.t.Errorf("%s is hindered, and not infected", source)
		}
	}
	return blocked, held
}

// blocksOf are the decisions about single sources, the oldest first.
func blocksOf(all []dossier.Decision) []dossier.Decision {
	all = slices.DeleteFunc(slices.Clone(all), func(d dossier.Decision) bool { return d.Standing != nil })
	slices.Reverse(all)
	return all
}

// An outbreak in two customer networks, one host after the other: limits hold
// back each by itself; then the station sees the rise and has the worst blocked,
// twice as many each time. Never more than the budget, never an uninfected host;
// blocks end; a stop ends everything.
func TestOutbreakAtTwoEdges(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newISP(t)
	l.start(time.Now().Add(-time.Minute), 1) // the day has just started
	worms, cure := context.WithCancel(context.Background())
	defer cure()

	var scanners []*scanner
	heldFirst, blockedFirst, most := time.Time{}, time.Time{}, 0
	look := func() (blocked []string) {
		blocked, held := l.census()
		if len(held) > 0 && heldFirst.IsZero() {
			heldFirst = time.Now()
		}
		if len(blocked) > 0 && blockedFirst.IsZero() {
			blockedFirst = time.Now()
		}
		most = max(most, len(blocked))
		l.visit(0, 50)
		l.visit(1, 50)
		return blocked
	}
	for i := range infected {
		scanners = append(scanners, l.scan(worms, i%2, 10+i/2, 40+5*i))
		for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			look()
		}
	}
	l.await(10*time.Second, "the station has sources blocked", func() bool { look(); return !blockedFirst.IsZero() })
	l.step(fmt.Sprintf("all infected; held first after %v, blocked first after %v, at most %d blocked", heldFirst.Sub(l.started), blockedFirst.Sub(l.started), most))
	if heldFirst.IsZero() || blockedFirst.Before(heldFirst) {
		t.Errorf("held first at %v, blocked first at %v; want limits before blocks", heldFirst, blockedFirst)
	}
	// All are infected, so the rise ends, and with it the blocks.
	l.await(20*time.Second, "the blocks of the alarm end", func() bool { return len(look()) == 0 })
	l.step("the blocks have ended")
	l.checkAlarm()
	l.checkQuota(scanners)
	l.checkReceipts()
	l.checkStop(scanners)
	l.step("stopped and resumed")
	l.checkLostStation()
	l.step("the station was lost and came back")
	l.checkEnd()
	l.step(fmt.Sprintf("%d visits of uninfected hosts, %d hindered", l.benign, l.refused))
}

// checkQuota bounds what a scanner got through: the day's quota while its record
// is shared, once more when it has one of its own (theorem 2), and what slips
// through until the router knows of each hold.
func (l *isp) checkQuota(scanners []*scanner) {
	l.t.Helper()
	var passed, sent []int
	for _, s := range scanners {
		passed, sent = append(passed, s.passed), append(sent, s.sent)
		if bound := 2*omega + s.sent/8; s.passed > bound {
			l.t.Errorf("%s: %d of %d scans passed; want at most %d", s.source, s.passed, s.sent, bound)
		}
	}
	l.t.Logf("scans sent %v, passed %v", sent, passed)
}

// Hosts that were at their limit all day are blocked once it is over, in the
// budget; their blocks end by themselves.
func TestPersistentSourcesAreBlockedNextDay(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	l := newISP(t)
	midnight := time.Now().Add(12 * time.Second).Truncate(time.Second)
	l.start(midnight, 1)
	worms, cure := context.WithCancel(context.Background())
	defer cure()
	for i := range infected {
		l.scan(worms, i%2, 10+i/2, 40)
	}
	l.await(time.Until(midnight), "all are held back on the first day", func() bool { _, held := l.census(); return len(held) == infected })
	time.Sleep(time.Until(midnight))
	persistent := func() []dossier.Decision {
		return slices.DeleteFunc(l.decisions(), func(d dossier.Decision) bool {
			return !strings.HasPrefix(d.Steps[0].Who, "guard edge") || d.Verdict == dossier.Refused
		})
	}
	l.await(10*time.Second, "persistent sources are blocked", func() bool { l.census(); return len(persistent()) > 0 })
	for _, d := range persistent() {
		if at := d.Steps[0].Time.Time(); at.Before(midnight) || !strings.Contains(d.Why, "1 days in a row") {
			t.Errorf("%s: proposed at %v because %s; want after midnight %v", d.Target, at, d.Why, midnight)
		}
	}
	// A source that the station had blocked before stays blocked e times as
	// long, and again.
	l.await(25*time.Second, "blocks of persistent sources end", func() bool {
		l.census()
		return !slices.ContainsFunc(persistent(), func(d dossier.Decision) bool { return d.Verdict != dossier.Expired })
	})
	l.t.Logf("%d persistent sources were blocked, at most %d addresses may be", len(persistent()), blocks)
}

// checkAlarm looks at the order of the station's blocks.
func (l *isp) checkAlarm() {
	l.t.Helper()
	turns := map[flow.Time]int{}
	var times []flow.Time
	for _, d := range blocksOf(l.decisions()) {
		if d.Steps[0].Who != "station" || d.Steps[0].Verdict != dossier.Active {
			continue
		}
		if at := d.Steps[0].Time; turns[at] == 0 {
			times = append(times, at)
		}
		turns[d.Steps[0].Time]++
	}
	sizes := []int{}
	for _, at := range times {
		sizes = append(sizes, turns[at])
	}
	l.t.Logf("new blocks of the station, turn by turn: %v", sizes)
	if len(sizes) < 2 || sizes[0] > 2 || slices.Max(sizes) <= sizes[0] {
		l.t.Errorf("new blocks %v; want one or two at first, and more later", sizes)
	}
}

// checkReceipts asks where a decision took effect.
func (l *isp) checkReceipts() {
	l.t.Helper()
	for _, d := range l.decisions() {
		if d.Standing != nil {
			if text := l.run("decision", "show", d.ID, "--data", l.dir+"/data"); !strings.Contains(text, "guard edge1: applied true") || !strings.Contains(text, "guard edge2: applied true") {
				l.t.Errorf("no receipts for the standing decision:\n%s", text)
			}
			return
		}
	}
	l.t.Error("there is no standing decision")
}

// checkStop stops everything, and lets it go on.
func (l *isp) checkStop(scanners []*scanner) {
	l.t.Helper()
	l.run("decision", "stop", "--data", l.dir+"/data", "--who", "ada", "--why", "the lab says so")
	l.await(3*time.Second, "everything ends after 'decision stop'", func() bool { blocked, held := l.census(); return len(blocked)+len(held) == 0 })
	passed := scanners[0].passed
	l.await(4*time.Second, "scans pass after 'decision stop'", func() bool { return scanners[0].passed > passed+20 })
	if blocked, held := l.census(); len(blocked)+len(held) > 0 {
		l.t.Errorf("%v and %v are hindered after 'decision stop'", blocked, held)
	}
	l.run("decision", "resume", "--data", l.dir+"/data")
	l.await(5*time.Second, "limits hold again after 'decision resume'", func() bool {
		return len(l.listed(0, "held4")) > 0 && len(l.listed(1, "held4")) > 0
	})
}

// checkLostStation kills the node: guards go on, say so, and hear the next one.
func (l *isp) checkLostStation() {
	l.t.Helper()
	if err := syscall.Kill(l.node.Pid(), syscall.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
	for i := range 2 {
		l.await(5*time.Second, "a guard says that the station is gone", func() bool { return strings.Contains(l.guards[i].Output(), "keeping the last policy") })
	}
	l.await(10*time.Second, "limits hold without the station", func() bool { return len(l.listed(0, "held4")) > 0 && len(l.listed(1, "held4")) > 0 })
	if l.t.Failed() {
		for i := range 2 {
			out := l.guards[i].Output()
			l.t.Logf("edge %d: held %v, blocked %v; it says\n%s", i+1, l.listed(i, "held4"), l.listed(i, "blocked4"), out[max(0, len(out)-3000):])
		}
	}
	decisions := len(l.decisions())
	l.startNode()
	for i := range 2 {
		l.await(5*time.Second, "a guard hears the station again", func() bool { return strings.Contains(l.guards[i].Output(), "station reachable again") })
	}
	if now := len(l.decisions()); now < decisions {
		l.t.Errorf("%d decisions after the restart, %d before", now, decisions)
	}
}

// checkEnd ends one guard kindly and kills the other: the first takes its table
// away, what the second held ends by itself, and its counts survive.
func (l *isp) checkEnd() {
	l.t.Helper()
	if err := l.guards[0].Stop(); err != nil {
		l.t.Error(err)
	}
	if out, err := l.edges[0].Run(context.Background(), "nft", "list", "tables"); err != nil || strings.Contains(out, "dragnet") {
		l.t.Errorf("the table is still there after the end: %s %v", out, err)
	}
	l.startGuard(0)
	l.await(6*time.Second, "the restarted guard holds its scanners back", func() bool { return len(l.listed(0, "held4")) > 0 })
	if strings.Contains(l.guards[0].Output(), "saved state ignored") {
		l.t.Errorf("the state was lost: %s", l.guards[0].Output())
	}
}
