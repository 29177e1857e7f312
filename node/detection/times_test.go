package detection

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/ingest"
	"dragnet/simulate/cloud"
)

// valueOf is the value of a gauge or a counter.
func valueOf(c prometheus.Collector) float64 {
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		panic(err)
	}
	m := families[0].GetMetric()[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

// cloudRun is an attack, and the file that lists its machines.
func cloudRun(t *testing.T, change func(*cloud.Configuration)) (*cloud.Run, string) {
	t.Helper()
	c := cloud.Paper(12, false, 5)
	if change != nil {
		change(&c)
	}
	run, err := cloud.Simulate(c)
	if err != nil {
		t.Fatal(err)
	}
	var list bytes.Buffer
	if err := run.WriteVMs(&list); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "machines.csv")
	if err := os.WriteFile(path, list.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return run, path
}

func openTimes(t *testing.T, change func(*Configuration)) *kept {
	t.Helper()
	k := &kept{all: map[string]dossier.Finding{}}
	c := DefaultConfiguration()
	c.Every = 0
	c.Coresidence.Times.Window, c.Coresidence.Times.Delay = 1200*time.Second, 5*time.Second
	change(&c)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	site := flow.Site{Name: "cloud", Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	var err error
	if k.Detection, err = New(c, Dependencies{Site: site, Findings: k, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Stop(context.Background()) })
	return k
}

// watch gives the flows to a detection as they end, a minute at a time.
func watch(t *testing.T, k *kept, run *cloud.Run) {
	t.Helper()
	now := run.Start
	for len(run.Flows) > 0 {
		now += flow.Time(time.Minute)
		n := 0
		for n < len(run.Flows) && run.Flows[n].Start < now {
			n++
		}
		k.Add(run.Flows[:n])
		run.Flows = run.Flows[n:]
		update(t, k, now.Time())
		for _, d := range k.times {
			d.wait.Wait()
		}
	}
	// What has not been compared yet comes with the last of it.
	for range 3 {
		now += flow.Time(2 * time.Minute)
		update(t, k, now.Time())
		for _, d := range k.times {
			d.wait.Wait()
		}
	}
}

func named(k *kept) map[netip.Addr]dossier.Finding {
	by := map[netip.Addr]dossier.Finding{}
	for _, f := range k.all {
		by[f.Addr] = f
	}
	return by
}

func TestCoresidenceIsFoundContinuously(t *testing.T) {
	run, path := cloudRun(t, nil)
	k := openTimes(t, func(c *Configuration) {
		c.Coresidence.Machines, c.Coresidence.Times.Propose = path, true
	})
	attackers := map[netip.Addr]bool{run.Master: true, run.Sink: true, run.Flooders[0]: true, run.Flooders[1]: true}
	master, flooders := run.Master, run.Flooders
	watch(t, k, run)
	by := named(k)
	for a, f := range by {
		if !attackers[a] {
			t.Errorf("%s is accused: %s", a, f.Summary)
		}
		if f.Evidence.P == nil || *f.Evidence.P > 0.01 || len(f.Evidence.Peers) == 0 || len(f.Evidence.Times) < 5 || f.First != f.Evidence.Times[0] && len(f.Evidence.Times) < 200 {
			t.Errorf("%+v", f)
		}
	}
	for _, a := range append([]netip.Addr{master}, flooders...) {
		if _, ok := by[a]; !ok {
			t.Errorf("%s is not found", a)
		}
	}
	if len(k.found) != len(by) {
		t.Errorf("%d findings are new for %d machines: a later look made others", len(k.found), len(by))
	}
	if len(k.asked) != len(k.found) {
		t.Errorf("%d blocks are proposed for %d findings", len(k.asked), len(k.found))
	}
}

func TestQuietCloudHasNoFindings(t *testing.T) {
	run, path := cloudRun(t, func(c *cloud.Configuration) { c.Flooders, c.Seconds = 0, 2400 })
	k := openTimes(t, func(c *Configuration) { c.Coresidence.Machines = path })
	watch(t, k, run)
	if len(k.all) > 0 {
		t.Errorf("%+v", k.all)
	}
	m := k.times[0].metrics
	if valueOf(m.runs) < 20 || valueOf(m.machines) != 13 || valueOf(m.pairs) < 70 || valueOf(m.observed) < 900 {
		t.Errorf("%v runs over %v machines, %v pairs, %v intervals", valueOf(m.runs), valueOf(m.machines), valueOf(m.pairs), valueOf(m.observed))
	}
}

// Flows of the future, as of a forger or a clock that is wrong, neither move the
// window away from what happens, nor count.
func TestFlowsOfTheFuture(t *testing.T) {
	run, path := cloudRun(t, nil)
	flooders := run.Flooders
	k := openTimes(t, func(c *Configuration) { c.Coresidence.Machines = path })
	forged := run.Flows[0]
	forged.Orig = run.Master
	for _, ahead := range []time.Duration{time.Hour, 1000 * time.Hour, 1<<63 - 1} {
		forged.Start = run.Start + flow.Time(min(ahead, 1<<62))
		k.Add([]flow.Flow{forged, forged})
	}
	forged.Start, forged.Duration = run.Start, 1<<62
	k.Add([]flow.Flow{forged})
	watch(t, k, run)
	by := named(k)
	for _, a := range flooders {
		if _, ok := by[a]; !ok {
			t.Errorf("%s is not found", a)
		}
	}
}

// What happened before a restart is read from the store.
func TestTestsAcrossARestart(t *testing.T) {
	run, path := cloudRun(t, nil)
	flooders := run.Flooders
	dir := filepath.Join(t.TempDir(), "data")
	place, err := ingest.OpenWriter(t.Context(), dir, "2026-01-01")
	if err != nil {
		t.Fatal(err)
	}
	half := len(run.Flows) * 2 / 3
	if err := errors.Join(place.Append(t.Context(), run.Flows[:half]), place.Commit(), place.Close()); err != nil {
		t.Fatal(err)
	}
	stored, err := ingest.OpenReader(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	rest := *run
	rest.Flows = run.Flows[half:]
	find := func(prime bool) map[netip.Addr]dossier.Finding {
		k, part := openTimes(t, func(c *Configuration) { c.Coresidence.Machines = path }), rest
		if prime {
			if err := k.Prime(t.Context(), stored); err != nil {
				t.Fatal(err)
			}
		}
		watch(t, k, &part)
		return named(k)
	}
	if by := find(false); len(by) > 0 {
		t.Fatalf("a third of the tests is found: the test proves nothing: %v", by)
	}
	by := find(true)
	for _, a := range flooders {
		if _, ok := by[a]; !ok {
			t.Errorf("%s is not found", a)
		}
	}
}

// A list that cannot be read is asked for again, and flows wait until then.
func TestListsThatCannotBeRead(t *testing.T) {
	run, path := cloudRun(t, nil)
	late := filepath.Join(t.TempDir(), "late.csv")
	flooders := run.Flooders
	k := openTimes(t, func(c *Configuration) { c.Coresidence.Machines = late })
	first := *run
	first.Flows = run.Flows[:len(run.Flows)/8]
	run.Flows = run.Flows[len(run.Flows)/8:]
	watch(t, k, &first)
	if valueOf(k.times[0].metrics.failed) == 0 {
		t.Error("a missing list counts nowhere")
	}
	list, _ := os.ReadFile(path)
	if err := os.WriteFile(late, list, 0o600); err != nil {
		t.Fatal(err)
	}
	watch(t, k, run)
	by := named(k)
	for _, a := range flooders {
		if _, ok := by[a]; !ok {
			t.Errorf("%s is not found", a)
		}
	}
	if err := os.WriteFile(late, []byte("address,tenant\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if vms, err := k.c.Coresidence.listMachines(t.Context()); err == nil {
		t.Errorf("an empty list is %v", vms)
	}
}

// bots of our networks that hear one command, among others that do not.
func bots(hosts, members int) *cloud.Run {
	rng := rand.New(rand.NewPCG(1, 9))
	run := &cloud.Run{Start: flow.FromTime(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))}
	add := func(host int, minute float64) {
		run.Flows = append(run.Flows, flow.Flow{
			Start: run.Start + flow.Time(minute*float64(time.Minute)), Duration: 20 * time.Second, Known: flow.Lasting | flow.Counts, OrigPkts: 9, OrigIPBytes: 900,
			Orig: netip.AddrFrom4([4]byte{10, 9, byte(host >> 8), byte(host)}), Resp: netip.AddrFrom4([4]byte{198, 51, 100, byte(rng.IntN(250))}), RespPort: 443, Proto: flow.TCP,
		})
	}
	for minute := range 600 {
		for h := range hosts {
			if rng.Float64() < 0.03 {
				add(h, float64(minute)+rng.Float64())
			}
		}
		if rng.Float64() < 0.06 {
			for h := range members {
				add(h, float64(minute)+rng.Float64()*0.3)
			}
		}
	}
	return run
}

func TestBotsAreFoundContinuously(t *testing.T) {
	const members = 4
	k := openTimes(t, func(c *Configuration) {
		c.Synchrony.Times.Every, c.Synchrony.Times.Window, c.Synchrony.Most = 30*time.Minute, 10*time.Hour, 60
	})
	run := bots(60, members)
	watchSorted(t, k, run)
	by := named(k)
	for h := range members {
		a := netip.AddrFrom4([4]byte{10, 9, 0, byte(h)})
		if f, ok := by[a]; !ok || len(f.Evidence.Peers) != members-1 || f.Kind != "synchronised-hosts" {
			t.Errorf("%s: %+v", a, f)
		}
		delete(by, a)
	}
	if len(by) > 0 || len(k.asked) > 0 {
		t.Errorf("accused are %v, and %d blocks proposed", by, len(k.asked))
	}
}

func watchSorted(t *testing.T, k *kept, run *cloud.Run) {
	t.Helper()
	for at := 0; at < len(run.Flows); {
		now, n := run.Flows[at].Start+flow.Time(10*time.Minute), at
		for n < len(run.Flows) && run.Flows[n].Start < now {
			n++
		}
		part := *run
		part.Flows, part.Start = run.Flows[at:n], now-flow.Time(time.Minute)
		watch(t, k, &part)
		at = n
	}
}

// Forged sources fill the table of hosts, which is bounded, and have left it once
// they are silent for a window.
func TestForgedHostsLeave(t *testing.T) {
	k := openTimes(t, func(c *Configuration) {
		c.Synchrony.Times.Every, c.Synchrony.Times.Window, c.Synchrony.Most = time.Minute, time.Hour, 50
	})
	forged := bots(500, 0)
	forged.Flows = forged.Flows[:2000]
	watchSorted(t, k, forged)
	d := k.times[0]
	if len(d.hosts) > 50 || valueOf(d.metrics.refused) == 0 {
		t.Fatalf("%d hosts, %v refused", len(d.hosts), valueOf(d.metrics.refused))
	}
	later := bots(20, 0)
	for i := range later.Flows {
		later.Flows[i].Start += flow.Time(24 * time.Hour)
		later.Flows[i].Orig = netip.AddrFrom4([4]byte{10, 77, 0, later.Flows[i].Orig.As4()[3]})
	}
	later.Flows = later.Flows[:300]
	watchSorted(t, k, later)
	there := 0
	for a := range d.hosts {
		if a.As4()[1] == 77 {
			there++
		}
	}
	if there != 20 {
		t.Errorf("%d of 20 later hosts are compared, among %d", there, len(d.hosts))
	}
}

func TestTimesSettings(t *testing.T) {
	for _, spoil := range []func(*Configuration){
		func(c *Configuration) { c.Coresidence.Times.Window = time.Second },
		func(c *Configuration) { c.Coresidence.Times.Rate = 0 },
		func(c *Configuration) { c.Coresidence.Times.Delay = -1 },
		func(c *Configuration) { c.Coresidence.Times.Interval = 0 },
		func(c *Configuration) { c.Coresidence.Machines, c.Coresidence.Databases = "x", []string{"unix:x"} },
		func(c *Configuration) { c.Synchrony.Times.Every = time.Millisecond },
		func(c *Configuration) { c.Synchrony.Most = 1 },
	} {
		c := DefaultConfiguration()
		if spoil(&c); c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
