package detection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/detect/coresidence"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/metric"
	"dragnet/source/ovsdb"
	"dragnet/store"
)

// Times configures a detector that compares when hosts begin to transmit.
type Times struct {
	// Every is the interval between its runs; 0 disables it.
	Every time.Duration `yaml:"every"`
	// Interval is that of the comparison: no shorter than the active timeout of
	// exports, or a flow seems to last too long.
	Interval time.Duration `yaml:"interval"`
	// Window is the time that is compared, up to now.
	Window time.Duration `yaml:"window"`
	// Delay is how late exports and logs may arrive.
	Delay time.Duration `yaml:"delay"`
	// Rate is the share of the findings within one window of time that may be
	// wrong.
	Rate float64 `yaml:"rate"`
	// Lags is the largest delay between two hosts, in intervals.
	Lags int `yaml:"lags"`
	// Quiet is the number of sixty-fourths of an interval, from 1, in which a host
	// transmits before it counts as active.
	Quiet int `yaml:"quiet"`
	// Propose proposes a block for each new finding, also for one of our own
	// hosts.
	Propose bool `yaml:"propose"`
}

func defaultTimes(interval, window time.Duration) Times {
	d := coresidence.DefaultConfiguration()
	return Times{Interval: interval, Window: window, Delay: 10 * time.Second, Rate: d.Rate, Lags: d.Lags, Quiet: d.Quiet}
}

// detectorConfiguration returns the detector's configuration. Runs look at windows that overlap,
// so that each has its part of the rate only (a union bound over the runs of one
// window).
func (c *Times) detectorConfiguration() coresidence.Configuration {
	looks := max(1, float64(c.Window)/float64(max(c.Every, 1)))
	return coresidence.Configuration{Rate: c.Rate / looks, Lags: c.Lags, Quiet: c.Quiet}
}

func (c *Times) checkTimes(p *conf.Problems, key string) {
	if c.Every == 0 {
		return
	}
	p.Check(c.Every >= time.Second && c.Every <= 24*time.Hour, key+".every", "is %v; want 1s to 24h, or 0 for no detection", c.Every)
	p.Check(c.Interval >= 100*time.Millisecond && c.Interval <= time.Hour, key+".interval", "is %v; want 100ms to 1h", c.Interval)
	p.Check(c.Interval <= 0 || c.Window/c.Interval >= 60 && c.Window/c.Interval <= 1<<14, key+".window", "is %v; want 60 to %d intervals", c.Window, 1<<14)
	p.Check(c.Delay >= 0 && c.Delay <= time.Hour, key+".delay", "is %v; want 0 to 1h", c.Delay)
	compare := coresidence.Configuration{Rate: c.Rate, Lags: c.Lags, Quiet: c.Quiet}
	if err := compare.Validate(); err != nil {
		p.Error(key, err)
	}
}

// Coresidence finds tenants of a cloud who verify co-residence.
type Coresidence struct {
	// Times says when machines are compared, and how.
	Times Times `yaml:"times"`
	// Machines is a CSV file with the address and the tenant of each virtual
	// machine, read again before each run.
	Machines string `yaml:"machines"`
	// Databases are those of Open vSwitch on the cloud's servers, such as
	// unix:/run/openvswitch/db.sock or tcp:192.0.2.1:6640, asked instead.
	Databases []string `yaml:"databases"`
	// Northbound is the address of OVN's northbound database, which knows the
	// tenants in addition.
	Northbound string `yaml:"northbound"`
}

// Synchrony finds hosts of our networks that act together, such as members of a
// botnet.
type Synchrony struct {
	// Times says when hosts are compared, and how.
	Times Times `yaml:"times"`
	// Most is the number of hosts compared; those seen later have no place until
	// others are silent for a window.
	Most int `yaml:"most"`
}

// maxWaiting bounds the flows that wait while a comparison runs.
const maxWaiting = 1 << 18

// ahead is how far the clock of an exporter may be ahead of ours.
const ahead = time.Minute

// times runs one detector that compares times. The follower's goroutine calls its
// methods, and a comparison runs in another.
type times struct {
	name string
	c    Times
	log  *slog.Logger
	what coresidence.Describe
	// list asks for the machines; nil if they are the hosts of networks.
	list     func(context.Context) ([]coresidence.VM, error)
	networks []netip.Prefix
	most     int

	activity *coresidence.Activity // nil until machines are known; not ours while running
	hosts    map[netip.Addr]bool   // that are compared; nil if not known yet
	fresh    bool                  // hosts has others than activity
	listed   bool                  // list has answered once
	waiting  []flow.Flow
	newest   flow.Time // the latest end of a flow, and so how far the logs are
	clock    flow.Time // of the last tick
	added    bool
	next     time.Time
	running  chan ran // nil if no comparison runs
	wait     sync.WaitGroup
	problem  string
	kept     map[string]flow.Time // findings kept, with their last interval

	metrics timesMetrics
}

// ran is what a comparison brought.
type ran struct {
	vms      []coresidence.VM // nil if they are the hosts of networks
	result   coresidence.Result
	findings []dossier.Finding
	err      error
}

type timesMetrics struct {
	missed, future, refused, runs, failed                   prometheus.Counter
	machines, active, pairs, observed, interrupted, dropped prometheus.Gauge
}

// newTimesMetrics makes the metrics of all detectors that compare times.
func newTimesMetrics(under metric.Maker) func(detector string) timesMetrics {
	counters := func(name, help string) func(string) prometheus.Counter {
		v := under.Counters("compare_"+name, help, "detector")
		return func(detector string) prometheus.Counter { return v.WithLabelValues(detector) }
	}
	gauges := func(name, help string) func(string) prometheus.Gauge {
		v := under.Gauges("compare_"+name, help, "detector")
		return func(detector string) prometheus.Gauge { return v.WithLabelValues(detector) }
	}
	missed := counters("missed_flows_total", "Flows that were not compared because too many waited.")
	future := counters("future_flows_total", "Flows that were not compared because they end in the future or before they begin.")
	refused := counters("refused_total", "Ends of flows whose host was not compared because there were too many hosts.")
	runs := counters("runs_total", "Comparisons of when hosts begin to transmit.")
	failed := counters("failed_total", "Comparisons that failed, and machines that could not be listed.")
	machines := gauges("machines", "Machines in the last comparison.")
	active := gauges("active_machines", "Those of them that transmitted.")
	pairs := gauges("pairs", "Pairs compared.")
	observed := gauges("observed_intervals", "Intervals in which any flow was seen.")
	interrupted := gauges("interrupted_machines", "Machines whose switch exported nothing for a while.")
	dropped := gauges("dropped_pairs", "Conspicuous pairs that were not tested because the table was full.")
	return func(d string) timesMetrics {
		return timesMetrics{
			missed(d), future(d), refused(d), runs(d), failed(d), machines(d), active(d), pairs(d), observed(d), interrupted(d), dropped(d),
		}
	}
}

func (t *times) isRelevant(f *flow.Flow) bool {
	if t.list != nil {
		return !t.listed || t.hosts[f.Orig] || t.hosts[f.Resp]
	}
	found := false
	for _, a := range []netip.Addr{f.Orig, f.Resp} {
		switch {
		case t.hosts[a]:
			found = true
		case !flow.Within(t.networks, a):
		case len(t.hosts) < t.most:
			t.hosts[a], t.fresh, found = true, true, true
		default:
			t.metrics.refused.Inc()
		}
	}
	return found
}

// addFlows keeps flows until startDue has room for them.
func (t *times) addFlows(batch []flow.Flow) {
	for i := range batch {
		f := &batch[i]
		if f.Start <= t.clock {
			t.newest = max(t.newest, f.Start) // also of hosts that have no place
		}
		if !t.isRelevant(f) {
			continue
		}
		if len(t.waiting) >= maxWaiting {
			t.metrics.missed.Inc()
			continue
		}
		t.waiting = append(t.waiting, *f)
	}
}

// windowStart returns the start of the window to compare: logs that are read late hold it
// back.
func (t *times) windowStart(now flow.Time) flow.Time {
	for i := range t.waiting {
		t.newest = max(t.newest, min(t.waiting[i].End(), now))
	}
	interval := flow.Time(t.c.Interval)
	start := min(now, t.newest) - flow.Time(t.c.Delay) - flow.Time(t.c.Window)
	return start - start%interval
}

// moveWindow moves the window on and adds what waits.
func (t *times) moveWindow(now flow.Time) error {
	t.dropFuture(now)
	if t.list != nil && !t.listed {
		return nil
	}
	start := t.windowStart(now)
	if t.list == nil {
		if err := t.takeHosts(start); err != nil {
			return err
		}
	}
	if t.activity == nil {
		return nil
	}
	t.activity.Advance(start)
	if len(t.waiting) > 0 {
		t.activity.Add(t.waiting)
		t.waiting, t.added = t.waiting[:0], true
	}
	t.dropSilent()
	return nil
}

// dropFuture drops flows that have not ended yet: of a forger, who could move the
// window away or make a machine seem to transmit for ever, or of a clock that is
// wrong.
func (t *times) dropFuture(now flow.Time) {
	t.waiting = slices.DeleteFunc(t.waiting, func(f flow.Flow) bool {
		future := f.Duration < 0 || f.End() < f.Start || f.End() > now+flow.Time(ahead)
		if future {
			t.metrics.future.Inc()
		}
		return future
	})
}

func (t *times) setMachines(vms []coresidence.VM, start flow.Time) (err error) {
	if t.activity != nil {
		return t.activity.SetMachines(vms)
	}
	room := int((t.c.Delay+ahead+t.c.Every)/t.c.Interval) + 1
	t.activity, err = coresidence.NewWindow(vms, start, t.c.Interval, int(t.c.Window/t.c.Interval), min(room, 1<<14))
	return err
}

// takeList makes vms the machines to compare.
func (t *times) takeList(vms []coresidence.VM, start flow.Time) error {
	t.listed, t.hosts = true, make(map[netip.Addr]bool, len(vms))
	for i := range vms {
		t.hosts[vms[i].Address] = true
	}
	return t.setMachines(vms, start)
}

// takeHosts makes the hosts that were seen the machines to compare.
func (t *times) takeHosts(start flow.Time) error {
	if !t.fresh || len(t.hosts) == 0 {
		return nil
	}
	t.fresh = false
	var vms []coresidence.VM
	for _, a := range slices.SortedFunc(maps.Keys(t.hosts), netip.Addr.Compare) {
		vms = append(vms, coresidence.VM{Address: a, Tenant: a.String()})
	}
	return t.setMachines(vms, start)
}

// dropSilent makes room for other hosts.
func (t *times) dropSilent() {
	if t.list != nil || len(t.hosts) < t.most {
		return
	}
	for a := range t.activity.Silent() {
		delete(t.hosts, a)
		t.fresh = true
	}
}

// startDue starts a comparison if one is due, and returns what the last one found that
// is new or has changed.
func (t *times) startDue(ctx context.Context, now time.Time) []dossier.Finding {
	var changed []dossier.Finding
	if t.running != nil {
		select {
		case r := <-t.running:
			t.running = nil
			changed = t.takeResult(r, flow.FromTime(now))
		default:
			return nil
		}
	}
	t.clock = flow.FromTime(now)
	if err := t.moveWindow(t.clock); err != nil {
		t.reportProblem(err)
	}
	due := !now.Before(t.next) || t.next.Sub(now) > t.c.Every
	if due && (t.added || t.list != nil && !t.listed) {
		t.next, t.added = now.Add(t.c.Every), false
		t.startComparison(ctx)
	}
	return changed
}

func (t *times) startComparison(ctx context.Context) {
	done, activity := make(chan ran, 1), t.activity
	t.running = done
	t.wait.Go(func() {
		var r ran
		if activity != nil {
			if r.result, r.err = coresidence.Detect(ctx, activity, t.c.detectorConfiguration()); r.err == nil {
				r.findings = t.what.Findings(r.result)
			}
		}
		if t.list != nil {
			var err error
			if r.vms, err = t.list(ctx); err != nil {
				r.err = errors.Join(r.err, fmt.Errorf("list the machines: %w", err))
			}
		}
		done <- r
	})
}

// takeResult uses what a comparison brought.
func (t *times) takeResult(r ran, now flow.Time) (changed []dossier.Finding) {
	t.reportProblem(r.err)
	if len(r.vms) > 0 {
		t.reportProblem(t.takeList(r.vms, t.windowStart(now)))
	}
	if r.result.VMs > 0 {
		t.countCompared(r.result)
	}
	for _, f := range r.findings {
		if last, ok := t.kept[f.ID]; !ok || last != f.Last {
			changed = append(changed, f)
		}
	}
	for id, last := range t.kept {
		if t.activity != nil && last < t.activity.Start {
			delete(t.kept, id)
		}
	}
	return changed
}

// reportProblem logs a problem once, until there is another or none.
func (t *times) reportProblem(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		if err == nil {
			t.problem = ""
		}
		return
	}
	t.metrics.failed.Inc()
	if s := err.Error(); s != t.problem {
		t.problem = s
		t.log.Error("comparison of times failed", "detector", t.name, "err", err)
	}
}

// countCompared counts what was compared: nothing found means little without it.
func (t *times) countCompared(r coresidence.Result) {
	m := &t.metrics
	m.runs.Inc()
	m.machines.Set(float64(r.VMs))
	m.active.Set(float64(r.Active))
	m.pairs.Set(float64(r.SamePairs + r.CrossPairs))
	m.observed.Set(float64(r.Observed))
	m.interrupted.Set(float64(r.Interrupted))
	m.dropped.Set(float64(r.Dropped))
	t.log.Debug("times compared", "detector", t.name, "machines", r.VMs, "active", r.Active, "pairs", r.SamePairs+r.CrossPairs,
		"intervals", r.Intervals, "observed", r.Observed, "interrupted", r.Interrupted, "dropped_pairs", r.Dropped, "alarms", len(r.Alarms))
}

// readStored takes the stored flows of the current window.
func (t *times) readStored(ctx context.Context, s store.Reader, to flow.Time) error {
	if t.list != nil {
		vms, err := t.list(ctx)
		if err != nil {
			t.reportProblem(fmt.Errorf("list the machines: %w", err))
			return nil // it is asked again later
		}
		t.newest = to
		if err := t.takeList(vms, t.windowStart(to)); err != nil {
			return err
		}
	}
	from := to - flow.Time(t.c.Delay) - flow.Time(t.c.Window)
	_, err := s.Scan(ctx, flow.Window{From: from}, flow.Lasting|flow.Counts, flow.SerializeCalls(func(batch []flow.Flow) error {
		t.addFlows(batch)
		return t.moveWindow(to)
	}))
	return err
}

// listMachines asks where the configuration says which machines there are.
func (c *Coresidence) listMachines(ctx context.Context) ([]coresidence.VM, error) {
	if c.Machines != "" {
		f, err := os.Open(c.Machines)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		vms, err := coresidence.ReadVMs(f)
		if err == nil && len(vms) == 0 {
			err = errors.New("it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Machines, err)
		}
		return vms, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var ports []ovsdb.Port
	for _, address := range c.Databases {
		some, err := ovsdb.Ports(ctx, address)
		if err != nil {
			return nil, err
		}
		ports = append(ports, some...)
	}
	if c.Northbound != "" {
		logical, err := ovsdb.LogicalPorts(ctx, c.Northbound)
		if err != nil {
			return nil, err
		}
		ports = ovsdb.Merge(ports, logical)
	}
	var vms []coresidence.VM
	listed := map[netip.Addr]bool{}
	for _, p := range ports {
		for _, a := range p.Addresses {
			if p.Tenant != "" && !listed[a] {
				listed[a] = true
				vms = append(vms, coresidence.VM{Address: a, Tenant: p.Tenant, Name: p.Label()})
			}
		}
	}
	if len(vms) == 0 {
		return nil, fmt.Errorf("of %d ports in %v none has a tenant and an address", len(ports), c.Databases)
	}
	return vms, nil
}

func (c *Coresidence) isOff() bool {
	return c.Times.Every == 0 || c.Machines == "" && len(c.Databases) == 0
}
