package packets

import (
	"dragnet/flow"
	"dragnet/packet"
)

// phase is the state of one side of a TCP connection, as seen by a monitor in
// the middle. It depends on what the side sent, not on the answers.
type phase uint8

const (
	inactive    phase = iota // nothing seen
	synSent                  // a SYN, no answer
	synAckSent               // a SYN-ACK without a SYN before it
	partial                  // data or acknowledgements without a SYN
	established              // the handshake is complete
	closed                   // a FIN
	reset                    // a RST
)

// isHandshaking reports whether a side has not completed its handshake.
func (p phase) isHandshaking() bool { return p <= synAckSent }

// tcpSide is one direction of a TCP connection. Positions are relative to
// base, so that 0 is the SYN and 1 the first data byte; they do not wrap.
type tcpSide struct {
	phase, before phase
	// base is the sequence number of the SYN, or one before the first byte
	// seen. isn is that of a SYN only.
	base, isn uint32
	// last is one past the highest position sent, acked the highest the other
	// side acknowledged.
	last, acked int64
	fins        int
	finEnd      int64 // one past the last FIN
	// lastSYN, lastFIN and lastRST are the positions of the last of each, to
	// tell new ones from retransmissions.
	lastSYN, lastFIN, lastRST       int64
	resent, zeroWindows, gapLetters uint32
	// done says that the close was processed, drained that all data before it
	// was seen.
	done, drained bool
	losses        lossTracker
}

// positionOf is the position of seq, the one nearest to near.
func (s *tcpSide) positionOf(seq uint32, near int64) int64 {
	return near + int64(int32(seq-s.base-uint32(near)))
}

// hasSent reports whether seq lies in what this side sent; false for a side
// without packets.
func (s *tcpSide) hasSent(seq uint32) bool {
	if s.phase == inactive {
		return false
	}
	at := s.positionOf(seq, s.last)
	return at >= 0 && at <= s.last
}

// isUnacked reports whether none of this side's data was acknowledged; one
// position is the SYN's.
func (s *tcpSide) isUnacked() bool { return s.acked <= 1 }

// isClean reports whether this side is in a phase in which gaps are certain.
func (s *tcpSide) isClean() bool {
	return s.phase == established || s.phase == closed && s.before == established
}

// segment is one TCP packet as the steps below pass it on.
type segment struct {
	*packet.Packet
	ts   flow.Time
	side int
	// orig says that the sender was the originator when the packet arrived.
	orig bool
	// length is the sequence space it occupies.
	length int64
	// at is its position.
	at int64
}

func (s *segment) hasFlag(f flow.TCPFlags) bool { return s.Flags&f != 0 }

// addTCP adds a segment.
func (a *Assembler) addTCP(ts flow.Time, p *packet.Packet, bad bool) error {
	t, from := tupleOf(flow.TCP, p.Src, p.Dst, p.SrcPort, p.DstPort, true)
	c := a.findConn(t)
	if c != nil && c.isReopened(p) {
		a.endConn(c)
		c = nil
	}
	if c == nil {
		c = a.openTCP(ts, t, from, p)
	}
	s := &c.sides[from]
	if bad {
		c.addScaled(from, 'C', &s.corrupt)
		return ErrChecksum
	}
	a.segment = segment{Packet: p, ts: ts, side: from, orig: from == c.origin}
	a.processSegment(c, &a.segment)
	s.countPacket(p.IPLen)
	s.flags |= p.Flags
	return nil
}

// openTCP starts a connection. If it starts in the middle, its roles are
// swapped if only the sender's port is a server port.
func (a *Assembler) openTCP(ts flow.Time, t tuple, from int, p *packet.Packet) *conn {
	// Until the handshake is complete, Zeek applies the limit of UDP.
	c := a.openConn(ts, t, from, a.config.UDPInactivity)
	c.sides[0].tcp.losses.startAt()
	c.sides[1].tcp.losses.startAt()
	syn, ack := p.Flags&flow.SYN != 0, p.Flags&flow.ACK != 0
	if syn && !ack || !a.isServerPort(flow.TCP, p.SrcPort) || isBroadcast(p.Dst) {
		return c
	}
	// A SYN-ACK between two server ports may be a stealth scan: keep it.
	if !a.isServerPort(flow.TCP, p.DstPort) || !syn && p.SrcPort < p.DstPort {
		c.flipRoles()
	}
	return c
}

// isReopened reports whether p opens a new connection between the same ports.
func (c *conn) isReopened(p *packet.Packet) bool {
	if p.Flags&flow.SYN == 0 {
		return false
	}
	orig, resp := &c.sides[c.origin].tcp, &c.sides[c.origin^1].tcp
	opener := orig
	if p.Flags&flow.ACK != 0 {
		if orig.phase != inactive {
			return false
		}
		opener = resp
	}
	if orig.done || resp.done {
		return true
	}
	if p.Seq == opener.base {
		return false
	}
	// SYN and SYN-ACK in the wrong order are one connection.
	overtaken := p.Flags&flow.ACK == 0 && opener.phase == synAckSent && resp.phase == inactive && p.Seq == resp.base
	return !overtaken
}

// processSegment processes one segment; the steps are in order.
func (a *Assembler) processSegment(c *conn, s *segment) {
	me, peer := &c.sides[s.side].tcp, &c.sides[s.side^1].tcp
	s.length = int64(s.PayloadLen)
	if s.hasFlag(flow.RST) {
		s.length = 0 // data on a RST is not part of the stream
	}
	if s.hasFlag(flow.SYN) {
		s.length++
	}
	if s.hasFlag(flow.FIN) {
		s.length++
	}
	c.noteMidway(s)
	me.setBase(s)
	s.at = me.positionOf(s.Seq, me.last)
	c.recordFlags(s, me)
	if s.Window == 0 && !s.hasFlag(flow.RST) && peer.phase != closed && me.phase != reset {
		c.addScaled(s.side, 'W', &me.zeroWindows)
	}
	if !me.done || !peer.done {
		c.last = s.ts
	}
	if s.hasFlag(flow.FIN) {
		me.fins++
		me.finEnd = s.at + s.length
	}
	acked := me.positionAcked(s, peer)
	if me.advanceTo(s) {
		c.addScaled(s.side, 'T', &me.resent)
	}
	closing := a.stepPhase(c, s, me, peer)
	if s.hasFlag(flow.ACK) {
		// After the step, so that a gap revealed by the end of the connection
		// is distinguished from one inside: resets carry wrong numbers.
		a.addAck(c, s.side^1, acked)
	}
	c.seen[s.side] = true
	a.addData(c, s, me)
	a.resumeClose(c, s.side)
	if closing {
		a.closeSide(c, s.side)
	}
}

// noteMidway records whether the start of the connection was seen.
func (c *conn) noteMidway(s *segment) {
	switch {
	case c.seen[s.side]:
	case s.side == c.origin:
		c.midway = !s.hasFlag(flow.SYN) || s.hasFlag(flow.ACK)
	case !c.midway:
		c.midway = !s.hasFlag(flow.SYN)
	}
}

// setBase sets base when a side is seen first, or first after a reset.
func (s *tcpSide) setBase(p *segment) {
	syn := p.hasFlag(flow.SYN)
	switch s.phase {
	case inactive:
		if !syn {
			s.base, s.acked, s.last = p.Seq-1, 0, 1
			return
		}
	case synSent, synAckSent:
		if p.Seq == s.base {
			return
		}
	case closed:
		return
	case reset:
		if s.before != inactive {
			return
		}
	}
	if syn {
		s.base, s.isn, s.acked, s.last = p.Seq, p.Seq, 0, p.length
	}
}

// farOff is a distance in sequence space that no window explains.
const farOff = 1 << 20

// positionAcked applies the acknowledgement number to the other side and
// returns its position there.
func (s *tcpSide) positionAcked(p *segment, peer *tcpSide) int64 {
	if !p.hasFlag(flow.ACK) {
		return 0
	}
	if peer.phase == inactive {
		peer.base, peer.acked, peer.last = p.Ack-1, 0, 0
		return 1
	}
	at := peer.positionOf(p.Ack, peer.acked)
	if at < 0 {
		return 0
	}
	broken := p.Ack == 0 && at-peer.acked > farOff
	if at > peer.acked && !broken && !p.hasFlag(flow.RST) {
		peer.acked = at
	}
	return at
}

// advanceTo moves last to the end of the segment; resent is true for data that
// lies before it.
func (s *tcpSide) advanceTo(p *segment) (resent bool) {
	end := s.positionOf(p.Seq+uint32(p.length), s.last)
	delta := end - s.last
	switch {
	case (p.hasFlag(flow.SYN) || p.hasFlag(flow.RST)) && (delta > farOff || delta < -farOff):
	case p.hasFlag(flow.FIN) && s.last == 1:
		// Only SYN and FIN were seen: up to 4 GB may lie between them.
		if end < s.last {
			end += 1 << 32
		}
		s.last = end
	case s.phase == reset:
	case delta > 0:
		s.last = end
	default:
		return p.PayloadLen > 0
	}
	return false
}
