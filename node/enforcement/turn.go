package enforcement

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/daw"
	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
)

// remembered is how long agents are told of decisions that are over, so that
// they know whether a block ran its time or was taken back.
const remembered = flow.Time(time.Hour)

// turn has what was proposed judged, and learns what the judge, or an operator
// meanwhile, decided.
func (r *Response) turn(ctx context.Context, now flow.Time) error {
	r.mu.Lock()
	receipts := r.receipts
	r.receipts = nil
	proposals := append(r.look(now), r.proposals...)
	r.proposals = nil
	r.mu.Unlock()
	if len(receipts) > 0 {
		if err := r.docket.AddReceipts(ctx, receipts); err != nil {
			return err
		}
	}
	spared, err := r.docket.Spared(ctx, now)
	if err != nil {
		return err
	}
	proposals = slices.DeleteFunc(r.standing(now, proposals), func(p dossier.Proposal) bool { return spared[p.Target] })
	var decided []dossier.Decision
	var allow []netip.Prefix
	err = r.docket.Judge(ctx, now, func(j *decide.Judge) error {
		allow, decided = j.Allow(), nil
		if j.Stopped() {
			j.Expire(now)
			return nil // nothing is proposed into a stop
		}
		decided = r.judge(now, j, proposals)
		return nil
	})
	if err != nil {
		return err
	}
	known, err := r.docket.Since(ctx, now-remembered)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.known, r.allow = known, allow
	r.mu.Unlock()
	r.metrics.count(known)
	if r.Documents != nil {
		if err := r.publish(ctx, r.Documents); err != nil {
			return err
		}
	}
	for i := range decided {
		d := &decided[i]
		r.log.Info("decided", "decision", d.ID, "target", d.Target, "verdict", d.Verdict, "why", d.Why)
		r.metrics.decided.WithLabelValues(string(d.Verdict)).Inc()
		r.notify(Notice{Time: now, Kind: "decision", Text: fmt.Sprintf("%s: %s until %s: %s", d.Target, d.Verdict, d.Until, d.Why), Decision: d})
	}
	return nil
}

// standing puts the standing decision before the proposals; it exists already,
// but for the first time and when its time is over.
func (r *Response) standing(now flow.Time, proposals []dossier.Proposal) []dossier.Proposal {
	s := r.c.Standing
	if s.Most == 0 || now < r.again {
		return proposals
	}
	rule := dossier.Proposal{
		Target: netip.MustParsePrefix("0.0.0.0/0"), Who: "station", Why: s.Why, TTL: s.For, Standing: &dossier.Standing{Rule: "daw", Most: s.Most},
	}
	return append([]dossier.Proposal{rule}, proposals...)
}

// again is how long after the budget refused the standing decision it is
// proposed again.
const again = flow.Time(10 * time.Minute)

// judge proposes, and returns the decisions that are new. The worst come first,
// so after one that the budget refused, none is tried.
func (r *Response) judge(now flow.Time, j *decide.Judge, proposals []dossier.Proposal) (fresh []dossier.Decision) {
	for _, p := range proposals {
		d, err := j.Propose(now, p)
		if d.ID != "" && len(d.Steps) > 0 && d.Steps[0].Time == now {
			fresh = append(fresh, d)
		}
		if !errors.Is(err, decide.ErrBudget) {
			continue
		}
		if p.Standing == nil {
			break
		}
		r.again = now + again
	}
	return fresh
}

// look asks the station whom to propose, and tells people what it sees. It is
// called with mu held.
func (r *Response) look(now flow.Time) []dossier.Proposal {
	r.hear(now)
	alarmed := r.station.Alarm()
	offenders := r.station.Look(now)
	if alarm := r.station.Alarm(); alarm != alarmed {
		text := "the number of hosts at their limits no longer rises"
		if alarm {
			text = "a worm may be spreading: the number of hosts at their limits rises steadily; the worst are proposed for blocks, twice as many each period"
		}
		r.log.Warn("alarm", "on", alarm)
		r.notify(Notice{Time: now, Kind: "alarm", Text: text})
	}
	r.metrics.offenders.Set(float64(r.station.Offenders()))
	rising, p, ratios := r.station.Trend()
	if n := len(ratios); n > 0 {
		r.metrics.ratio.Set(ratios[n-1])
	}
	if rising && !r.rising {
		r.notify(Notice{Time: now, Kind: "trend", Text: fmt.Sprintf("a slow worm may be spreading: the daily share of failing connections rises over %d days (p = %.2g)", len(ratios), p)})
	}
	r.rising = rising
	proposals := make([]dossier.Proposal, len(offenders))
	for i, o := range offenders {
		proposals[i] = alarming(o)
	}
	return proposals
}

func alarming(o daw.Offender) dossier.Proposal {
	return dossier.Proposal{
		Target: netip.PrefixFrom(o.Addr, o.Addr.BitLen()), Who: "station",
		Why: fmt.Sprintf("%s is among the worst of a rising number of hosts at their limits (%.3g failures/s, %d today)", o.Addr, o.Rate, o.Failures),
	}
}

// hear notes agents that fell silent, and those that are back.
func (r *Response) hear(now flow.Time) {
	silent := map[string]bool{}
	for _, name := range r.station.Silent(now) {
		silent[name] = true
		if !r.silent[name] {
			r.log.Warn("an agent is silent; it goes on with its last orders", "agent", name)
			r.notify(Notice{Time: now, Kind: "agent", Text: "agent " + name + " reports no longer; it goes on with its last orders"})
		}
	}
	for name := range r.silent {
		if !silent[name] {
			r.log.Info("an agent reports again", "agent", name)
		}
	}
	r.silent = silent
	r.metrics.silent.Set(float64(len(silent)))
}
