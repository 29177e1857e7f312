package cloudlab

import (
	"net/netip"
	"testing"
	"time"

	"dragnet/contain/sdn"
	"dragnet/decide"
	"dragnet/detect/coresidence"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/simulate/cloud"
	"dragnet/source/ovsdb"
)

func newCloud(t *testing.T, c Configuration) *Cloud {
	t.Helper()
	testkit.Root(t)
	testkit.Long(t)
	for _, program := range []string{"ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ip", "tc"} {
		testkit.Tool(t, program)
	}
	w, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// machines are those that the switches' database lists.
func machines(t *testing.T, w *Cloud) (vms []coresidence.VM) {
	t.Helper()
	ports, err := ovsdb.Ports(t.Context(), w.Switch.Database())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		vms = append(vms, coresidence.VM{Address: p.Addresses[0], Tenant: p.Tenant, Name: p.Machine})
	}
	return vms
}

func mean(levels []float64) (m float64) {
	for _, x := range levels {
		m += min(1, x) / float64(len(levels))
	}
	return m
}

// detect looks for synchrony in what the switches exported.
func detect(t *testing.T, run *cloud.Run, vms []coresidence.VM, interval time.Duration) coresidence.Result {
	t.Helper()
	last := run.Ends[len(run.Ends)-1]
	a, err := coresidence.NewActivity(vms, run.Start, interval, int(time.Duration(last-run.Start)/interval)+1)
	if err != nil {
		t.Fatal(err)
	}
	a.Add(run.Flows)
	found, err := coresidence.Detect(t.Context(), a, coresidence.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The whole story on Open vSwitch: the attack works, the switches' own exports
// name the attacker, a rule stops the flooder, others go on, and it is undone. A node
// that watches meanwhile does the same by itself, but for the approval.
func TestCoResidenceIsVerifiedDetectedAndStopped(t *testing.T) {
	c := Short()
	c.Collectors = []string{nodeCollector}
	c.Rounds = 8 // the node looks several times, and so asks for more each time
	w := newCloud(t, c)
	watching := startNode(t, w)
	run, err := w.Attack()
	if err != nil {
		t.Fatal(err)
	}
	there, elsewhere := mean(run.Levels[0]), mean(run.Levels[1])
	t.Logf("mean alpha_min: co-resident %.3g, elsewhere %.3g; %d flows", there, elsewhere, len(run.Flows))
	if there > 0.3 || elsewhere < 2*there {
		t.Errorf("the attack does not tell: alpha_min %v co-resident and %v elsewhere", run.Levels[0], run.Levels[1])
	}

	vms := machines(t, w)
	if len(vms) != c.Servers+c.Inside+c.Flooders+2 {
		t.Fatalf("the database lists %d machines", len(vms))
	}
	found := detect(t, run, vms, c.Interval)
	named := map[netip.Addr]bool{}
	for _, a := range found.Alarms {
		t.Logf("%s with %d others, p %.2g, %d of %d (%.1f expected), explained by %v", a.VM.Name, len(a.Others), a.P, a.Hits, a.Onsets, a.Expected, a.ExplainedBy)
		if a.ExplainedBy != nil {
			continue
		}
		for _, vm := range a.Machines() {
			if vm.Tenant != attackerTenant {
				t.Errorf("%s of %s is accused", vm.Name, vm.Tenant)
			}
			named[vm.Address] = true
		}
	}
	if !named[run.Master] || !named[run.Flooders[0]] || !named[run.Flooders[1]] {
		t.Fatalf("named %v of master %s and flooders %v", named, run.Master, run.Flooders)
	}
	watching.check(t, append([]netip.Addr{run.Master}, run.Flooders...))
	stop(t, w, run.Flooders[0])
}

// stop blocks a flooder at its switch while it sends, and takes that back.
func stop(t *testing.T, w *Cloud, flooder netip.Addr) {
	t.Helper()
	before, err := w.Switch.Flows("dump-flows", w.Switch.Management("br0"), "--no-stats")
	if err != nil {
		t.Fatal(err)
	}
	slow, err := w.Measure(0)
	if err != nil {
		t.Fatal(err)
	}
	judgement := decide.DefaultConfiguration()
	judgement.Enforce = true
	judge, err := decide.New(judgement, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := func() flow.Time { return flow.FromTime(time.Now()) }
	d, err := judge.Propose(now(), dossier.Proposal{Target: netip.PrefixFrom(flooder, 32), Who: "coresidence", Why: "synchronised with its tenant's master"})
	if err != nil {
		t.Fatal(err)
	}
	config := sdn.DefaultConfiguration()
	config.Name, config.Address, config.Enforce = "br0", w.Switch.Management("br0"), true
	s, err := sdn.New(config)
	if err != nil {
		t.Fatal(err)
	}
	apply := func() []dossier.Receipt {
		t.Helper()
		r, err := s.Apply(t.Context(), now(), judge.Active(now()))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	flooding := make(chan error, 1)
	go func() { flooding <- w.Flood(0, 6*time.Second) }()
	start, _ := w.Received(flooder)
	awaitBytes(t, w, flooder, start+100_000)
	if r := apply(); len(r) != 0 {
		t.Errorf("a decision that waits for approval was applied: %+v", r)
	}
	if _, err := judge.Approve(now(), d.ID, "operator"); err != nil {
		t.Fatal(err)
	}
	decided := time.Now()
	if r := apply(); len(r) != 1 || !r[0].Applied {
		t.Fatalf("receipts %+v", r)
	}
	fast, err := w.Measure(-1) // while the flooder still tries
	if err != nil {
		t.Fatal(err)
	}
	if _, last := w.Received(flooder); last.After(decided.Add(w.c.Interval)) {
		t.Errorf("the flooder's packets arrived until %s after the decision", last.Sub(decided))
	}
	t.Logf("download %.2f MB/s while flooded, %.2f MB/s while the flooder is blocked", slow/1e6, fast/1e6)
	if fast < 1.5*slow {
		t.Errorf("the download has %v bytes/s while the flooder is blocked and had %v", fast, slow)
	}
	if r := apply(); len(r) != 1 || !r[0].Applied {
		t.Errorf("receipts %+v", r)
	} else {
		t.Log(r[0].Proof)
	}
	if rules, err := s.Rules(t.Context()); err != nil || len(rules) != 1 || rules[0].Packets == 0 {
		t.Errorf("rules %+v, %v: no packet matched", rules, err)
	}
	if err := <-flooding; err != nil {
		t.Fatal(err)
	}
	served, failed := 0, 0
	for _, x := range w.Downloads() {
		if x.Start.After(decided) {
			if served++; x.Err != nil {
				failed++
			}
		}
	}
	if served == 0 || failed > 0 {
		t.Errorf("%d of %d downloads of others failed meanwhile", failed, served)
	}

	if n, err := s.Remove(t.Context()); err != nil || n != 1 {
		t.Errorf("removed %d, %v", n, err)
	}
	after, err := w.Switch.Flows("dump-flows", w.Switch.Management("br0"), "--no-stats")
	if err != nil || after != before {
		t.Errorf("the switch lists\n%s\nand before\n%s", after, before)
	}
	start, _ = w.Received(flooder)
	if err := w.Flood(0, time.Second); err != nil {
		t.Fatal(err)
	}
	awaitBytes(t, w, flooder, start+100_000)
}

func awaitBytes(t *testing.T, w *Cloud, flooder netip.Addr, want uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if n, _ := w.Received(flooder); n >= want {
			return
		}
	}
	n, _ := w.Received(flooder)
	t.Fatalf("the sink received %d bytes of the flooder, want %d", n, want)
}

func TestConfigurationMistakes(t *testing.T) {
	for _, spoil := range []func(*Configuration){
		func(c *Configuration) { c.Bridges = 1 }, func(c *Configuration) { c.Servers = 0 }, func(c *Configuration) { c.Flooders = 9 },
		func(c *Configuration) { c.Interval = 0 }, func(c *Configuration) { c.Uplink = 1000 }, func(c *Configuration) { c.Export = "syslog" }, func(c *Configuration) { c.Export, c.Sampling = SFlow, 0 },
	} {
		c := Short()
		spoil(&c)
		if _, err := New(t.Context(), c); err == nil {
			t.Errorf("%+v is a cloud", c)
		}
	}
}
