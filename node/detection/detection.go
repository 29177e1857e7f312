// Package detection runs detectors over the flows that a node stores, and keeps
// their findings. After a restart it reads the current window from the store, so
// that a scanner cannot hide across a restart.
package detection

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/detect/coresidence"
	"dragnet/detect/failures"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/metric"
	"dragnet/store"
)

// Configuration of the detectors.
type Configuration struct {
	// Failures finds scanners by the connections they fail to make.
	Failures failures.Configuration `yaml:"failures"`
	// Every is the interval between runs of the detectors; 0 disables them.
	Every time.Duration `yaml:"every"`
	// Propose proposes a block for each new finding about a host outside our
	// networks.
	Propose bool `yaml:"propose"`
	// Coresidence finds tenants of a cloud who verify co-residence: machines of
	// one tenant, or of two, that begin to transmit at the same times.
	Coresidence Coresidence `yaml:"coresidence"`
	// Synchrony finds hosts of our networks that begin to transmit at the same
	// times, such as members of a botnet.
	Synchrony Synchrony `yaml:"synchrony"`
}

// DefaultConfiguration looks for scanners each minute and proposes nothing. Machines
// are compared once it is configured where they are listed, hosts once synchrony.times.every
// is set.
func DefaultConfiguration() Configuration {
	c := Configuration{
		Failures: failures.DefaultConfiguration(), Every: time.Minute,
		Coresidence: Coresidence{Times: defaultTimes(time.Second, time.Hour), Databases: []string{}},
		Synchrony:   Synchrony{Times: defaultTimes(time.Minute, 24*time.Hour), Most: 20_000},
	}
	c.Coresidence.Times.Every = time.Minute // once it knows where machines are listed
	return c
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Every == 0 || c.Every >= time.Second && c.Every <= time.Hour, "every", "is %v; want 1s to 1h, or 0 for no detection", c.Every)
	p.Section("failures", c.Failures.Validate())
	c.Coresidence.Times.checkTimes(&p, "coresidence.times")
	p.Check(c.Coresidence.Machines == "" || len(c.Coresidence.Databases) == 0, "coresidence.machines", "is set, and databases as well; want one of them")
	c.Synchrony.Times.checkTimes(&p, "synchrony.times")
	p.Check(c.Synchrony.Most >= 2 && c.Synchrony.Most <= 1<<17, "synchrony.most", "is %d; want 2 to %d", c.Synchrony.Most, 1<<17)
	return p.Join()
}

// Findings keeps the findings of detectors, and acts on them.
type Findings interface {
	// TakeFindings keeps findings, some of them again with more evidence, and
	// returns those that are new. With propose, it proposes a block for each new
	// one about a host outside our networks.
	TakeFindings(ctx context.Context, found []dossier.Finding, propose bool) (fresh []dossier.Finding, err error)
	// ProposeBlocks proposes a block for each, also of our own hosts.
	ProposeBlocks(found []dossier.Finding)
}

// Dependencies of a detection.
type Dependencies struct {
	// Site holds our networks, and the sources that are never judged.
	Site     flow.Site
	Findings Findings
	Log      *slog.Logger
	// Admin gets the metrics; it may be nil.
	Admin *admin.Server
}

// Detection runs the detectors. It is safe for concurrent use.
type Detection struct {
	c    Configuration
	deps Dependencies

	mu       sync.Mutex // guards what follows
	failures *failures.Detector
	newest   flow.Time
	added    bool
	next     time.Time
	kept     map[string]flow.Time // findings kept, with their last flow
	times    []*times

	findings, forgotten prometheus.Counter
}

// New makes a detection over the flows of a site.
func New(c Configuration, d Dependencies) (*Detection, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Failures.Networks, c.Failures.Exempt, c.Failures.Observer = d.Site.Networks, d.Site.Exempt, d.Site.Name
	under := metric.Under(d.Admin.Metrics(), "dragnet_")
	det := &Detection{
		c: c, deps: d, failures: failures.New(c.Failures), kept: map[string]flow.Time{},
		findings:  under.Counter("findings_total", "New findings of the detectors."),
		forgotten: under.Counter("detect_forgotten_total", "Groups of connections dropped because the table was full; a slow scanner may be missed."),
	}
	det.addTimes(newTimesMetrics(under))
	return det, nil
}

// addTimes adds the detectors that compare times.
func (d *Detection) addTimes(metrics func(detector string) timesMetrics) {
	add := func(c Times, t *times, kind string) {
		t.c, t.log, t.kept, t.hosts, t.metrics = c, d.deps.Log, map[string]flow.Time{}, map[netip.Addr]bool{}, metrics(t.name)
		t.what = coresidence.Describe{Detector: t.name, Kind: kind, Observer: d.deps.Site.Name, Exempt: d.deps.Site.Exempt}
		d.times = append(d.times, t)
	}
	if c := &d.c.Coresidence; !c.isOff() {
		add(c.Times, &times{name: "coresidence", list: c.listMachines}, "synchronised-machines")
	}
	if c := &d.c.Synchrony; c.Times.Every > 0 {
		add(c.Times, &times{name: "synchrony", networks: d.deps.Site.Networks, most: c.Most}, "synchronised-hosts")
	}
}

// Start does nothing: a detection works when it is ticked.
func (d *Detection) Start(context.Context) error { return nil }

// Stop waits until no comparison runs; the context of the last Tick ends them.
func (d *Detection) Stop(context.Context) error {
	for _, t := range d.times {
		t.wait.Wait()
	}
	return nil
}

// Prime reads the flows of the current window from a store.
func (d *Detection) Prime(ctx context.Context, s store.Reader) error {
	if d.c.Every == 0 && len(d.times) == 0 {
		return nil
	}
	cov, err := s.Coverage(ctx)
	if err != nil || cov.Flows == 0 {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.times {
		if err := t.readStored(ctx, s, cov.To); err != nil {
			return fmt.Errorf("read the window of %s: %w", t.name, err)
		}
	}
	if d.c.Every == 0 {
		return nil
	}
	_, err = s.Scan(ctx, flow.Window{From: d.windowStart(cov.To)}, failures.Columns, flow.SerializeCalls(func(batch []flow.Flow) error {
		d.addFailures(batch)
		return nil
	}))
	if err != nil {
		return fmt.Errorf("read the current window: %w", err)
	}
	return nil
}

// windowStart returns the start of the window before that of t; anything earlier
// can be forgotten.
func (d *Detection) windowStart(t flow.Time) flow.Time {
	span := flow.Time(d.c.Failures.Window)
	return t - t%span - span
}

// Add counts flows.
func (d *Detection) Add(batch []flow.Flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.times {
		t.addFlows(batch)
	}
	if d.c.Every > 0 {
		d.addFailures(batch)
	}
}

func (d *Detection) addFailures(batch []flow.Flow) {
	d.failures.Add(batch)
	for i := range batch {
		d.newest = max(d.newest, batch[i].Start)
	}
	d.added = d.added || len(batch) > 0
}

// Tick runs the detectors if they are due. Those that compare times run beside it,
// and what they find is kept by a later Tick.
func (d *Detection) Tick(ctx context.Context, now time.Time) error {
	if err := d.keepSynchronised(ctx, now); err != nil {
		return err
	}
	found := d.collectFindings(now)
	if len(found) == 0 {
		return nil
	}
	fresh, err := d.deps.Findings.TakeFindings(ctx, found, d.c.Propose)
	if err != nil {
		return fmt.Errorf("keep findings: %w", err)
	}
	d.findings.Add(float64(len(fresh)))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range found {
		d.kept[f.ID] = f.Last
	}
	return nil
}

// keepSynchronised keeps what the comparisons of times found.
func (d *Detection) keepSynchronised(ctx context.Context, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.times {
		found := t.startDue(ctx, now)
		if len(found) == 0 {
			continue
		}
		fresh, err := d.deps.Findings.TakeFindings(ctx, found, false)
		if err != nil {
			return fmt.Errorf("keep findings: %w", err)
		}
		d.findings.Add(float64(len(fresh)))
		for _, f := range found {
			t.kept[f.ID] = f.Last
		}
		if t.c.Propose {
			d.deps.Findings.ProposeBlocks(fresh)
		}
	}
	return nil
}

// collectFindings returns the findings that are new, or changed since they were
// kept.
func (d *Detection) collectFindings(now time.Time) []dossier.Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.c.Every == 0 || !d.added || now.Before(d.next) && d.next.Sub(now) <= d.c.Every {
		return nil
	}
	d.next, d.added = now.Add(d.c.Every), false
	before := d.failures.Forgotten
	var changed []dossier.Finding
	for _, f := range d.failures.Findings() {
		if last, ok := d.kept[f.ID]; !ok || last != f.Last {
			changed = append(changed, f)
		}
	}
	d.failures.Expire(d.windowStart(d.newest))
	for id, last := range d.kept {
		if last < d.windowStart(d.newest) {
			delete(d.kept, id)
		}
	}
	d.forgotten.Add(float64(d.failures.Forgotten - before))
	return changed
}
