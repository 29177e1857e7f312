package enforcement

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dragnet/contain/sdn"
	"dragnet/dossier"
)

// openSwitches makes the configured switches; nothing is connected.
func (c *Configuration) openSwitches() (all []*sdn.Switch, err error) {
	for i, s := range c.Switches {
		w, err := sdn.New(s.WithDefaults())
		if err != nil {
			return nil, fmt.Errorf("enforcement.switches[%d]: %w", i, err)
		}
		all = append(all, w)
	}
	return all, nil
}

// applyRegularly makes a switch's rules those of the active decisions, at
// intervals, also those that a restart of either side left behind. A switch that
// cannot be reached keeps its rules until their lease is over.
func (e *Enforcement) applyRegularly(ctx context.Context, w *sdn.Switch) error {
	reported := map[string]dossier.Receipt{} // by decision
	state := ""
	tick := time.NewTicker(e.c.Every)
	defer tick.Stop()
	for {
		receipts, err := w.Apply(ctx, currentTime(), e.activeDecisions())
		if ctx.Err() != nil {
			return nil
		}
		e.keepReceipts(reported, receipts)
		if s := fmt.Sprint(err); s != state {
			if state = s; err != nil {
				e.metrics.troubles.Inc()
				e.log.Error("apply decisions at switch failed", "err", err)
			} else {
				e.log.Info("switch follows the decisions", "switch", w.Name(), "decisions", len(receipts))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// activeDecisions are those that switches apply. The judge's allow list counts
// once more: it may have been extended since.
func (e *Enforcement) activeDecisions() (all []dossier.Decision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.known {
		if d.Verdict == dossier.Active && d.Standing == nil && !slices.ContainsFunc(e.allow, d.Target.Overlaps) {
			all = append(all, d)
		}
	}
	return all
}

// Resets are the decisions, in force or a dry run, under which connections are reset
// that carry what a signature matches, and the allow list.
func (e *Enforcement) Resets() (r dossier.Resets) {
	now := currentTime()
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Allow = slices.Clone(e.allow)
	for i := range e.known {
		if d := &e.known[i]; d.Standing != nil && d.Standing.Rule == dossier.RuleReset && d.InForce(now) {
			r.Decisions = append(r.Decisions, *d)
		}
	}
	return r
}

// keepReceipts queues the receipts that say something else than before: counters
// in a proof change all the time.
func (e *Enforcement) keepReceipts(reported map[string]dossier.Receipt, receipts []dossier.Receipt) {
	current := map[string]bool{}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range receipts {
		current[r.Decision] = true
		before, known := reported[r.Decision]
		if known && before.Applied == r.Applied && before.Problem == r.Problem {
			continue
		}
		reported[r.Decision] = r
		if len(e.receipts) < maxReceipts {
			e.receipts = append(e.receipts, r)
		}
	}
	maps.DeleteFunc(reported, func(id string, _ dossier.Receipt) bool { return !current[id] })
}
