package sdn

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"dragnet/contain/sdn/openflow"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// cloud is two machines and a middlebox at one bridge of Open vSwitch.
type cloud struct {
	lab                 *netlab.Lab
	one, two, box, host *netlab.Node
	v                   *netlab.VirtualSwitch
	c                   Configuration
}

const one, two = "10.77.0.1", "10.77.0.2"

func newCloud(t *testing.T) *cloud {
	t.Helper()
	testkit.Tool(t, "ovs-vswitchd")
	lab := netlab.For(t)
	nodes, err := lab.Nodes("host", "one", "two", "box")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ovs") // a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &cloud{lab: lab, host: nodes[0], one: nodes[1], two: nodes[2], box: nodes[3]}
	prefix := netip.MustParsePrefix
	err = errors.Join(
		lab.Wire(w.host, "v1", w.one, "eth0"), lab.Wire(w.host, "v2", w.two, "eth0"), lab.Wire(w.host, "v3", w.box, "eth0"),
		w.one.Address("eth0", prefix(one+"/24")), w.two.Address("eth0", prefix(two+"/24")),
		w.one.Address("eth0", prefix("fd77::1/64")), w.two.Address("eth0", prefix("fd77::2/64")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if w.v, err = w.host.VirtualSwitch(dir); err != nil {
		t.Fatal(err)
	}
	if err := w.v.AddBridge("br0", "v1", "v2", "v3"); err != nil {
		t.Fatal(err)
	}
	w.c = DefaultConfiguration()
	w.c.Name, w.c.Address, w.c.Enforce = "br0", w.v.Management("br0"), true
	return w
}

func (w *cloud) open(t *testing.T) *Switch {
	t.Helper()
	s, err := New(w.c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dump is what ovs-ofctl says of the bridge's rules, without what changes.
func (w *cloud) dump(t *testing.T) string {
	t.Helper()
	out, err := w.v.Flows("dump-flows", w.c.Address)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`duration=[0-9.]+s, |n_packets=\d+, |n_bytes=\d+, |hard_timeout=\d+, `).ReplaceAllString(out, "")
}

func reaches(t *testing.T, from *netlab.Node, to string) bool {
	t.Helper()
	_, err := from.Run(t.Context(), "ping", "-c", "1", "-W", "1", to)
	return err == nil
}

func now() flow.Time { return flow.FromTime(time.Now()) }

func blocking(target string, d time.Duration) dossier.Decision {
	return dossier.Decision{ID: "D" + target, Target: netip.MustParsePrefix(target), Verdict: dossier.Active, Until: now() + flow.Time(d)}
}

func apply(t *testing.T, s *Switch, decisions ...dossier.Decision) []dossier.Receipt {
	t.Helper()
	receipts, err := s.Apply(t.Context(), now(), decisions)
	if err != nil {
		t.Fatal(err)
	}
	if len(receipts) != len(decisions) {
		t.Fatalf("%d receipts for %d decisions", len(receipts), len(decisions))
	}
	return receipts
}

func TestDropStopsTheSourceAndNobodyElse(t *testing.T) {
	w := newCloud(t)
	s := w.open(t)
	before := w.dump(t)
	if !reaches(t, w.one, two) || !reaches(t, w.one, "fd77::2") {
		t.Fatal("the machines do not reach each other before anything is decided")
	}
	r := apply(t, s, blocking(one+"/32", time.Hour), blocking("fd77::1/128", time.Hour))
	if !r[0].Applied || !r[1].Applied || !strings.Contains(r[0].Proof, "drop") {
		t.Fatalf("receipts %+v", r)
	}
	dump := w.dump(t)
	if !strings.Contains(dump, "priority=65000,ip,nw_src="+one+" actions=drop") || !strings.Contains(dump, "priority=65000,ipv6,ipv6_src=fd77::1 actions=drop") {
		t.Errorf("ovs-ofctl lists\n%s", dump)
	}
	// The datapath forgets what it cached of the old rules within half a second or so.
	for _, to := range []string{two, "fd77::2"} {
		for tries := 0; reaches(t, w.one, to); tries++ {
			if tries == 50 {
				t.Fatalf("a blocked machine still reaches %s", to)
			}
			time.Sleep(100 * time.Millisecond)
		}
		reaches(t, w.one, to) // now by the rule, which counts it
	}
	// The counters are proof that packets matched.
	rules, err := s.Rules(t.Context())
	if err != nil || len(rules) != 2 || rules[0].Packets == 0 && rules[1].Packets == 0 {
		t.Errorf("rules %+v, %v", rules, err)
	}
	// The same again changes nothing, and keeps the counters.
	if r = apply(t, s, blocking(one+"/32", time.Hour), blocking("fd77::1/128", time.Hour)); !r[0].Applied || strings.Contains(r[0].Proof, "matched 0 packets") {
		t.Errorf("receipts %+v", r)
	}
	if apply(t, s); w.dump(t) != before {
		t.Errorf("without decisions ovs-ofctl lists\n%s\nand before\n%s", w.dump(t), before)
	}
	if !reaches(t, w.one, two) {
		t.Error("the machine is still blocked")
	}
}

func TestMeterAndRemove(t *testing.T) {
	w := newCloud(t)
	w.c.Restraint = Slow
	s := w.open(t)
	if r := apply(t, s, blocking(one+"/32", time.Hour)); !r[0].Applied {
		t.Fatalf("receipts %+v", r)
	}
	meters := func() string {
		out, err := w.v.Flows("dump-meters", w.c.Address)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := meters(); !strings.Contains(got, "meter=60000 kbps burst stats bands=") || !strings.Contains(got, "rate=1000 burst_size=1000") {
		t.Errorf("ovs-ofctl lists the meters\n%s", got)
	}
	if dump := w.dump(t); !strings.Contains(dump, "actions=meter:60000,NORMAL") {
		t.Errorf("ovs-ofctl lists\n%s", dump)
	}
	if !reaches(t, w.one, two) {
		t.Error("a metered machine cannot send at all")
	}
	w.c.Rate = 2000
	s = w.open(t)
	if apply(t, s, blocking(one+"/32", time.Hour)); !strings.Contains(meters(), "rate=2000") {
		t.Errorf("the rate did not change: %s", meters())
	}
	if n, err := s.Remove(t.Context()); err != nil || n != 1 || strings.Contains(meters(), "meter=60000") || strings.Contains(w.dump(t), "0x64726167") {
		t.Errorf("removed %d, %v; left %s and %s", n, err, meters(), w.dump(t))
	}
	// A meter whose rules have expired meanwhile goes with the next call.
	if _, err := w.v.Flows("add-meter", w.c.Address, "meter=60000,kbps,band=type=drop,rate=5"); err != nil {
		t.Fatal(err)
	}
	if apply(t, s); strings.Contains(meters(), "meter=60000") {
		t.Errorf("the meter stays: %s", meters())
	}
}

func TestRerouteSendsToThePort(t *testing.T) {
	w := newCloud(t)
	w.c.Restraint, w.c.Port = Reroute, "v3"
	s := w.open(t)
	captured, err := w.box.Start("tcpdump", "-n", "-l", "-i", "eth0", "icmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := captured.Await(t.Context(), "listening on"); err != nil {
		t.Fatal(err)
	}
	if !reaches(t, w.one, two) {
		t.Fatal("no path before")
	}
	number, err := w.v.Set("get", "Interface", "v3", "ofport")
	if err != nil {
		t.Fatal(err)
	}
	if r := apply(t, s, blocking(one+"/32", time.Hour)); !r[0].Applied || !strings.Contains(r[0].Proof, "output to port "+strings.TrimSpace(number)+",") {
		t.Fatalf("receipts %+v", r)
	}
	for tries := 0; reaches(t, w.one, two); tries++ { // until the datapath forgets what it cached
		if tries == 50 {
			t.Fatal("packets still go the direct way")
		}
		time.Sleep(100 * time.Millisecond)
	}
	reaches(t, w.one, two) // now by the rule
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := captured.Await(ctx, "ICMP echo request"); err != nil {
		t.Errorf("the middlebox saw nothing: %v", err)
	}
	for _, port := range []string{"v9", "br0"} {
		w.c.Port = port
		r, err := w.open(t).Apply(t.Context(), now(), []dossier.Decision{blocking(one+"/32", time.Hour)})
		if err == nil || r[0].Applied {
			t.Errorf("port %s: %+v, %v", port, r, err)
		}
	}
}

// A rule that is not renewed expires, and one of an earlier run is found
// again or taken out.
func TestRulesOutliveNobody(t *testing.T) {
	w := newCloud(t)
	w.c.Lease = 2 * time.Second
	s := w.open(t)
	apply(t, s, blocking(one+"/32", time.Hour))
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(w.dump(t), "nw_src="+one); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the rule is there long after its lease")
		}
	}
	w.c.Lease = time.Hour
	apply(t, w.open(t), blocking(one+"/32", time.Hour), blocking("10.9.0.0/16", time.Hour))
	// Another process, after a restart, with one decision undone meanwhile, and a
	// rule with our cookie that we never made.
	if _, err := w.v.Flows("add-flow", w.c.Address, "cookie=0x6472616700000001,priority=7,tcp,nw_src=10.8.0.0/16,tp_dst=80,actions=drop"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.v.Flows("add-flow", w.c.Address, "cookie=0x77,priority=7,tcp,nw_src=10.8.0.0/16,tp_dst=81,actions=drop"); err != nil {
		t.Fatal(err)
	}
	r := apply(t, w.open(t), blocking("10.9.0.0/16", time.Hour))
	dump := w.dump(t)
	if !r[0].Applied || strings.Contains(dump, one) || strings.Contains(dump, "tp_dst=80") || !strings.Contains(dump, "nw_src=10.9.0.0/16") || !strings.Contains(dump, "tp_dst=81") {
		t.Errorf("%+v\n%s", r, dump)
	}
}

func TestNothingIsTouchedWithoutAnActiveDecision(t *testing.T) {
	w := newCloud(t)
	w.c.Allow = []netip.Prefix{netip.MustParsePrefix(two + "/32")}
	s := w.open(t)
	before := w.dump(t)
	dry, expired, standing := blocking(one+"/32", time.Hour), blocking(one+"/32", -time.Second), blocking(one+"/32", time.Hour)
	dry.Verdict, standing.Standing = dossier.DryRun, &dossier.Standing{Rule: "daw", Most: 1}
	for _, r := range apply(t, s, dry, expired, standing, blocking("0.0.0.0/0", time.Hour), blocking(two+"/32", time.Hour), blocking("10.77.0.0/24", time.Hour)) {
		if r.Applied || !strings.HasPrefix(r.Problem, "not applied") {
			t.Errorf("receipt %+v", r)
		}
	}
	if w.dump(t) != before {
		t.Errorf("the switch changed to\n%s", w.dump(t))
	}
	apply(t, s, blocking(one+"/32", time.Hour))
	w.c.Enforce = false
	r := apply(t, w.open(t), blocking(one+"/32", time.Hour))
	if r[0].Applied || !strings.HasPrefix(r[0].Problem, "dry run") || w.dump(t) != before {
		t.Errorf("a dry run: %+v\n%s", r, w.dump(t))
	}
}

// A switch keeps its other controllers, and what it does without them, when we
// are added as it is documented.
func TestOtherControllersAreLeftAlone(t *testing.T) {
	w := newCloud(t)
	other, err := net.Listen("unix", w.v.Management("other")[len("unix:"):])
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := w.v.Set("set-controller", "br0", w.v.Management("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.v.Set("--id=@c", "create", "Controller", `target="ptcp:6653:127.0.0.1"`, "--", "add", "Bridge", "br0", "controller", "@c"); err != nil {
		t.Fatal(err)
	}
	conn, err := other.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if m, err := openflow.ReadMessage(conn); err != nil || m.Type != openflow.Hello {
		t.Fatalf("%+v, %v", m, err)
	}
	w.c.Address = "tcp:127.0.0.1:6653"
	s := w.open(t)
	err = w.host.Do(func() error {
		_, err := s.Apply(t.Context(), now(), []dossier.Decision{blocking(one+"/32", time.Hour)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// It did not close the other's connection, nor tell it anything.
	_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if m, err := openflow.ReadMessage(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other controller received %+v, %v", m, err)
	}
	if out, err := w.v.Set("get-controller", "br0"); err != nil || !strings.Contains(out, "other.mgmt") {
		t.Errorf("%s, %v", out, err)
	}
}
