package packets

import (
	"bytes"

	"dragnet/flow"
)

// enterPhase moves a side to another phase. After the handshake a connection
// may be silent for longer.
func (a *Assembler) enterPhase(c *conn, side int, to phase) {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	if to == me.phase {
		return
	}
	if !to.isHandshaking() && me.phase.isHandshaking() && peer.phase.isHandshaking() {
		c.timers[attempt] = never
		a.limitSilence(c, a.config.TCPInactivity)
	}
	me.before, me.phase = me.phase, to
}

// stepPhase moves the sender of s through its phases. closing reports that it
// closed its side.
func (a *Assembler) stepPhase(c *conn, s *segment, me, peer *tcpSide) (closing bool) {
	switch me.phase {
	case inactive:
		return a.firstStep(c, s, me, peer)
	case synSent, synAckSent:
		if s.hasFlag(flow.FIN) {
			a.enterPhase(c, s.side, closed)
			closing = true
		}
		if s.hasFlag(flow.RST) {
			a.enterPhase(c, s.side, reset)
			c.settled = true
			closing = true
		}
	case established, partial:
		return a.runningStep(c, s, me, peer)
	case closed:
		// A RST after both FINs changes nothing.
		if s.hasFlag(flow.RST) && peer.phase != closed {
			a.enterPhase(c, s.side, reset)
			closing = !me.done
		}
	}
	return closing
}

// firstStep is for the first packet of a side.
func (a *Assembler) firstStep(c *conn, s *segment, me, peer *tcpSide) (closing bool) {
	if s.hasFlag(flow.SYN) {
		a.synStep(c, s, peer)
	}
	if s.hasFlag(flow.FIN) {
		a.enterPhase(c, s.side, closed)
		closing = true
	}
	if s.hasFlag(flow.RST) {
		a.enterPhase(c, s.side, reset)
		closing = true
	}
	if me.phase != inactive {
		return closing
	}
	switch {
	case !s.orig && s.PayloadLen == 0 && c.sides[c.origin].tcp.phase == synSent:
		// Some hosts acknowledge a SYN before they answer it.
	case s.hasFlag(flow.ACK) && peer.phase == established:
		// The other side answered a SYN that was missed.
		a.enterPhase(c, s.side, established)
		c.midway = false
		c.seen[s.side] = true
	default:
		a.enterPhase(c, s.side, partial)
	}
	return closing
}

// synStep is for a side's first packet if that is a SYN.
func (a *Assembler) synStep(c *conn, s *segment, peer *tcpSide) {
	if s.orig {
		to := synSent
		if s.hasFlag(flow.ACK) {
			to = synAckSent
		}
		a.enterPhase(c, s.side, to)
		if a.config.AttemptDelay > 0 {
			a.setTimer(c, attempt, s.ts+flow.Time(a.config.AttemptDelay))
		}
		return
	}
	if !s.hasFlag(flow.ACK) && peer.phase == synAckSent {
		// The SYN was overtaken by its answer.
		c.midway = false
		c.flipRoles()
		a.enterPhase(c, s.side^1, established)
		c.seen[c.origin] = true
	}
	if peer.phase == synSent {
		a.enterPhase(c, s.side^1, established)
	}
	a.enterPhase(c, s.side, established)
	if peer.phase != partial {
		a.extendInteractive(c)
	}
}

// runningStep is for a side after its handshake.
func (a *Assembler) runningStep(c *conn, s *segment, me, peer *tcpSide) (closing bool) {
	if s.hasFlag(flow.SYN) && !s.hasFlag(flow.ACK) && me.phase == partial && peer.phase == inactive {
		a.enterPhase(c, s.side, synSent)
	}
	if s.hasFlag(flow.FIN) && !s.hasFlag(flow.RST) {
		a.enterPhase(c, s.side, closed)
		if peer.phase == reset && peer.before == closed {
			// The other side's FIN and then RST were a normal end after all.
			a.enterPhase(c, s.side^1, closed)
		}
		closing = true
	}
	if s.hasFlag(flow.RST) {
		a.enterPhase(c, s.side, reset)
		closing = true
		if peer.phase != reset || peer.before != established {
			c.settled = true
		}
	}
	return closing
}

// isUnanswered reports whether the originator's SYN is still alone.
func (c *conn) isUnanswered() bool {
	orig, resp := &c.sides[c.origin].tcp, &c.sides[c.origin^1].tcp
	return (orig.phase == synSent || orig.phase == synAckSent) && resp.phase == inactive
}

// endedSilently reports whether a silent connection closed by one side needs no
// more waiting: both sides closed, the other never sent, or it was reset.
func (c *conn) endedSilently() bool {
	x, y := &c.sides[0].tcp, &c.sides[1].tcp
	return x.done && y.done || x.phase == reset || y.phase == reset || x.phase == inactive || y.phase == inactive
}

// sizeOf is how many data bytes a side sent, by its sequence numbers or by what
// the other side acknowledged.
func (c *conn) sizeOf(side int) int64 {
	me, peer := &c.sides[side].tcp, &c.sides[side^1].tcp
	if me.before == synSent && me.phase == reset && peer.phase == inactive && !me.isUnacked() {
		return 0 // half-open connection detected and aborted: numbers are of an older one
	}
	n := max(me.last, me.acked) - 1 // without the SYN
	if me.fins > 0 {
		n--
	}
	return max(n, 0)
}

func (c *conn) sizeUint(side int) uint64 { return uint64(c.sizeOf(side)) }

// tcpState is Zeek's conn_state of a TCP connection.
func (c *conn) tcpState() flow.State {
	orig, resp := c.sides[c.origin].tcp.phase, c.sides[c.origin^1].tcp.phase
	origSilent := orig == inactive || orig == partial
	respSilent := resp == inactive || resp == partial
	switch {
	case resp == reset:
		nothing := orig == reset && c.sizeUint(0) == 0 && c.sizeUint(1) == 0
		switch {
		case orig == synSent || orig == synAckSent || nothing:
			return flow.REJ
		case origSilent:
			return flow.RSTRH
		}
		return flow.RSTR
	case orig == reset && respSilent:
		if c.abortedAttempt() {
			return flow.RSTOS0
		}
		return flow.OTH
	case orig == reset:
		return flow.RSTO
	case orig == closed && resp == closed:
		return flow.SF
	case orig == closed && respSilent:
		return flow.SH
	case orig == closed:
		return flow.S2
	case resp == closed && origSilent:
		return flow.SHR
	case resp == closed:
		return flow.S3
	case orig == synSent && resp == inactive:
		return flow.S0
	case orig == established && resp == established:
		return flow.S1
	}
	return flow.OTH
}

// abortedAttempt reports whether the history is a SYN and then a RST, both of
// the originator, with nothing significant from it in between.
func (c *conn) abortedAttempt() bool {
	h := bytes.TrimPrefix(c.history, []byte("^"))
	if len(h) == 0 || h[0] != 'S' {
		return false
	}
	r := bytes.IndexByte(h, 'R')
	return r > 0 && !bytes.ContainsAny(h[:r], "HAFGIQ")
}
