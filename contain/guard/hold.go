package guard

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
)

// heldSource is a source at its limit.
type heldSource struct {
	until flow.Time
	limit daw.RequestVerdict
	times int
}

// The length of one hold. The edge keeps judging requests meanwhile, and asks
// for another when the first has expired; so a short bound costs little and the
// end of a limit takes effect soon.
const (
	shortestHold = time.Second
	longestHold  = 10 * time.Minute
	// shownHold is how long a source counts as held after a drop in the kernel.
	shownHold = 10 * time.Second
	// quiet is how long after the last request to hold a source it counts as
	// released.
	quiet = flow.Time(time.Minute)
)

// holdSource holds a source back, if the standing decision allows it.
func (g *Guard) holdSource(now flow.Time, c *daw.Conn, v daw.RequestVerdict) {
	if !g.mayAct(now) {
		return
	}
	if g.standing.Verdict == dossier.Active {
		// The router drops it only once it has the entry; a request that passes
		// before counts when it fails.
		g.edge.Slipped(now, c)
	}
	target := heldPrefix(c, v)
	h := g.holds[target]
	if h != nil && now < h.until {
		return
	}
	if h == nil {
		if !g.hasRoomToHold(now) {
			g.stats.Refused++
			return
		}
		h = g.openHold(target)
	}
	wait := min(max(g.edge.Wait(now, c.Src, v), shortestHold), longestHold)
	h.until, h.limit = now+flow.Time(wait), v
	if h.times++; h.times == 1 {
		g.event(Action{
			Time: now, What: "hold", Target: target, Limit: v.String(), Until: h.until, Decision: g.standing.ID, Verdict: g.standing.Verdict,
		})
	}
	if g.standing.Verdict == dossier.Active {
		g.fresh = append(g.fresh, nft.Hold{Target: target, For: wait})
	}
}

// heldPrefix is what a limit acts on when it drops a request.
func heldPrefix(c *daw.Conn, v daw.RequestVerdict) netip.Prefix {
	return netip.PrefixFrom(c.Src, v.HeldBits(c.Src)).Masked()
}

func (g *Guard) openHold(target netip.Prefix) *heldSource {
	h := &heldSource{}
	g.holds[target] = h
	g.stats.Held++
	return h
}

// noteDrop records a source of which the kernel has dropped a request. What it drops
// next needs no leave of the guard, and no room in a table.
func (g *Guard) noteDrop(now flow.Time, c *daw.Conn, v daw.RequestVerdict) {
	if !v.IsLimit() || !g.mayAct(now) {
		return
	}
	target := heldPrefix(c, v)
	h := g.holds[target]
	if h == nil {
		if len(g.holds) >= g.c.Holds {
			return
		}
		h = g.openHold(target)
		g.event(Action{Time: now, What: "hold", Target: target, Limit: v.String(), Decision: g.standing.ID, Verdict: g.standing.Verdict})
	}
	h.until, h.limit = now+flow.Time(shownHold), v
	h.times++
}

// mayAct reports whether the guard may act on its own, or would in a dry run. It
// takes more than a decision: who fails must be who sends.
func (g *Guard) mayAct(now flow.Time) bool {
	return isStandingInForce(now, &g.standing) && (g.standing.Verdict == dossier.DryRun || g.c.Validation.isValidated())
}

// hasRoomToHold reports whether the router may hold one more source. The bound of
// the standing decision does not count here: a hold is the limit itself, which any
// source at its limit meets, and a limit that ends once enough sources are at it
// would be ended by anybody who brings them there.
func (g *Guard) hasRoomToHold(now flow.Time) bool {
	if len(g.holds) < g.c.Holds {
		return true
	}
	if now >= g.warned {
		g.warned = now + quiet
		g.event(Action{
			Time: now, What: "exhausted", Decision: g.standing.ID, Verdict: g.standing.Verdict,
			Why: fmt.Sprintf("%d sources are held back, and no more may be ('holds'); further ones at their limit pass", len(g.holds)),
		})
	}
	return false
}

// hasRoom reports whether one more block fits the bounds of the standing decision
// and of the router.
func (g *Guard) hasRoom(now flow.Time) bool {
	mine := 0
	for _, d := range g.own {
		if isBlocking(now, &d) {
			mine++
		}
	}
	ordered := 0
	for _, d := range g.policyDecisions {
		if d.Verdict == dossier.Active && isBlocking(now, &d) {
			ordered += countAddresses(d.Target)
		}
	}
	return mine < g.standing.Standing.Most && mine+ordered < g.c.Most
}

// countAddresses is how much of the router's bound a block uses: for IPv6 its
// /64s.
func countAddresses(p netip.Prefix) int {
	free := 32 - p.Bits()
	if p.Addr().Is6() {
		free = max(0, 64-p.Bits())
	}
	return 1 << min(free, 40)
}

// dropReleasedHolds removes holds that were not asked for again.
func (g *Guard) dropReleasedHolds(now flow.Time) {
	for target, h := range g.holds {
		if now >= h.until+quiet || !g.mayAct(now) {
			delete(g.holds, target)
			g.event(Action{Time: now, What: "release", Target: target, Limit: h.limit.String(), Times: h.times, Decision: g.standing.ID, Verdict: g.standing.Verdict})
		}
	}
}

// countHeld counts sources held back at this moment.
func (g *Guard) countHeld(now flow.Time) int {
	n := 0
	for _, h := range g.holds {
		if now < h.until {
			n++
		}
	}
	return n
}
