package packets

import (
	"slices"
	"time"

	"dragnet/flow"
)

// data notes which bytes the capture holds.
func (a *Assembler) data(c *conn, s *segment, me *tcpSide) {
	if s.PayloadLen == 0 || s.has(flow.RST) || s.at < 0 || s.Cut() {
		return
	}
	from := s.at
	if s.has(flow.SYN) {
		from++
	}
	to := from + int64(s.PayloadLen)
	a.missing(c, s.side, me.losses.receive(max(from, me.acked), to))
	me.losses.limit(me.unacked(), c.sizeOf(s.side))
}

// missing notes gaps of a side, if they can be told from guesses.
func (a *Assembler) missing(c *conn, side int, g gaps) {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	if !me.clean() || !peer.clean() {
		return
	}
	for range g.holes {
		c.scaled(side, 'G', &me.gapLetters)
	}
	c.missed += uint64(g.bytes)
}

// acknowledged notes that side's data before upTo arrived.
func (a *Assembler) acknowledged(c *conn, side int, upTo int64) {
	me := &c.sides[side].tcp
	if me.fins > 0 {
		upTo = min(upTo, me.finEnd-1)
	}
	if upTo <= me.losses.freed {
		return
	}
	if upTo <= 2 && c.midway && upTo > me.losses.next {
		// The SYN of a connection seen from the middle was imagined, and its
		// first packet may have been a keep-alive: nothing is missing.
		me.losses.freed = upTo
	} else {
		a.missing(c, side, me.losses.acknowledge(upTo))
	}
	a.drain(c, side)
}

// pending reports whether data before a side's close is still to come: its
// own, or the other's unacknowledged.
func (c *conn) pending(side int) bool {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	next := me.losses.next
	if me.losses.blind || me.last < next {
		return false
	}
	if next != me.last && next != me.last-1 { // a FIN takes a position, a RST does not
		return true
	}
	return me.phase != reset && peer.losses.waiting()
}

// drain takes up a deferred close when all data of a side has been seen.
func (a *Assembler) drain(c *conn, side int) {
	me := &c.sides[side].tcp
	if me.drained || me.fins == 0 && me.phase != closed && me.phase != reset || c.pending(side) {
		return
	}
	me.drained = true
	if c.deferred {
		a.close(c, side)
		c.deferred = false
	}
}

// close takes note of the end of one side. When that ends the connection, only
// stragglers are waited for.
func (a *Assembler) close(c *conn, side int) {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	c.deferred = c.pending(side)
	if c.deferred || me.done {
		return
	}
	me.done = true
	switch {
	case me.phase == reset || peer.done || peer.phase == inactive:
		c.timers[attempt], c.timers[check] = never, never
		a.set(c, linger, c.last+flow.Time(a.config.CloseDelay))
	default:
		a.set(c, check, c.last+flow.Time(a.config.CheckInterval))
	}
}

// limitSilence sets how long c may be silent, counted from its last packet.
func (a *Assembler) limitSilence(c *conn, d time.Duration) {
	if d != c.inactivity {
		c.inactivity = d
		a.set(c, quiet, c.last+flow.Time(d))
	}
}

// interactive gives connections on which people work more time.
func (a *Assembler) interactive(c *conn) {
	_, port := c.tuple.end(c.origin ^ 1)
	if c.sides[c.origin].tcp.phase == inactive && !a.serves(flow.TCP, port) {
		if _, p := c.tuple.end(c.origin); a.serves(flow.TCP, p) {
			port = p
		}
	}
	if slices.Contains(a.config.InteractivePorts, port) {
		a.limitSilence(c, a.config.InteractiveInactivity)
	}
}
