package stream

import (
	"slices"

	"dragnet/flow"
	"dragnet/packet"
)

const (
	// reach is how far from the next expected byte a segment may lie. Windows
	// are smaller; data farther away is ignored and, if it was real, becomes a
	// gap when it is acknowledged.
	reach = 16 << 20
	// maxPieces bounds the pieces that wait in one direction.
	maxPieces = 512
)

// half is one direction of a connection. Positions are relative to base and do
// not wrap.
type half struct {
	// anchored says that base, the sequence number of byte 0, is known.
	anchored bool
	base     uint32
	// opened says that the SYN was seen, acked that the other end acknowledged it.
	opened, acked bool
	next          int64 // the next byte to deliver
	pieces        []piece
	waiting       int // bytes in pieces
	// end is the position of the FIN, if finished.
	finished bool
	end      int64
}

// piece is data above a hole; pieces are disjoint and ascending.
type piece struct {
	from int64
	data []byte
}

func (p *piece) end() int64 { return p.from + int64(len(p.data)) }

// positionOf is the position of seq nearest to next.
func (h *half) positionOf(seq uint32) int64 {
	return h.next + int64(int32(seq-h.base-uint32(h.next)))
}

// addSegment adds one segment of c in direction dir.
func (a *Assembler) addSegment(c *connection, dir Direction, p *packet.Packet) {
	h := &c.halves[dir]
	seq := p.Seq
	if p.Flags&flow.SYN != 0 {
		seq++ // a SYN takes a sequence number
	}
	if !h.anchored {
		h.anchored, h.base = true, seq
		h.opened = p.Flags&flow.SYN != 0
	}
	at := h.positionOf(seq)
	if at > h.next+reach || at < h.next-reach {
		a.Dropped++
		return
	}
	if p.Flags&flow.RST != 0 {
		a.closeConnection(c, Reset)
		return
	}
	if p.Flags&flow.ACK != 0 {
		a.addAck(c, dir^1, p.Ack)
	}
	a.addData(c, dir, at, p.Payload)
	if p.Flags&flow.FIN != 0 && !h.finished {
		h.finished, h.end = true, at+int64(p.PayloadLen)
	}
	if c.halves[ToServer].isDelivered() && c.halves[ToClient].isDelivered() {
		a.closeConnection(c, Finished)
	}
}

// expected is the number of the byte that the receiver expects next.
func (h *half) expected() uint32 {
	seq := h.base + uint32(h.next)
	if h.isDelivered() {
		seq++ // a FIN takes a sequence number
	}
	return seq
}

// isDelivered reports whether all data before a FIN was delivered.
func (h *half) isDelivered() bool { return h.finished && h.next >= h.end }

// addAck gives up the holes whose data the receiver has acknowledged. A
// direction not seen yet starts at the receiver's position.
func (a *Assembler) addAck(c *connection, dir Direction, ack uint32) {
	h := &c.halves[dir]
	if !h.anchored {
		h.anchored, h.base = true, ack
		return
	}
	at := h.positionOf(ack)
	if h.finished {
		at = min(at, h.end) // a FIN takes a sequence number
	}
	switch {
	case at >= 0 && at <= h.next:
		h.acked = h.acked || h.opened
	case !h.acked:
		h.opened = false // a guess, which would move next to where it is true
	}
	if at > h.next && at <= h.next+reach {
		a.skipTo(c, dir, at)
	}
}

// addData adds bytes at position at.
func (a *Assembler) addData(c *connection, dir Direction, at int64, b []byte) {
	h := &c.halves[dir]
	if old := h.next - at; old > 0 {
		if old >= int64(len(b)) {
			return
		}
		at, b = h.next, b[old:]
	}
	if len(b) == 0 {
		return
	}
	if at > h.next {
		a.keepPiece(h, at, b)
		if h.waiting > a.config.MaxWaiting || len(h.pieces) > maxPieces {
			a.skipHoles(c, dir, min(a.config.MaxWaiting, h.waiting)/2)
		}
		if a.waiting > a.config.MaxWaitingTotal {
			a.skipHoles(c, dir, 0)
		}
		return
	}
	for len(b) > 0 {
		// Waiting bytes arrived first, so only those before them are new.
		n := int64(len(b))
		if len(h.pieces) > 0 {
			n = min(n, h.pieces[0].from-h.next)
		}
		if n > 0 {
			h.next += n
			c.handler.Data(dir, b[:n])
			b = b[n:]
		}
		before := h.next
		a.deliver(c, dir)
		b = b[min(int64(len(b)), h.next-before):]
	}
}

// deliver delivers the pieces no longer preceded by a hole.
func (a *Assembler) deliver(c *connection, dir Direction) {
	h := &c.halves[dir]
	for len(h.pieces) > 0 && h.pieces[0].from == h.next {
		p := h.pieces[0]
		h.pieces[0] = piece{}
		h.pieces = h.pieces[1:]
		h.waiting -= len(p.data)
		a.waiting -= len(p.data)
		h.next = p.end()
		c.handler.Data(dir, p.data)
	}
}

// keepPiece copies the parts of b that are not waiting yet.
func (a *Assembler) keepPiece(h *half, at int64, b []byte) {
	i, _ := slices.BinarySearchFunc(h.pieces, at, func(p piece, at int64) int {
		if p.end() <= at {
			return -1
		}
		return 1
	})
	for ; len(b) > 0; i++ {
		n := int64(len(b))
		if i < len(h.pieces) {
			n = min(n, max(0, h.pieces[i].from-at))
		}
		if n > 0 {
			h.pieces = slices.Insert(h.pieces, i, piece{at, slices.Clone(b[:n])})
			h.waiting += int(n)
			a.waiting += int(n)
		} else {
			n = min(int64(len(b)), h.pieces[i].end()-at)
		}
		at, b = at+n, b[n:]
	}
}

// skipTo delivers everything before position at, with gaps for the holes.
func (a *Assembler) skipTo(c *connection, dir Direction, at int64) {
	h := &c.halves[dir]
	for h.next < at {
		to := at
		if len(h.pieces) > 0 {
			to = min(to, h.pieces[0].from)
		}
		n := to - h.next
		h.next = to
		c.handler.Gap(dir, n)
		a.deliver(c, dir)
	}
}

// skipHoles gives up holes from the first until no more than left bytes wait.
func (a *Assembler) skipHoles(c *connection, dir Direction, left int) {
	h := &c.halves[dir]
	for len(h.pieces) > 0 && (h.waiting > left || len(h.pieces) > maxPieces/2) {
		a.skipTo(c, dir, h.pieces[0].from)
	}
}
