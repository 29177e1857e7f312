// Package detection runs detectors over the flows that a node takes in, and keeps
// what they find. After a restart it reads the present window from the store,
// so that a scanner cannot hide across it.
package detection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/decide/ledger"
	"dragnet/detect/failures"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/metric"
)

// Configuration of the detectors.
type Configuration struct {
	// Failures finds scanners by the connections they fail to make.
	Failures failures.Configuration `yaml:"failures"`
	// Every is how often findings are looked for; 0 switches detection off.
	Every time.Duration `yaml:"every"`
	// Propose has a block proposed for each new finding about a host that is
	// not our own.
	Propose bool `yaml:"propose"`
}

// DefaultConfiguration looks each minute and proposes nothing.
func DefaultConfiguration() Configuration {
	return Configuration{Failures: failures.DefaultConfiguration(), Every: time.Minute}
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	if c.Every != 0 && (c.Every < time.Second || c.Every > time.Hour) {
		return errors.New("detect.every: want 1s to 1h, or 0 for no detection")
	}
	if err := c.Failures.Validate(); err != nil {
		return fmt.Errorf("detect.%w", err)
	}
	return nil
}

// Watch is safe for concurrent use.
type Watch struct {
	c      Configuration
	site   flow.Site
	docket *ledger.Ledger
	log    *slog.Logger
	found  func(dossier.Finding)
	ask    func(dossier.Proposal)

	mu       sync.Mutex // guards what follows
	failures *failures.Detector
	newest   flow.Time
	added    bool
	next     time.Time
	kept     map[string]flow.Time // findings kept, with their last flow

	findings, forgotten prometheus.Counter
}

// New makes a watch over the flows of a site; found is called for each new
// finding, ask for each proposal.
func New(c Configuration, site flow.Site, d *ledger.Ledger, log *slog.Logger, registry prometheus.Registerer, found func(dossier.Finding), ask func(dossier.Proposal)) (*Watch, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Failures.Networks, c.Failures.Exempt, c.Failures.Observer = site.Networks, site.Exempt, site.Name
	w := &Watch{c: c, site: site, docket: d, log: log, found: found, ask: ask, failures: failures.New(c.Failures), kept: map[string]flow.Time{}}
	under := metric.Under(registry, "dragnet_")
	w.findings = under.Counter("findings_total", "New findings of the detectors.")
	w.forgotten = under.Counter("detect_forgotten_total", "Groups of connections given up for want of room; a slow scanner may be missed.")
	return w, nil
}

// Scanner is a store of flows.
type Scanner interface {
	Coverage(ctx context.Context) (flow.Coverage, error)
	Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error)
}

// Prime reads what a store holds of the present window.
func (w *Watch) Prime(ctx context.Context, s Scanner) error {
	if w.c.Every == 0 {
		return nil
	}
	cov, err := s.Coverage(ctx)
	if err != nil || cov.Flows == 0 {
		return err
	}
	_, err = s.Scan(ctx, flow.Window{From: w.begin(cov.To)}, flow.Failures, func(batch []flow.Flow) error {
		w.Add(batch)
		return nil
	})
	if err != nil {
		return fmt.Errorf("detect: read the present window: %w", err)
	}
	return nil
}

// begin is where the window before the one of t begins: what lies before is
// over.
func (w *Watch) begin(t flow.Time) flow.Time {
	span := flow.Time(w.c.Failures.Window)
	return t - t%span - span
}

// Add counts flows.
func (w *Watch) Add(batch []flow.Flow) {
	if w.c.Every == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures.Add(batch)
	for i := range batch {
		w.newest = max(w.newest, batch[i].Start)
	}
	w.added = w.added || len(batch) > 0
}

// Turn looks for findings when it is time to.
func (w *Watch) Turn(ctx context.Context, now time.Time) error {
	found := w.look(now)
	if len(found) == 0 {
		return nil
	}
	fresh, err := w.docket.AddFindings(ctx, found)
	if err != nil {
		return fmt.Errorf("keep findings: %w", err)
	}
	w.mu.Lock()
	for _, f := range found {
		w.kept[f.ID] = f.Last
	}
	w.mu.Unlock()
	for _, f := range fresh {
		w.findings.Inc()
		w.log.Info("finding", "id", f.ID, "kind", f.Kind, "summary", f.Summary)
		w.found(f)
		if w.c.Propose && !flow.Within(w.site.Networks, f.Addr) {
			w.ask(dossier.Proposal{Target: netip.PrefixFrom(f.Addr, f.Addr.BitLen()), Who: "detector " + f.Detector, Why: f.Summary, Findings: []string{f.ID}})
		}
	}
	return nil
}

// look takes what the detector has found that is not kept as it is.
func (w *Watch) look(now time.Time) []dossier.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.added || now.Before(w.next) && w.next.Sub(now) <= w.c.Every {
		return nil
	}
	w.next, w.added = now.Add(w.c.Every), false
	before := w.failures.Forgotten
	var changed []dossier.Finding
	for _, f := range w.failures.Findings() {
		if last, ok := w.kept[f.ID]; !ok || last != f.Last {
			changed = append(changed, f)
		}
	}
	w.failures.Expire(w.begin(w.newest))
	for id, last := range w.kept {
		if last < w.begin(w.newest) {
			delete(w.kept, id)
		}
	}
	w.forgotten.Add(float64(w.failures.Forgotten - before))
	return changed
}
