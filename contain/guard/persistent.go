package guard

import (
	"math"
	"net/netip"
	"slices"

	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
)

// findPersistent finds sources that were at their limit for n days, and the largest
// where a network's limit drops most requests. The station judges them; without a
// station they are blocked under the standing decision.
func (g *Guard) findPersistent(now flow.Time) {
	for _, p := range append(g.edge.Persistent(now), g.findLargest(now)...) {
		if !g.stationed {
			g.blockPersistent(now, p)
			continue
		}
		known := slices.ContainsFunc(g.persistent, func(q daw.Persistent) bool { return q.Addr == p.Addr })
		if g.c.Validation.isValidated() && !known && len(g.persistent) < daw.MaxOffenders {
			g.persistent = append(g.persistent, p)
		}
	}
	g.reconcileBlocks(now)
}

// findLargest returns a share of the sources under the network's limit while it
// drops most requests (Tang 2006, section 2.3.8): one in twenty at first, and twice
// as many each time until it no longer does.
func (g *Guard) findLargest(now flow.Time) []daw.Persistent {
	r := g.edge.Report(now)
	if !r.Overwhelmed {
		g.largest = 0
		return nil
	}
	if g.largest == 0 {
		g.largest = 0.05
	} else {
		g.largest = min(1, 2*g.largest)
	}
	all := g.edge.Largest(now, int(math.Ceil(g.largest*float64(r.Members))))
	return slices.DeleteFunc(all, func(p daw.Persistent) bool {
		return slices.ContainsFunc(g.allDecisions(), func(d dossier.Decision) bool { return isBlocking(now, &d) && d.Target.Contains(p.Addr) })
	})
}

// blockPersistent blocks a source under the standing decision.
func (g *Guard) blockPersistent(now flow.Time, p daw.Persistent) {
	if !g.mayAct(now) {
		return
	}
	target := netip.PrefixFrom(p.Addr, p.Addr.BitLen())
	why := p.Why()
	delete(g.holds, target) // the block replaces it
	if !g.hasRoom(now) {
		g.stats.Refused++
		g.event(Action{Time: now, What: "refused", Target: target, Decision: g.standing.ID, Verdict: dossier.Refused, Why: why + "; the bound on blocked addresses is reached"})
		return
	}
	v := g.standing.Verdict
	d := dossier.Decision{
		Version: dossier.DecisionVersion, ID: deriveID(g.standing.ID, target, now), Target: target, Verdict: v, Why: why, Findings: []string{},
		Until: min(now+flow.Time(p.Next), g.standing.Until), Undo: "restart the guard without 'standing', or add the address to 'allow'",
		Steps: []dossier.Step{{Time: now, Who: "guard under " + g.standing.ID, Verdict: v, Why: why}},
	}
	g.own = append(g.own, d)
	if v == dossier.DryRun {
		g.event(Action{Time: now, What: "block", Target: target, Until: d.Until, Decision: d.ID, Verdict: v, Why: why})
	}
}
