package packets

import (
	"dragnet/flow"
	"dragnet/packet"
)

// phase is what one side of a TCP connection has come to, as a monitor in the
// middle sees it. It follows what the side sent, not what the other answered.
type phase uint8

const (
	inactive    phase = iota // nothing seen
	synSent                  // a SYN, no answer
	synAckSent               // a SYN-ACK without a SYN before it
	partial                  // data or acknowledgements without a SYN
	established              // the handshake is through
	closed                   // a FIN
	reset                    // a RST
)

// shaking reports whether a side has not got beyond its handshake.
func (p phase) shaking() bool { return p <= synAckSent }

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
	// lastSYN, lastFIN and lastRST are where the last of each stood, to tell
	// new ones from repetitions.
	lastSYN, lastFIN, lastRST       int64
	resent, zeroWindows, gapLetters uint32
	// done tells that the close was taken note of, drained that all data
	// before it was seen.
	done, drained bool
	losses        losses
}

// at is the position of seq, the one nearest to near.
func (s *tcpSide) at(seq uint32, near int64) int64 {
	return near + int64(int32(seq-s.base-uint32(near)))
}

// sent reports whether seq lies in what this side sent. A side without packets
// sent nothing that could fail.
func (s *tcpSide) sent(seq uint32) bool {
	if s.phase == inactive {
		return false
	}
	at := s.at(seq, s.last)
	return at >= 0 && at <= s.last
}

// unacked tells that none of this side's data was acknowledged; one position
// is the SYN's.
func (s *tcpSide) unacked() bool { return s.acked <= 1 }

// clean reports whether this side is in the part of a connection where gaps
// can be told from guesses.
func (s *tcpSide) clean() bool {
	return s.phase == established || s.phase == closed && s.before == established
}

// segment is one TCP packet as the steps below pass it on.
type segment struct {
	*packet.Packet
	ts   flow.Time
	side int
	// orig tells that the sender was the originator when the packet came.
	orig bool
	// length is the sequence space it takes.
	length int64
	// at is its position.
	at int64
}

func (s *segment) has(f flow.TCPFlags) bool { return s.Flags&f != 0 }

// tcp takes in a segment.
func (a *Assembler) tcp(ts flow.Time, p *packet.Packet, bad bool) error {
	t, from := tupleOf(flow.TCP, p.Src, p.Dst, p.SrcPort, p.DstPort, true)
	c := a.find(t)
	if c != nil && c.reused(p) {
		a.end(c)
		c = nil
	}
	if c == nil {
		c = a.openTCP(ts, t, from, p)
	}
	s := &c.sides[from]
	if bad {
		c.scaled(from, 'C', &s.corrupt)
		return ErrChecksum
	}
	a.segment = segment{Packet: p, ts: ts, side: from, orig: from == c.origin}
	a.process(c, &a.segment)
	s.count(p.IPLen)
	s.flags |= p.Flags
	return nil
}

// openTCP begins a connection. One that begins in the middle has its roles
// turned round when only the sender's port is one that servers use.
func (a *Assembler) openTCP(ts flow.Time, t tuple, from int, p *packet.Packet) *conn {
	// Until the handshake is through, Zeek applies the limit of UDP.
	c := a.open(ts, t, from, a.config.UDPInactivity)
	c.sides[0].tcp.losses.start()
	c.sides[1].tcp.losses.start()
	syn, ack := p.Flags&flow.SYN != 0, p.Flags&flow.ACK != 0
	if syn && !ack || !a.serves(flow.TCP, p.SrcPort) || broadcast(p.Dst) {
		return c
	}
	// A SYN-ACK between two server ports may be a stealth scan: keep it.
	if !a.serves(flow.TCP, p.DstPort) || !syn && p.SrcPort < p.DstPort {
		c.flip()
	}
	return c
}

// reused reports whether p opens a new connection between the same ports.
func (c *conn) reused(p *packet.Packet) bool {
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

// process is the life of one segment; the steps stand in their order.
func (a *Assembler) process(c *conn, s *segment) {
	me, peer := &c.sides[s.side].tcp, &c.sides[s.side^1].tcp
	s.length = int64(s.PayloadLen)
	if s.has(flow.RST) {
		s.length = 0 // data on a RST is no part of the stream
	}
	if s.has(flow.SYN) {
		s.length++
	}
	if s.has(flow.FIN) {
		s.length++
	}
	c.midwayFrom(s)
	me.anchor(s)
	s.at = me.at(s.Seq, me.last)
	c.record(s, me)
	if s.Window == 0 && !s.has(flow.RST) && peer.phase != closed && me.phase != reset {
		c.scaled(s.side, 'W', &me.zeroWindows)
	}
	if !me.done || !peer.done {
		c.last = s.ts
	}
	if s.has(flow.FIN) {
		me.fins++
		me.finEnd = s.at + s.length
	}
	acked := me.acknowledges(s, peer)
	if me.advance(s) {
		c.scaled(s.side, 'T', &me.resent)
	}
	closing := a.step(c, s, me, peer)
	if s.has(flow.ACK) {
		// After the step, so that a gap which the end of the connection
		// reveals is told from one inside: resets state wrong numbers.
		a.acknowledged(c, s.side^1, acked)
	}
	c.seen[s.side] = true
	a.data(c, s, me)
	a.drain(c, s.side)
	if closing {
		a.close(c, s.side)
	}
}

// midwayFrom notes whether the connection is seen from its beginning.
func (c *conn) midwayFrom(s *segment) {
	switch {
	case c.seen[s.side]:
	case s.side == c.origin:
		c.midway = !s.has(flow.SYN) || s.has(flow.ACK)
	case !c.midway:
		c.midway = !s.has(flow.SYN)
	}
}

// anchor sets base when a side is first heard of, or heard of anew.
func (s *tcpSide) anchor(p *segment) {
	syn := p.has(flow.SYN)
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

// acknowledges takes the acknowledgement number for the other side and returns
// its position there.
func (s *tcpSide) acknowledges(p *segment, peer *tcpSide) int64 {
	if !p.has(flow.ACK) {
		return 0
	}
	if peer.phase == inactive {
		peer.base, peer.acked, peer.last = p.Ack-1, 0, 0
		return 1
	}
	at := peer.at(p.Ack, peer.acked)
	if at < 0 {
		return 0
	}
	broken := p.Ack == 0 && at-peer.acked > farOff
	if at > peer.acked && !broken && !p.has(flow.RST) {
		peer.acked = at
	}
	return at
}

// advance moves last to the end of the segment; resent is true for data that
// lies before it.
func (s *tcpSide) advance(p *segment) (resent bool) {
	end := s.at(p.Seq+uint32(p.length), s.last)
	delta := end - s.last
	switch {
	case (p.has(flow.SYN) || p.has(flow.RST)) && (delta > farOff || delta < -farOff):
	case p.has(flow.FIN) && s.last == 1:
		// Only SYN and FIN were seen: between them may lie up to 4 GB.
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
