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

// MakeReport returns the report for the station.
func (g *Guard) MakeReport(now flow.Time) daw.AgentReport {
	var busiest []daw.Offender
	if g.slow {
		busiest = g.edge.Busiest(now, daw.MaxBusiest)
	}
	return daw.AgentReport{
		Busiest: busiest, Version: daw.MessageVersion, Agent: g.c.Name, Report: g.edge.Report(now), Offenders: g.edge.Offenders(now, daw.MaxOffenders),
		Persistent: slices.Clone(g.persistent), Held: g.countHeld(now), Refused: g.stats.Refused, Validated: g.c.Validation.isValidated(), Packets: g.stats.Packets,
	}
}

// ApplyPolicy applies the policy that the station returned for a report.
func (g *Guard) ApplyPolicy(now flow.Time, answered daw.AgentReport, o daw.AgentPolicy) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Scope != nil {
		g.scope = *o.Scope
	}
	g.stationAllow = o.Allow
	if err := g.applyAllow(); err != nil {
		return fmt.Errorf("station policy: %w", err)
	}
	g.slow = o.Slow
	g.edge.ListAll(o.Slow)
	if o.Days > 0 {
		g.edge.SetDays(o.Days)
	}
	g.persistent = slices.DeleteFunc(g.persistent, func(p daw.Persistent) bool {
		return slices.ContainsFunc(answered.Persistent, func(q daw.Persistent) bool { return q.Addr == p.Addr })
	})
	g.policyDecisions = o.Decisions
	g.chooseStanding(now)
	g.releaseAllowed()
	for i := range o.FailLogs {
		if number := o.FailLogsFrom + uint64(i); number >= g.drops && o.FailLogs[i].Validate() == nil {
			g.FailLog(now, &o.FailLogs[i])
			g.drops = number + 1
		}
	}
	g.reconcileBlocks(now)
	return nil
}

// SetAllow replaces the configured allow list; that of the station remains.
// Addresses on it are released at once.
func (g *Guard) SetAllow(now flow.Time, allow []netip.Prefix) error {
	g.c.Allow = slices.Clone(allow)
	if err := g.applyAllow(); err != nil {
		return err
	}
	g.releaseAllowed()
	g.reconcileBlocks(now)
	return nil
}

func (g *Guard) applyAllow() error {
	g.allow = append(slices.Clone(g.c.Allow), g.stationAllow...)
	return g.edge.SetScope(g.exemptedScope())
}

// chooseStanding uses the station's standing decision in place of the
// configured one: the last that is in force, else the last.
func (g *Guard) chooseStanding(now flow.Time) {
	was := g.standing
	g.standing = g.configured
	for _, d := range g.policyDecisions {
		if d.Standing == nil || d.Standing.Rule != "daw" || d.Standing.Most < 1 {
			continue
		}
		if before := g.standing; isStandingInForce(now, &d) || !isStandingInForce(now, &before) {
			g.standing = d
		}
	}
	if g.standing.ID != was.ID || g.standing.Verdict != was.Verdict {
		g.event(Action{Time: now, What: "standing", Decision: g.standing.ID, Until: g.standing.Until, Why: g.standing.Why, Verdict: g.standing.Verdict})
	}
}

// isStandingInForce reports whether a standing decision is in force, or would be
// outside a dry run.
func isStandingInForce(now flow.Time, d *dossier.Decision) bool {
	return d.ID != "" && now < d.Until && (d.Verdict == dossier.Active || d.Verdict == dossier.DryRun)
}

// releaseAllowed releases sources that a new allow list protects.
func (g *Guard) releaseAllowed() {
	for target := range g.holds {
		if g.isAllowed(target) {
			delete(g.holds, target)
			g.release = true // of all; a source still at its limit is held again
		}
	}
}

// allDecisions returns the decisions that concern this edge.
func (g *Guard) allDecisions() []dossier.Decision {
	return append(slices.Clone(g.policyDecisions), g.own...)
}

// isBlocking reports whether a decision blocks an address now, or would in a
// dry run.
func isBlocking(now flow.Time, d *dossier.Decision) bool {
	return d.Standing == nil && (d.Verdict == dossier.Active || d.Verdict == dossier.DryRun) && now < d.Until
}

// reconcileBlocks makes the blocks of the edge match the decisions: active
// decisions on single sources of this edge block, others do not. A block that
// was undone or stopped does not count as an earlier block of its source; one
// that expired does.
func (g *Guard) reconcileBlocks(now flow.Time) {
	acting := g.mayAct(now) && g.standing.Verdict == dossier.Active
	g.release = g.release || g.acting && !acting
	g.acting = acting
	g.dropReleasedHolds(now)
	keep := map[netip.Addr]bool{}
	seen := map[string]bool{}
	for _, d := range g.allDecisions() {
		seen[d.ID] = true
		if !d.Target.IsSingleIP() || d.Standing != nil || !flow.Within(g.scope.Sources, d.Target.Addr()) {
			continue
		}
		addr := d.Target.Addr()
		active := d.Verdict == dossier.Active && now < d.Until && !g.isAllowed(d.Target)
		switch {
		case active && !g.inForce[d.ID]:
			g.edge.Block(now, addr)
			g.inForce[d.ID], g.changed = true, true
			delete(g.holds, d.Target)
			g.event(Action{Time: now, What: "block", Target: d.Target, Until: d.Until, Decision: d.ID, Verdict: d.Verdict, Why: d.Why})
		case !active && g.inForce[d.ID]:
			over := d.Verdict == dossier.Expired || d.Verdict == dossier.Active && now >= d.Until
			g.edge.Unblock(now, addr, !over)
			delete(g.inForce, d.ID)
			g.changed = true
			g.event(Action{Time: now, What: "unblock", Target: d.Target, Decision: d.ID, Verdict: d.Verdict})
		}
		keep[addr] = keep[addr] || active
	}
	for _, b := range g.edge.Blocks(now) {
		if !keep[b.Addr] { // its decision is no longer kept
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

func (g *Guard) isAllowed(target netip.Prefix) bool {
	return slices.ContainsFunc(g.allow, target.Overlaps)
}

// Plan is the next change of the router: nil decisions leave it as it is.
type Plan struct {
	// Acting says that limits are in force, and with them what the router drops on
	// arrival.
	Acting    bool
	Decisions []dossier.Decision
	Changed   bool
	Holds     []nft.Hold
	// Release removes all earlier holds before Holds.
	Release bool
	Ports   []uint16
	// Answering begin, and Ceased cease, to be services that held sources may reach.
	Answering, Ceased []netip.AddrPort
}

// Plan returns what has changed since the last call.
func (g *Guard) Plan(now flow.Time) Plan {
	p := Plan{Acting: g.mayAct(now) && g.standing.Verdict == dossier.Active, Holds: g.fresh, Release: g.release, Changed: g.changed, Ports: g.scope.Ports}
	g.fresh, g.release, g.changed = nil, false, false
	if p.Changed {
		p.Decisions = g.permittedDecisions(now)
	}
	g.planServices(&p)
	return p
}

// servicesPerPlan bounds the changes of services that one plan holds; the rest are
// in the next.
const servicesPerPlan = 4096

func (g *Guard) planServices(p *Plan) {
	for s := range g.touched {
		if len(p.Answering)+len(p.Ceased) == servicesPerPlan {
			return
		}
		delete(g.touched, s)
		switch answers := g.edge.Answers(s); {
		case answers && !g.routed[s]:
			g.routed[s] = true
			p.Answering = append(p.Answering, s)
		case !answers && g.routed[s]:
			delete(g.routed, s)
			p.Ceased = append(p.Ceased, s)
		}
	}
}

// permittedDecisions are the decisions the router may apply: the allow list and
// the router's bound take precedence over the station.
func (g *Guard) permittedDecisions(now flow.Time) []dossier.Decision {
	var all []dossier.Decision
	used := 0
	for _, d := range g.allDecisions() {
		if d.Verdict != dossier.Active || !isBlocking(now, &d) || g.isAllowed(d.Target) {
			continue
		}
		if used += countAddresses(d.Target); used > g.c.Most {
			break
		}
		all = append(all, d)
	}
	return all
}

// Receipts reports the outcome of each decision of the policy, given the
// router's receipts.
func (g *Guard) Receipts(now flow.Time, point string, applied []dossier.Receipt) []dossier.Receipt {
	all := make([]dossier.Receipt, 0, len(g.policyDecisions))
	for _, d := range g.policyDecisions {
		r := dossier.Receipt{Version: dossier.ReceiptVersion, Decision: d.ID, Point: point, Time: now}
		i := slices.IndexFunc(applied, func(r dossier.Receipt) bool { return r.Decision == d.ID })
		switch {
		case i >= 0:
			r = applied[i]
		case d.Standing != nil && !g.c.Validation.isValidated():
			r.Problem = "not applied: it is not known at this edge who sends in whose name (validation)"
		case d.Standing != nil && g.standing.ID == d.ID && d.Verdict == dossier.Active:
			r.Applied, r.Proof = true, fmt.Sprintf("holds back %d sources, and may block %d", g.countHeld(now), d.Standing.Most)
		default:
			r.Problem = g.checkDecision(now, &d).Error()
		}
		all = append(all, r)
	}
	return all
}

func (g *Guard) checkDecision(now flow.Time, d *dossier.Decision) error {
	switch {
	case d.Verdict != dossier.Active:
		return fmt.Errorf("not applied: the decision is %s", d.Verdict)
	case now >= d.Until:
		return errors.New("not applied: it has expired")
	case g.isAllowed(d.Target):
		return errors.New("not applied: the allow list of this edge protects it")
	}
	return fmt.Errorf("not applied: at most %d addresses may be blocked at this router", g.c.Most)
}
