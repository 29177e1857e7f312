package packets

import (
	"slices"
	"time"

	"dragnet/flow"
)

// addData records which bytes are in the capture.
func (a *Assembler) addData(c *conn, s *segment, me *tcpSide) {
	if s.PayloadLen == 0 || s.hasFlag(flow.RST) || s.at < 0 || s.Cut() && !a.config.HeadersOnly {
		return
	}
	from := s.at
	if s.hasFlag(flow.SYN) {
		from++
	}
	to := from + int64(s.PayloadLen)
	a.addGaps(c, s.side, me.losses.addData(max(from, me.acked), to))
	me.losses.limitWaiting(me.isUnacked(), c.sizeOf(s.side))
}

// addGaps records gaps of a side, if they are certain.
func (a *Assembler) addGaps(c *conn, side int, g gaps) {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	if !me.isClean() || !peer.isClean() {
		return
	}
	for range g.holes {
		c.addScaled(side, 'G', &me.gapLetters)
	}
	c.missed += uint64(g.bytes)
}

// addAck records that side's data before upTo arrived.
func (a *Assembler) addAck(c *conn, side int, upTo int64) {
	me := &c.sides[side].tcp
	if me.fins > 0 {
		upTo = min(upTo, me.finEnd-1)
	}
	if upTo <= me.losses.freed {
		return
	}
	if upTo <= 2 && c.midway && upTo > me.losses.next {
		// The SYN of a connection seen from the middle is only assumed, and its
		// first packet may have been a keep-alive: nothing is missing.
		me.losses.freed = upTo
	} else {
		a.addGaps(c, side, me.losses.addAck(upTo))
	}
	a.resumeClose(c, side)
}

// isPending reports whether data before a side's close is still outstanding:
// its own, or unacknowledged data of the other side.
func (c *conn) isPending(side int) bool {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	next := me.losses.next
	if me.losses.blind || me.last < next {
		return false
	}
	if next != me.last && next != me.last-1 { // a FIN takes a position, a RST does not
		return true
	}
	return me.phase != reset && peer.losses.hasUnacked()
}

// resumeClose resumes a deferred close when all data of a side has been seen.
func (a *Assembler) resumeClose(c *conn, side int) {
	me := &c.sides[side].tcp
	if me.drained || me.fins == 0 && me.phase != closed && me.phase != reset || c.isPending(side) {
		return
	}
	me.drained = true
	if c.deferred {
		a.closeSide(c, side)
		c.deferred = false
	}
}

// closeSide processes the end of one side. If that ends the connection, it only
// waits for stragglers.
func (a *Assembler) closeSide(c *conn, side int) {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	c.deferred = c.isPending(side)
	if c.deferred || me.done {
		return
	}
	me.done = true
	switch {
	case me.phase == reset || peer.done || peer.phase == inactive:
		c.timers[attempt], c.timers[check] = never, never
		a.setTimer(c, linger, c.last+flow.Time(a.config.CloseDelay))
	default:
		a.setTimer(c, check, c.last+flow.Time(a.config.CheckInterval))
	}
}

// limitSilence sets how long c may be silent, counted from its last packet.
func (a *Assembler) limitSilence(c *conn, d time.Duration) {
	if d != c.inactivity {
		c.inactivity = d
		a.setTimer(c, quiet, c.last+flow.Time(d))
	}
}

// extendInteractive gives interactive connections more time.
func (a *Assembler) extendInteractive(c *conn) {
	_, port := c.tuple.endOf(c.origin ^ 1)
	if c.sides[c.origin].tcp.phase == inactive && !a.isServerPort(flow.TCP, port) {
		if _, p := c.tuple.endOf(c.origin); a.isServerPort(flow.TCP, p) {
			port = p
		}
	}
	if slices.Contains(a.config.InteractivePorts, port) {
		a.limitSilence(c, a.config.InteractiveInactivity)
	}
}
