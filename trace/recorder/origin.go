//go:build linux

package recorder

import "dragnet/trace/kernel"

// Why a connection may be where another one came from.
const (
	// DataPath: a process held both at the same time.
	DataPath = "same process"
	// StartedBy: a process that descends from one which held it then opened the
	// other.
	StartedBy = "started from it"
	// Carries: it was opened here, and what came back through it may have caused
	// the other: a reverse shell, or a forwarding of ssh -R.
	Carries = "may have carried it"
)

// origin is a connection from which another one may have come.
type origin struct {
	c   *connection
	p   *process
	why string
}

// maxCrossed bounds the connections within this machine that are followed one
// after the other.
const maxCrossed = 8

// originsOf are the connections from which c may have come: those that its
// holders, and processes on the path of its data, had at the same time; and those
// that one of their ancestors had when it started the next. Only the nearest
// ancestor with an inbound connection counts: who once started a server is not
// behind all that is done through it.
func originsOf(c *connection) []origin {
	s := search{of: c.ends, seen: map[*connection]bool{c: true}}
	for _, p := range c.holders {
		s.addHeld(p, c, true, maxCrossed)
	}
	for _, m := range c.path {
		s.addHeld(m.p, c, false, maxCrossed)
	}
	for _, p := range c.holders {
		s.addStarters(p, maxCrossed)
	}
	return s.found
}

type search struct {
	of    ends // which is not its own origin
	seen  map[*connection]bool
	found []origin
}

// add adds a connection, or what is behind its other end if that is on this
// machine. It reports whether an inbound connection was found.
func (s *search) add(h *connection, p *process, why string, depth int) bool {
	if s.seen[h] || h.ends == s.of {
		return false
	}
	s.seen[h] = true
	if !isLocal(h) && h.peer == nil {
		s.found = append(s.found, origin{h, p, why})
		return h.direction != kernel.Outbound
	}
	if h.peer == nil || depth == 0 || h.direction == kernel.Outbound {
		return false
	}
	s.seen[h.peer] = true
	inbound := false
	for _, other := range h.peer.holders {
		inbound = s.addHeld(other, h.peer, true, depth-1) || inbound
		inbound = s.addStarters(other, depth-1) || inbound
	}
	return inbound
}

// addHeld adds what a process had open at the same time as c. What it opened
// itself counts if it did so before, and if it is a holder of c.
func (s *search) addHeld(p *process, c *connection, holder bool, depth int) (inbound bool) {
	for _, h := range p.held {
		if !overlaps(h, c) {
			continue
		}
		if h.direction != kernel.Outbound {
			inbound = s.add(h, p, DataPath, depth) || inbound
		} else if holder && h.started <= c.started && c.direction == kernel.Outbound {
			s.add(h, p, Carries, depth)
		}
	}
	return inbound
}

// addStarters follows who started a process.
func (s *search) addStarters(p *process, depth int) (inbound bool) {
	for n := 0; n < maxAncestors && p.by != nil && p.by.id.PID != 1 && !inbound; n++ {
		for _, h := range p.by.held {
			if h.started > p.born || h.ended != 0 && h.ended < p.born {
				continue
			}
			why := StartedBy
			if h.direction == kernel.Outbound {
				why = Carries
			}
			inbound = s.add(h, p.by, why, depth) || inbound
		}
		p = p.by
	}
	return inbound
}

// overlaps reports whether two connections were open at the same time.
func overlaps(a, b *connection) bool {
	return (b.ended == 0 || a.started <= b.ended) && (a.ended == 0 || b.started <= a.ended)
}

func isLocal(c *connection) bool { return c.remote.Addr().IsLoopback() }
