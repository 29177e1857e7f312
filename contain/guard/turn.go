//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dragnet/flow"
)

// due reports whether a moment has come, and sets the next; a clock that was
// set back far makes it come at once.
func due(next *flow.Time, now flow.Time, every time.Duration) bool {
	if now < *next && *next-now <= 2*flow.Time(every) {
		return false
	}
	*next = now + flow.Time(every)
	return true
}

// turn does what is not about single packets. A router that refuses is the
// end: a guard that cannot block must not seem to.
func (r *Role) turn(ctx context.Context, now flow.Time) error {
	r.guard.Tick(now)
	if due(&r.next.second, now, time.Second) {
		r.guard.Settle(now)
	}
	r.hear(now)
	if err := r.enforce(now); err != nil {
		return err
	}
	if r.station != nil && !r.waiting && due(&r.next.report, now, r.c.Report) {
		r.tell(ctx, now)
	}
	if due(&r.next.log, now, time.Minute) {
		if err := r.summary(now); err != nil {
			return err
		}
	}
	if r.c.State != "" && due(&r.next.save, now, r.c.Save) {
		if err := r.guard.Save(r.c.State); err != nil {
			r.log.Error("state is not saved", "problem", err)
		}
	}
	return nil
}

// enforce tells the router what has changed.
func (r *Role) enforce(now flow.Time) error {
	plan := r.guard.Plan(now)
	if r.router == nil {
		return nil
	}
	var err error
	if !r.ports || plan.Changed {
		err = r.router.Ports(plan.Ports)
		r.ports = true
	}
	if plan.Release {
		err = errors.Join(err, r.router.Release())
	}
	if plan.Changed && err == nil {
		r.applied, err = r.router.Apply(now, plan.Decisions)
	}
	return errors.Join(err, r.router.Hold(plan.Holds))
}

// tell sends a bulletin; its answer comes to hear.
func (r *Role) tell(ctx context.Context, now flow.Time) {
	b := r.guard.Bulletin(now)
	b.Receipts = r.guard.Receipts(now, "guard "+r.c.Name, r.applied)
	b.Missed = r.missed
	r.waiting = true
	go func() {
		orders, err := r.station.Exchange(ctx, b)
		r.answers <- answer{b, orders, err}
	}()
}

// hear takes orders that have come.
func (r *Role) hear(now flow.Time) {
	select {
	case a := <-r.answers:
		r.waiting = false
		if a.err == nil {
			a.err = r.guard.Obey(now, a.bulletin, a.orders)
		}
		switch {
		case a.err != nil && !r.lost:
			r.log.Warn("no orders from the station; the last ones hold", "problem", a.err)
		case a.err == nil && r.lost:
			r.log.Info("the station answers again")
		}
		r.lost = a.err != nil
	default:
	}
}

// summary logs where the guard stands.
func (r *Role) summary(now flow.Time) error {
	seen, err := r.reader.Stats()
	if err != nil {
		return err
	}
	if seen.Dropped > r.missed {
		r.log.Warn("packets were missed; a larger live.buffer helps against bursts", "missed", seen.Dropped-r.missed)
	}
	r.missed = seen.Dropped
	report, s := r.guard.Edge().Report(now), r.guard.Stats()
	r.log.Info("today", "requests", report.Requests, "failures", report.Failed(), "at_limit", report.Limited,
		"blocked", report.Blocked, "held", r.guard.heldNow(now), "refused", s.Refused, "packets", s.Packets,
		"spatial", report.SpatialActive, "ratio", fmt.Sprintf("%.4f", report.Ratio()))
	return nil
}
