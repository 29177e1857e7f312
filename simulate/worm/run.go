package worm

import (
	"context"
	"math"
)

// Run plays one run of c.
func Run(ctx context.Context, c Configuration) (*Result, error) {
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

// stream is a set of scans with one target space: what a zone's hosts send
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

// checkEvery is the number of events between looks at the context.
const checkEvery = 1 << 14

func (r *random) run(ctx context.Context) (*Result, error) {
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
	r.fall(r.victim(zone))
	end, need := r.c.MaxDays*Day, r.c.Until*float64(r.total)
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if float64(r.infected) >= need {
			return r.finish(r.now, false), nil
		}
		at, hit := r.next()
		if r.scanning == 0 {
			return r.finish(r.now, true), nil
		}
		if at > end {
			r.pass(end)
			return r.finish(end, false), nil
		}
		r.pass(at)
		if hit == nil {
			r.handle(r.heap.pop())
			continue
		}
		r.fall(r.victim(r.target(hit)))
	}
}

// next is the time of the next event, and the stream that hits, or nil if it
// is the heap's.
func (r *random) next() (float64, *stream) {
	at := math.Inf(1)
	var hit *stream
	for len(r.heap.events) > 0 {
		e := &r.heap.events[0]
		if e.version == blockVersion || e.version == r.networks[e.network].version {
			at = e.at
			break
		}
		r.heap.pop()
	}
	for i := range r.streams {
		s := &r.streams[i]
		if s.rate > 0 && r.now+s.ahead/s.rate < at {
			at, hit = r.now+s.ahead/s.rate, s
		}
	}
	return at, hit
}

// pass lets time go by: every stream moves on by its scans.
func (r *random) pass(at float64) {
	for i := range r.streams {
		s := &r.streams[i]
		n := s.rate * (at - r.now)
		s.ahead -= n
		r.result.Scans += n
	}
	r.now = at
}

// target draws the zone that a hit lies in.
func (r *random) target(s *stream) int {
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

// aim draws how many scans of s pass until one hits a susceptible host. The
// draw forgets the past, so it is made anew whenever their number changes.
func (r *random) aim(s *stream) {
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

// fall infects a host of network id and sets what follows from it.
func (r *random) fall(id int) {
	first := r.networks[id].infected == 0
	r.infect(id, r.now)
	n := &r.networks[id]
	for i := range r.streams {
		s := &r.streams[i]
		if (s.zone == int(n.zone)) != s.out {
			r.aim(s)
		}
	}
	if first {
		r.scanning++
		n.agent.left = Day - math.Mod(r.now, Day)
	}
	if first && r.c.Defence == Full && n.deployed && r.c.Budget != Agent {
		r.heap.push(event{at: r.now + r.c.Days*Day, network: int32(id), version: blockVersion, kind: blockDue})
	}
	r.plan(id)
}

// blockVersion marks events that no later plan voids.
const blockVersion = -1

// plan sets a network's rate and its next own event.
func (r *random) plan(id int) {
	n := &r.networks[id]
	n.version++
	if r.c.Budget == Agent && n.deployed && r.c.Defence != None {
		failures, lasts := n.agent.span(&r.c, float64(n.infected))
		r.setRate(n, failures/r.c.Replies)
		r.heap.push(event{at: r.now + lasts, network: int32(id), version: n.version, kind: rateEnds})
		return
	}
	r.setRate(n, r.c.passed(float64(n.infected), n.deployed))
	if r.c.Strategy == Local && n.infected < n.size {
		rate := float64(n.infected) * r.c.Rate * r.c.LocalShare
		p := min(1, float64(n.size-n.infected)/r.c.LocalSpace)
		r.heap.push(event{at: r.now + r.draw.ExpFloat64()/(rate*p), network: int32(id), version: n.version, kind: localHit})
	}
}

// handle lets an event of the heap happen.
func (r *random) handle(e event) {
	r.result.Transitions++
	n := &r.networks[e.network]
	switch e.kind {
	case localHit:
		r.result.Transitions-- // the infection is counted by itself
		r.fall(int(e.network))
	case rateEnds:
		n.agent.pass(&r.c, float64(n.infected))
		if r.c.Defence == Full && n.agent.days >= r.c.Days {
			r.block(n)
			return
		}
		r.plan(int(e.network))
	case blockDue:
		r.block(n)
	}
}

func (r *random) block(n *network) {
	n.version++
	r.setRate(n, 0)
	r.scanning--
}

func (r *random) setRate(n *network, rate float64) {
	change := rate - n.rate
	n.rate = rate
	own := 1 / float64(r.c.Zones)
	if r.c.Zones == 1 {
		r.streams[0].add(change, 0)
		return
	}
	limit := 0.0
	if r.c.ZonePhi > 0 && r.c.Defence != None {
		limit = r.c.ZonePhi / Day / r.c.Replies
	}
	r.streams[2*n.zone].add(change*own, 0)
	r.streams[2*n.zone+1].add(change*(1-own), limit)
}

// add changes the demand on a stream; limit 0 means none.
func (s *stream) add(change, limit float64) {
	s.demand += change
	if s.demand < 1e-12 { // what is left of a sum that should be 0
		s.demand = 0
	}
	s.rate = s.demand
	if limit > 0 {
		s.rate = min(s.rate, limit)
	}
}
