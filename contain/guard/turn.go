//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/flow"
)

// isDue reports whether the time next has come, and sets the next one. If the
// clock was set back far, it is due at once.
func isDue(next *flow.Time, now flow.Time, every time.Duration) bool {
	if now < *next && *next-now <= 2*flow.Time(every) {
		return false
	}
	*next = now + flow.Time(every)
	return true
}

// tick does the periodic work. An error of the router ends the role: a guard
// that cannot block must not appear to.
func (r *Role) tick(ctx context.Context, now flow.Time) error {
	r.guard.Tick(now)
	if isDue(&r.next.second, now, time.Second) {
		r.metrics.ticked.Store(time.Now().UnixNano())
		r.guard.Reconcile(now)
	}
	select {
	case a := <-r.allowed:
		a.done <- r.guard.SetAllow(now, a.list)
	default:
	}
	r.receivePolicy(now)
	if r.link != nil {
		r.shareReplies(now)
	}
	if err := r.updateRouter(now); err != nil {
		return err
	}
	if r.station != nil && !r.waiting && isDue(&r.next.report, now, r.c.Report) {
		if r.inline != nil {
			if err := r.inline.refresh(r.guard, now); err != nil {
				return err
			}
		}
		r.sendReport(ctx, now)
	}
	if isDue(&r.next.log, now, time.Minute) {
		if err := r.logSummary(now); err != nil {
			return err
		}
	}
	if isDue(&r.next.save, now, r.c.Save) {
		if err := r.save(now); err != nil {
			r.log.Error("save state failed", "err", err)
		}
	}
	return nil
}

// shareReplies exchanges replies with the other edges. While one is not heard,
// requests that wait for a reply may have had it there.
func (r *Role) shareReplies(now flow.Time) {
	for more := true; more; {
		select {
		case all := <-r.link.in:
			r.guard.takeShared(now, all)
		default:
			more = false
		}
	}
	deaf, missing := r.link.isDeaf(now)
	if deaf {
		r.guard.deaf(now)
	}
	switch {
	case len(missing) > 0 && r.missing <= 0:
		r.log.Warn("another edge is not heard: requests without a reply do not count until it is", "edges", missing)
	case len(missing) == 0 && r.missing != 0:
		r.log.Info("all other edges are heard")
	}
	r.missing = len(missing)
	all, leftOut := r.guard.takeElsewhere()
	r.link.send(now, all, leftOut)
}

// updateRouter applies what has changed to the router.
func (r *Role) updateRouter(now flow.Time) error {
	if r.inline != nil {
		return r.updateInline(now)
	}
	plan := r.guard.Plan(now)
	if r.router == nil {
		return nil
	}
	var err error
	if !r.ports || plan.Changed {
		err = r.router.Ports(plan.Ports)
		r.ports = true
	}
	if r.ingress != plan.Acting {
		var in *nft.Ingress
		if plan.Acting {
			in = r.c.ingress()
		}
		err = errors.Join(err, r.router.SetIngress(in))
		r.ingress = plan.Acting
	}
	if plan.Release {
		err = errors.Join(err, r.router.Release())
	}
	if plan.Changed && err == nil {
		r.applied, err = r.router.Apply(now, plan.Decisions)
	}
	return errors.Join(err, r.router.Services(plan.Answering, plan.Ceased), r.router.Hold(plan.Holds))
}

// sendReport sends a report; receivePolicy takes the answer.
func (r *Role) sendReport(ctx context.Context, now flow.Time) {
	b := r.guard.MakeReport(now)
	b.Receipts = r.guard.Receipts(now, "guard "+r.c.Name, r.applied)
	b.Missed = r.missed
	r.waiting = true
	go func() {
		orders, err := r.station.Exchange(ctx, b)
		r.answers <- answer{b, orders, err}
	}()
}

// receivePolicy applies a policy that has arrived.
func (r *Role) receivePolicy(now flow.Time) {
	select {
	case a := <-r.answers:
		r.waiting = false
		if a.err == nil {
			a.err = r.guard.ApplyPolicy(now, a.report, a.policy)
		}
		switch {
		case a.err != nil && !r.lost:
			r.log.Warn("station not reachable; keeping the last policy", "err", a.err)
		case a.err == nil && r.lost:
			r.log.Info("station reachable again")
		}
		r.lost = a.err != nil
	default:
	}
}

// countMissed takes the number of packets that escaped the guard: that its buffer had
// no room for, or in the kernel that found the tables locked, and were dropped.
func (r *Role) countMissed(now flow.Time) error {
	if r.inline != nil {
		if err := r.inline.refresh(r.guard, now); err != nil {
			return err
		}
		if lost := r.inline.counters.Lost; lost > r.inline.lost {
			r.log.Warn("some drops are in no event: there were too many at a time", "lost", lost-r.inline.lost)
			r.inline.lost = lost
		}
		r.missed = r.inline.counters.Busy
		return nil
	}
	seen, err := r.reader.Stats()
	if err != nil {
		return err
	}
	if seen.Dropped > r.missed {
		r.log.Warn("packets lost; increase live.buffer if traffic comes in bursts", "missed", seen.Dropped-r.missed)
	}
	r.missed = seen.Dropped
	return nil
}

// logSummary logs the counts of the day.
func (r *Role) logSummary(now flow.Time) error {
	if err := r.countMissed(now); err != nil {
		return err
	}
	report, s := r.guard.Edge().Report(now), r.guard.Stats()
	if r.link != nil {
		r.metrics.rejected.Add(float64(r.link.rejected.Swap(0)))
	}
	r.metrics.update(&report, s, r.missed, r.guard.countHeld(now))
	r.log.Info("daily counts", "requests", report.Requests, "failures", report.Failed(), "at_limit", report.Limited,
		"blocked", report.Blocked, "held", r.guard.countHeld(now), "refused", s.Refused, "spoofed", report.Verdicts[daw.Spoofed], "fragments", s.Fragments, "packets", s.Packets,
		"spatial", report.SpatialActive, "ratio", fmt.Sprintf("%.4f", report.Ratio()))
	return nil
}
