package guard

import (
	"net/netip"
	"time"

	"dragnet/contain/nft"
	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
)

// hold is a source at its limit.
type hold struct {
	until flow.Time
	limit daw.Verdict
	times int
}

// The length of one hold. The edge goes on judging requests meanwhile, and asks
// for another when the first is over; so a short bound costs little and an end
// of the limit takes effect soon.
const (
	shortestHold = time.Second
	longestHold  = 10 * time.Minute
	// quiet is how long nobody asks to hold a source again until it counts as
	// let go.
	quiet = flow.Time(time.Minute)
)

// limitName is what a verdict's limit is called in events.
func limitName(v daw.Verdict) string {
	return [...]string{daw.Temporal: "temporal", daw.Network64: "network64", daw.Spatial: "spatial", daw.Spoofed: ""}[v]
}

// hold holds a source back, if the standing decision allows it.
func (g *Guard) hold(now flow.Time, c *daw.Conn, v daw.Verdict) {
	if !g.standingAt(now) {
		return
	}
	if g.standing.Verdict == dossier.Active {
		// It is dropped only once the router knows, and may slip through
		// before; then its failure counts.
		g.edge.Slipped(now, c)
	}
	target := netip.PrefixFrom(c.Src, c.Src.BitLen())
	if v == daw.Network64 {
		target = netip.PrefixFrom(c.Src, 64).Masked()
	}
	h := g.holds[target]
	if h != nil && now < h.until {
		return
	}
	if h == nil {
		if !g.room(now) {
			g.stats.Refused++
			return
		}
		h = &hold{}
		g.holds[target] = h
		g.stats.Held++
	}
	wait := min(max(g.edge.Wait(now, c.Src, v), shortestHold), longestHold)
	h.until, h.limit = now+flow.Time(wait), v
	if h.times++; h.times == 1 {
		g.event(Event{
			Time: now, What: "hold", Target: target, Limit: limitName(v), Until: h.until, Decision: g.standing.ID, Verdict: g.standing.Verdict,
		})
	}
	if g.standing.Verdict == dossier.Active {
		g.fresh = append(g.fresh, nft.Hold{Target: target, For: wait})
	}
}

// standingAt reports whether the guard may act by itself, or would in a dry run.
func (g *Guard) standingAt(now flow.Time) bool { return blockingRule(now, &g.standing) }

// room reports whether one more address fits the standing decision and the
// router.
func (g *Guard) room(now flow.Time) bool {
	mine := len(g.holds)
	for _, d := range g.own {
		if blocking(now, &d) {
			mine++
		}
	}
	ordered := 0
	for _, d := range g.orders {
		if d.Verdict == dossier.Active && blocking(now, &d) {
			ordered += addresses(d.Target)
		}
	}
	return mine < g.standing.Standing.Most && mine+ordered < g.c.Most
}

// addresses is what a block costs the router's bound: for IPv6 its /64s.
func addresses(p netip.Prefix) int {
	free := 32 - p.Bits()
	if p.Addr().Is6() {
		free = max(0, 64-p.Bits())
	}
	return 1 << min(free, 40)
}

// letGo forgets holds that nobody asked for again.
func (g *Guard) letGo(now flow.Time) {
	for target, h := range g.holds {
		if now >= h.until+quiet || !g.standingAt(now) {
			delete(g.holds, target)
			g.event(Event{Time: now, What: "release", Target: target, Limit: limitName(h.limit), Times: h.times, Decision: g.standing.ID, Verdict: g.standing.Verdict})
		}
	}
}

// heldNow counts sources held back at this moment.
func (g *Guard) heldNow(now flow.Time) int {
	n := 0
	for _, h := range g.holds {
		if now < h.until {
			n++
		}
	}
	return n
}
