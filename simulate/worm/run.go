package worm

import (
	"context"
	"math"
)

// Run simulates one run of c.
func Run(ctx context.Context, c Configuration) (*Outbreak, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	switch c.Strategy {
	case Permutation, HitList, Flash:
		return runOrdered(ctx, c)
	}
	r := &random{world: newWorld(c)}
	return r.run(ctx)
}

// stream is a set of scans with one target space: those of a zone's hosts
// within their zone, or out of it.
type stream struct {
	zone   int
	out    bool
	demand float64 // rate the networks pass on
	rate   float64 // after the zone's own limit
	ahead  float64 // scans to the next hit
}

// random runs worms whose scans are independent of each other.
type random struct {
	*world
	now      float64
	heap     heap
	streams  []stream
	scanning int // infected networks that are not blocked
}

// checkEvery is the number of events between checks of the context.
const checkEvery = 1 << 14

func (r *random) run(ctx context.Context) (*Outbreak, error) {
	for z := range r.c.Zones {
		r.streams = append(r.streams, stream{zone: z})
		if r.c.Zones > 1 {
			r.streams = append(r.streams, stream{zone: z, out: true})
		}
	}
	zone := r.draw.IntN(r.c.Zones)
	for r.healthy[zone] == 0 {
		zone = (zone + 1) % r.c.Zones
	}
	r.infectHost(r.drawVictim(zone))
	end, need := r.c.MaxDays*Day, r.c.Until*float64(r.total)
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if float64(r.infected) >= need {
			return r.makeResult(r.now, false), nil
		}
		at, hit := r.nextEvent()
		if r.scanning == 0 {
			return r.makeResult(r.now, true), nil
		}
		if at > end {
			r.advanceStreams(end)
			return r.makeResult(end, false), nil
		}
		r.advanceStreams(at)
		if hit == nil {
			r.handleEvent(r.heap.popEvent())
			continue
		}
		r.infectHost(r.drawVictim(r.drawZone(hit)))
	}
}

// nextEvent is the time of the next event, and the stream that hits, or nil if it
// is the heap's.
func (r *random) nextEvent() (float64, *stream) {
	at := math.Inf(1)
	var hit *stream
	for len(r.heap.events) > 0 {
		e := &r.heap.events[0]
		if e.version == blockVersion || e.version == r.networks[e.network].version {
			at = e.at
			break
		}
		r.heap.popEvent()
	}
	for i := range r.streams {
		s := &r.streams[i]
		if s.rate > 0 && r.now+s.ahead/s.rate < at {
			at, hit = r.now+s.ahead/s.rate, s
		}
	}
	return at, hit
}

// advanceStreams advances the time: every stream advances by its scans.
func (r *random) advanceStreams(at float64) {
	for i := range r.streams {
		s := &r.streams[i]
		n := s.rate * (at - r.now)
		s.ahead -= n
		r.result.Scans += n
	}
	r.now = at
}

// drawZone draws the zone of a hit.
func (r *random) drawZone(s *stream) int {
	if !s.out {
		return s.zone
	}
	all := -r.healthy[s.zone]
	for _, h := range r.healthy {
		all += h
	}
	n := r.draw.IntN(all)
	for z, h := range r.healthy {
		if z == s.zone {
			continue
		}
		if n -= h; n < 0 {
			return z
		}
	}
	return s.zone
}

// drawNextHit draws how many scans of s pass until one hits a susceptible host.
// The distribution is memoryless, so it is drawn again whenever their number
// changes.
func (r *random) drawNextHit(s *stream) {
	space, targets := r.c.Space/float64(r.c.Zones), r.healthy[s.zone]
	if s.out {
		space, targets = r.c.Space-space, -targets
		for _, h := range r.healthy {
			targets += h
		}
	}
	if targets <= 0 {
		s.ahead = math.Inf(1)
		return
	}
	s.ahead = math.Ceil(-r.draw.ExpFloat64() / math.Log1p(-float64(targets)/space))
}

// infectHost infects a host of network id and plans what follows.
func (r *random) infectHost(id int) {
	first := r.networks[id].infected == 0
	r.markInfected(id, r.now)
	n := &r.networks[id]
	for i := range r.streams {
		s := &r.streams[i]
		if (s.zone == int(n.zone)) != s.out {
			r.drawNextHit(s)
		}
	}
	if first {
		r.scanning++
		n.agent.left = Day - math.Mod(r.now, Day)
	}
	if first && r.c.Defence == Full && n.deployed && r.c.Budget != Agent {
		r.heap.pushEvent(event{at: r.now + r.c.Days*Day, network: int32(id), version: blockVersion, kind: blockDue})
	}
	r.planNetwork(id)
}

// blockVersion marks events that no later plan invalidates.
const blockVersion = -1

// planNetwork sets a network's rate and its next own event.
func (r *random) planNetwork(id int) {
	n := &r.networks[id]
	n.version++
	if r.c.Budget == Agent && n.deployed && r.c.Defence != None {
		failures, lasts := n.agent.startSpan(&r.c, float64(n.infected))
		r.setRate(n, failures/r.c.Replies)
		r.heap.pushEvent(event{at: r.now + lasts, network: int32(id), version: n.version, kind: rateEnds})
		return
	}
	r.setRate(n, r.c.passedRate(float64(n.infected), n.deployed))
	if r.c.Strategy == Local && n.infected < n.size {
		rate := float64(n.infected) * r.c.Rate * r.c.LocalShare
		p := min(1, float64(n.size-n.infected)/r.c.LocalSpace)
		r.heap.pushEvent(event{at: r.now + r.draw.ExpFloat64()/(rate*p), network: int32(id), version: n.version, kind: localHit})
	}
}

// handleEvent executes an event of the heap.
func (r *random) handleEvent(e event) {
	r.result.Transitions++
	n := &r.networks[e.network]
	switch e.kind {
	case localHit:
		r.result.Transitions-- // the infection is counted separately
		r.infectHost(int(e.network))
	case rateEnds:
		n.agent.endSpan(&r.c, float64(n.infected))
		if r.c.Defence == Full && n.agent.days >= r.c.Days {
			r.blockNetwork(n)
			return
		}
		r.planNetwork(int(e.network))
	case blockDue:
		r.blockNetwork(n)
	}
}

func (r *random) blockNetwork(n *network) {
	n.version++
	r.setRate(n, 0)
	r.scanning--
}

func (r *random) setRate(n *network, rate float64) {
	change := rate - n.rate
	n.rate = rate
	own := 1 / float64(r.c.Zones)
	if r.c.Zones == 1 {
		r.streams[0].addDemand(change, 0)
		return
	}
	limit := 0.0
	if r.c.ZonePhi > 0 && r.c.Defence != None {
		limit = r.c.ZonePhi / Day / r.c.Replies
	}
	r.streams[2*n.zone].addDemand(change*own, 0)
	r.streams[2*n.zone+1].addDemand(change*(1-own), limit)
}

// addDemand changes the demand on a stream; limit 0 means none.
func (s *stream) addDemand(change, limit float64) {
	s.demand += change
	if s.demand < 1e-12 { // rounding error of a sum that should be 0
		s.demand = 0
	}
	s.rate = s.demand
	if limit > 0 {
		s.rate = min(s.rate, limit)
	}
}
