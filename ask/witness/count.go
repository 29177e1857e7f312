package witness

import (
	"cmp"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
)

// farEnd is what a clue may count of a flow.
type farEnd struct {
	time flow.Time
	peer netip.Addr
	port uint16
}

// applyCounts notes since when each hit reaches the clue's counts, and forgets those
// that never do.
func (c *askedClue) applyCounts() {
	c.since = map[hit]flow.Time{}
	for h, ends := range c.ends {
		if at, ok := countsReached(ends, c.Bounds); ok {
			c.since[h] = at
		} else {
			delete(c.found, h)
		}
	}
	c.ends = nil
}

// countsReached is the earliest time at which the flows up to then reach all counts.
func countsReached(ends []farEnd, b pattern.Bounds) (at flow.Time, ok bool) {
	slices.SortFunc(ends, func(a, b farEnd) int { return cmp.Compare(a.time, b.time) })
	flows, peers, ports := b.Least(pattern.Flows), b.Least(pattern.Peers), b.Least(pattern.Ports)
	seenPeers, seenPorts := map[netip.Addr]bool{}, map[uint16]bool{}
	for i, e := range ends {
		seenPeers[e.peer], seenPorts[e.port] = true, true
		if uint64(i+1) >= flows && uint64(len(seenPeers)) >= peers && uint64(len(seenPorts)) >= ports {
			return e.time, true
		}
	}
	return 0, false
}

// matching are the events of a hit that match the clue: all, or those since it
// reached the counts.
func (c *askedClue) matching(h hit) []dossier.FlowEvent {
	events := c.found[h]
	if !c.counts {
		return events
	}
	from, _ := slices.BinarySearchFunc(events, c.since[h], func(e dossier.FlowEvent, t flow.Time) int { return cmp.Compare(e.Time, t) })
	return events[from:]
}
