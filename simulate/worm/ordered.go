package worm

import (
	"context"
	"math"
	"slices"
)

// ordered runs worms whose scans follow an order that the infected share: each
// infected host is simulated from one vulnerable address to the next.
type ordered struct {
	*world
	now       float64
	heap      heap
	positions []position // vulnerable hosts in the worm's order of all addresses
	place     [][]int32  // per network: indexes into positions
	list      []int32    // hit list: networks of its entries, -1 for a dead one
	scanners  []scanner
}

// position is where a vulnerable host lies in the worm's permutation.
type position struct {
	at      float64 // 0..Space
	network int32
}

// scanner is one infected host.
type scanner struct {
	network  int32
	from, to int32   // its part of the hit list
	at       float64 // where it is in the permutation
	next     int32   // the vulnerable position it will meet
	until    float64 // when it is blocked
}

func runOrdered(ctx context.Context, c Configuration) (*Outbreak, error) {
	o := &ordered{world: newWorld(c)}
	o.placeHosts()
	first := o.drawVictim(0)
	o.infectNetwork(first, 0, int32(len(o.list)), -1)
	end, need := c.MaxDays*Day, c.Until*float64(o.total)
	for n := 0; ; n++ {
		switch {
		case n%checkEvery == 0 && ctx.Err() != nil:
			return nil, ctx.Err()
		case float64(o.infected) >= need:
			return o.makeResult(o.now, false), nil
		case len(o.heap.events) == 0:
			return o.makeResult(o.now, true), nil
		}
		e := o.heap.popEvent()
		if e.at > end {
			return o.makeResult(end, false), nil
		}
		o.now = e.at
		o.result.Transitions++
		o.hitTarget(int(e.network))
	}
}

// placeHosts places the vulnerable hosts in the worm's order, and draws the hit
// list.
func (o *ordered) placeHosts() {
	o.place = make([][]int32, len(o.networks))
	for id := range o.networks {
		for range o.networks[id].size {
			o.positions = append(o.positions, position{math.Floor(o.draw.Float64() * o.c.Space), int32(id)})
		}
	}
	slices.SortFunc(o.positions, func(a, b position) int { return int(math.Copysign(1, a.at-b.at)) })
	for i, p := range o.positions {
		o.place[p.network] = append(o.place[p.network], int32(i))
	}
	if o.c.Strategy == Permutation {
		return
	}
	live := min(int(math.Round(float64(o.c.List)*o.c.ListLive)), len(o.positions))
	if o.c.Strategy == Flash {
		live = len(o.positions)
	}
	for _, i := range o.draw.Perm(len(o.positions))[:live] {
		o.list = append(o.list, o.positions[i].network)
	}
	for range int(math.Round(float64(live)/o.c.ListLive)) - live {
		o.list = append(o.list, -1)
	}
	o.draw.Shuffle(len(o.list), func(i, j int) { o.list[i], o.list[j] = o.list[j], o.list[i] })
}

// infectNetwork infects network id; its hosts share the part [from, to) of the
// list. A host found by permutation scanning starts anywhere, as its finder
// continues from its address; those infected by it or by a list start at their
// own position (Staniford et al. 2002, section 4.2). found is that host's
// position, or -1.
func (o *ordered) infectNetwork(id int, from, to, found int32) {
	o.markInfected(id, o.now)
	until := math.Inf(1)
	if o.c.Defence == Full && o.networks[id].deployed {
		until = o.now + o.c.Days*Day
	}
	hosts := o.place[id]
	share := (to - from) / int32(len(hosts))
	for i, at := range hosts {
		s := scanner{network: int32(id), from: from, to: from + share, at: o.positions[at].at, next: at, until: until}
		if at == found {
			o.jumpAway(&s)
		}
		if i == len(hosts)-1 {
			s.to = to
		}
		from = s.to
		o.scanners = append(o.scanners, s)
		o.planNext(len(o.scanners) - 1)
	}
}

// planNext plans when scanner i finds something next.
func (o *ordered) planNext(i int) {
	s := &o.scanners[i]
	n := &o.networks[s.network]
	failing := o.c.passedRate(float64(n.infected), n.deployed) / float64(n.infected)
	wait := 0.0
	if s.from < s.to {
		// A dead entry fails and is limited; a live one uses no token.
		dead := 0
		for s.from < s.to && o.list[s.from] < 0 {
			s.from++
			dead++
		}
		o.result.Scans += float64(dead)
		if wait = float64(dead) * max(1/failing, 1/o.c.Rate); s.from < s.to {
			o.planEvent(i, wait+1/o.c.Rate)
			return
		}
		// The list ends in dead entries: the permutation follows, if any.
	}
	if o.c.Strategy == Flash {
		return
	}
	s.next = (s.next + 1) % int32(len(o.positions))
	gap := o.positions[s.next].at - s.at
	if gap <= 0 && len(o.positions) > 1 {
		gap += o.c.Space
	} else if gap <= 0 {
		return
	}
	o.planEvent(i, wait+gap/failing)
}

func (o *ordered) planEvent(i int, wait float64) {
	if at := o.now + wait; at < o.scanners[i].until {
		o.heap.pushEvent(event{at: at, network: int32(i), kind: scanFound})
	}
}

// hitTarget lets scanner i hit its planned target.
func (o *ordered) hitTarget(i int) {
	s := &o.scanners[i]
	if s.from < s.to {
		o.result.Scans++
		target := o.list[s.from]
		s.from++
		if n := &o.networks[target]; n.infected == 0 && n.size > 0 {
			// Half of the rest of the list goes to the child.
			middle := s.from + (s.to-s.from)/2
			from, to := middle, s.to
			s.to = middle
			o.infectNetwork(int(target), from, to, -1)
		}
		o.planNext(i)
		return
	}
	p := o.positions[s.next]
	gap := p.at - s.at
	if gap <= 0 {
		gap += o.c.Space
	}
	o.result.Scans += gap
	s.at = p.at
	if o.networks[p.network].infected == 0 {
		o.infectNetwork(int(p.network), 0, 0, s.next)
	} else {
		// This stretch was scanned already, so jump elsewhere.
		o.jumpAway(s)
	}
	o.planNext(i)
}

// jumpAway moves a scanner to a random place in the order.
func (o *ordered) jumpAway(s *scanner) {
	s.at = math.Floor(o.draw.Float64() * o.c.Space)
	next, _ := slices.BinarySearchFunc(o.positions, s.at, func(p position, at float64) int { return int(math.Copysign(1, p.at-at)) })
	s.next = int32((next - 1 + len(o.positions)) % len(o.positions))
}
