package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
)

// Bulletin is what the station is told.
func (g *Guard) Bulletin(now flow.Time) daw.Bulletin {
	return daw.Bulletin{
		Version: daw.MessageVersion, Agent: g.c.Name, Report: g.edge.Report(now), Offenders: g.edge.Offenders(now, daw.MaxOffenders),
		Persistent: slices.Clone(g.persistent), Held: g.heldNow(now), Refused: g.stats.Refused, Packets: g.stats.Packets,
	}
}

// Obey takes orders that answer a bulletin.
func (g *Guard) Obey(now flow.Time, answered daw.Bulletin, o daw.Orders) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Scope != nil {
		g.scope = *o.Scope
	}
	g.allow = append(slices.Clone(g.c.Allow), o.Allow...)
	if err := g.edge.SetScope(g.exempted()); err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	if o.Days > 0 {
		g.edge.SetDays(o.Days)
	}
	g.persistent = slices.DeleteFunc(g.persistent, func(p daw.Persistent) bool {
		return slices.ContainsFunc(answered.Persistent, func(q daw.Persistent) bool { return q.Addr == p.Addr })
	})
	g.orders = o.Decisions
	g.stand(now)
	g.spare()
	for i := range o.FailLogs {
		if number := o.FailLogsFrom + uint64(i); number >= g.drops && o.FailLogs[i].Validate() == nil {
			g.FailLog(now, &o.FailLogs[i])
			g.drops = number + 1
		}
	}
	g.settle(now)
	return nil
}

// stand takes the station's standing decision in place of the configured one:
// the last that is in force, else the last.
func (g *Guard) stand(now flow.Time) {
	was := g.standing
	g.standing = g.configured
	for _, d := range g.orders {
		if d.Standing == nil || d.Standing.Rule != "daw" || d.Standing.Most < 1 {
			continue
		}
		if before := g.standing; blockingRule(now, &d) || !blockingRule(now, &before) {
			g.standing = d
		}
	}
	if g.standing.ID != was.ID || g.standing.Verdict != was.Verdict {
		g.event(Event{Time: now, What: "standing", Decision: g.standing.ID, Until: g.standing.Until, Why: g.standing.Why, Verdict: g.standing.Verdict})
	}
}

// blockingRule reports whether a standing decision is in force, or would be
// outside a dry run.
func blockingRule(now flow.Time, d *dossier.Decision) bool {
	return d.ID != "" && now < d.Until && (d.Verdict == dossier.Active || d.Verdict == dossier.DryRun)
}

// spare lets go of those whom a new allow list protects.
func (g *Guard) spare() {
	for target := range g.holds {
		if g.allowed(target) {
			delete(g.holds, target)
			g.release = true // of all; who is still at a limit is held again
		}
	}
}

// look finds those who were at their limit for n days. The station judges them;
// without one they are blocked under the standing decision.
func (g *Guard) look(now flow.Time) {
	for _, p := range g.edge.Persistent(now) {
		if g.stationed {
			if len(g.persistent) < daw.MaxOffenders {
				g.persistent = append(g.persistent, p)
			}
			continue
		}
		g.block(now, p)
	}
	g.settle(now)
}

// block blocks a persistent source under the standing decision.
func (g *Guard) block(now flow.Time, p daw.Persistent) {
	if !g.standingAt(now) {
		return
	}
	target := netip.PrefixFrom(p.Addr, p.Addr.BitLen())
	why := fmt.Sprintf("%s was at its limit of failing connections on %d days in a row", p.Addr, p.Days)
	delete(g.holds, target) // a block takes its place
	if !g.room(now) {
		g.stats.Refused++
		g.event(Event{Time: now, What: "refused", Target: target, Decision: g.standing.ID, Verdict: dossier.Refused, Why: why + "; no address more may be blocked at a time"})
		return
	}
	v := g.standing.Verdict
	d := dossier.Decision{
		Version: dossier.DecisionVersion, ID: identity(g.standing.ID, target, now), Target: target, Verdict: v, Why: why, Findings: []string{},
		Until: min(now+flow.Time(p.Next), g.standing.Until), Undo: "restart the guard without 'standing', or add the address to 'allow'",
		Steps: []dossier.Step{{Time: now, Who: "guard under " + g.standing.ID, Verdict: v, Why: why}},
	}
	g.own = append(g.own, d)
	if v == dossier.DryRun {
		g.event(Event{Time: now, What: "block", Target: target, Until: d.Until, Decision: d.ID, Verdict: v, Why: why})
	}
}

// everything is all decisions that concern this edge.
func (g *Guard) everything() []dossier.Decision { return append(slices.Clone(g.orders), g.own...) }

// blocking reports whether a decision blocks somebody now, or would in a dry
// run.
func blocking(now flow.Time, d *dossier.Decision) bool {
	return d.Standing == nil && (d.Verdict == dossier.Active || d.Verdict == dossier.DryRun) && now < d.Until
}

// settle brings the edge in line with the decisions: what is active and
// concerns single sources of this edge is blocked, all else is not. A block
// that was undone or stopped does not count as an earlier block of its source;
// one that ran its time does.
func (g *Guard) settle(now flow.Time) {
	acting := g.standingAt(now) && g.standing.Verdict == dossier.Active
	g.release = g.release || g.acting && !acting
	g.acting = acting
	g.letGo(now)
	keep := map[netip.Addr]bool{}
	seen := map[string]bool{}
	for _, d := range g.everything() {
		seen[d.ID] = true
		if !d.Target.IsSingleIP() || d.Standing != nil || !flow.Within(g.scope.Sources, d.Target.Addr()) {
			continue
		}
		addr := d.Target.Addr()
		active := d.Verdict == dossier.Active && now < d.Until && !g.allowed(d.Target)
		switch {
		case active && !g.inForce[d.ID]:
			g.edge.Block(now, addr)
			g.inForce[d.ID], g.changed = true, true
			delete(g.holds, d.Target)
			g.event(Event{Time: now, What: "block", Target: d.Target, Until: d.Until, Decision: d.ID, Verdict: d.Verdict, Why: d.Why})
		case !active && g.inForce[d.ID]:
			over := d.Verdict == dossier.Expired || d.Verdict == dossier.Active && now >= d.Until
			g.edge.Unblock(now, addr, !over)
			delete(g.inForce, d.ID)
			g.changed = true
			g.event(Event{Time: now, What: "unblock", Target: d.Target, Decision: d.ID, Verdict: d.Verdict})
		}
		keep[addr] = keep[addr] || active
	}
	for _, b := range g.edge.Blocks(now) {
		if !keep[b.Addr] { // its decision is not even remembered
			g.edge.Unblock(now, b.Addr, false)
			g.changed = true
		}
	}
	for id := range g.inForce {
		if !seen[id] {
			delete(g.inForce, id)
			g.changed = true
		}
	}
	g.own = slices.DeleteFunc(g.own, func(d dossier.Decision) bool { return now >= d.Until && !g.inForce[d.ID] })
}

func (g *Guard) allowed(target netip.Prefix) bool {
	return slices.ContainsFunc(g.allow, target.Overlaps)
}

// Plan is what the router is to be told: nil decisions leave it as it is.
type Plan struct {
	Decisions []dossier.Decision
	Changed   bool
	Holds     []nft.Hold
	// Release lets go of all that was held before Holds.
	Release bool
	Ports   []uint16
}

// Plan takes what has changed since the last one.
func (g *Guard) Plan(now flow.Time) Plan {
	p := Plan{Holds: g.fresh, Release: g.release, Changed: g.changed, Ports: g.scope.Ports}
	g.fresh, g.release, g.changed = nil, false, false
	if p.Changed {
		p.Decisions = g.permitted(now)
	}
	return p
}

// permitted are the decisions the router may apply: the allow list and its own
// bound come before any orders.
func (g *Guard) permitted(now flow.Time) []dossier.Decision {
	var all []dossier.Decision
	used := 0
	for _, d := range g.everything() {
		if d.Verdict != dossier.Active || !blocking(now, &d) || g.allowed(d.Target) {
			continue
		}
		if used += addresses(d.Target); used > g.c.Most {
			break
		}
		all = append(all, d)
	}
	return all
}

// Receipts says what became of each decision of the orders, given what the
// router answered.
func (g *Guard) Receipts(now flow.Time, point string, applied []dossier.Receipt) []dossier.Receipt {
	all := make([]dossier.Receipt, 0, len(g.orders))
	for _, d := range g.orders {
		r := dossier.Receipt{Version: dossier.ReceiptVersion, Decision: d.ID, Point: point, Time: now}
		i := slices.IndexFunc(applied, func(r dossier.Receipt) bool { return r.Decision == d.ID })
		switch {
		case i >= 0:
			r = applied[i]
		case d.Standing != nil && g.standing.ID == d.ID && d.Verdict == dossier.Active:
			r.Applied, r.Proof = true, fmt.Sprintf("%d sources are held back under it, at most %d may be", g.heldNow(now), d.Standing.Most)
		default:
			r.Problem = g.objection(now, &d).Error()
		}
		all = append(all, r)
	}
	return all
}

func (g *Guard) objection(now flow.Time, d *dossier.Decision) error {
	switch {
	case d.Verdict != dossier.Active:
		return fmt.Errorf("not applied: the decision is %s", d.Verdict)
	case now >= d.Until:
		return errors.New("not applied: its time is over")
	case g.allowed(d.Target):
		return errors.New("not applied: the allow list of this edge protects it")
	}
	return fmt.Errorf("not applied: at most %d addresses may be blocked at this router", g.c.Most)
}
