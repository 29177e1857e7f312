package stream

import (
	"slices"

	"dragnet/flow"
	"dragnet/packet"
)

const (
	// reach is how far from the next expected byte a segment may lie. Windows
	// are smaller; farther data is not believed and, if it was real, becomes a
	// gap when it is acknowledged.
	reach = 16 << 20
	// maxPieces bounds the pieces that wait in one direction.
	maxPieces = 512
)

// half is one direction of a connection. Positions are relative to base and do
// not wrap.
type half struct {
	// anchored tells that base, the sequence number of byte 0, is known.
	anchored bool
	base     uint32
	next     int64 // the next byte to hand out
	pieces   []piece
	waiting  int // bytes in pieces
	// end is the position of the FIN, if finished.
	finished bool
	end      int64
}

// piece is data above a hole; pieces are disjoint and ascending.
type piece struct {
	from int64
	data []byte
}

func (p *piece) to() int64 { return p.from + int64(len(p.data)) }

// at is the position of seq nearest to next.
func (h *half) at(seq uint32) int64 {
	return h.next + int64(int32(seq-h.base-uint32(h.next)))
}

// segment takes in one segment of c that goes in direction dir.
func (a *Assembler) segment(c *connection, dir Direction, p *packet.Packet) {
	h := &c.halves[dir]
	seq := p.Seq
	if p.Flags&flow.SYN != 0 {
		seq++ // a SYN takes a sequence number
	}
	if !h.anchored {
		h.anchored, h.base = true, seq
	}
	at := h.at(seq)
	if at > h.next+reach || at < h.next-reach {
		a.Dropped++
		return
	}
	if p.Flags&flow.RST != 0 {
		a.close(c, Reset)
		return
	}
	if p.Flags&flow.ACK != 0 {
		a.acknowledge(c, dir^1, p.Ack)
	}
	a.data(c, dir, at, p.Payload)
	if p.Flags&flow.FIN != 0 && !h.finished {
		h.finished, h.end = true, at+int64(p.PayloadLen)
	}
	if c.halves[ToServer].through() && c.halves[ToClient].through() {
		a.close(c, Finished)
	}
}

// through reports whether all data before a FIN was handed out.
func (h *half) through() bool { return h.finished && h.next >= h.end }

// acknowledge gives up the holes that the receiver says it has no need of. A
// direction not seen yet starts where the receiver is.
func (a *Assembler) acknowledge(c *connection, dir Direction, ack uint32) {
	h := &c.halves[dir]
	if !h.anchored {
		h.anchored, h.base = true, ack
		return
	}
	at := h.at(ack)
	if h.finished {
		at = min(at, h.end) // a FIN takes a sequence number
	}
	if at > h.next && at <= h.next+reach {
		a.skipTo(c, dir, at)
	}
}

// data takes in bytes at position at.
func (a *Assembler) data(c *connection, dir Direction, at int64, b []byte) {
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
		a.keep(h, at, b)
		if h.waiting > a.config.MaxWaiting || len(h.pieces) > maxPieces {
			a.skipHoles(c, dir, min(a.config.MaxWaiting, h.waiting)/2)
		}
		if a.waiting > a.config.MaxWaitingTotal {
			a.skipHoles(c, dir, 0)
		}
		return
	}
	for len(b) > 0 {
		// Bytes that wait came first, so only those before them are new.
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
		a.handOut(c, dir)
		b = b[min(int64(len(b)), h.next-before):]
	}
}

// handOut delivers the pieces that no hole is before any more.
func (a *Assembler) handOut(c *connection, dir Direction) {
	h := &c.halves[dir]
	for len(h.pieces) > 0 && h.pieces[0].from == h.next {
		p := h.pieces[0]
		h.pieces[0] = piece{}
		h.pieces = h.pieces[1:]
		h.waiting -= len(p.data)
		a.waiting -= len(p.data)
		h.next = p.to()
		c.handler.Data(dir, p.data)
	}
}

// keep copies the parts of b that do not wait yet.
func (a *Assembler) keep(h *half, at int64, b []byte) {
	i, _ := slices.BinarySearchFunc(h.pieces, at, func(p piece, at int64) int {
		if p.to() <= at {
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
			n = min(int64(len(b)), h.pieces[i].to()-at)
		}
		at, b = at+n, b[n:]
	}
}

// skipTo hands out everything before position at, with gaps for the holes.
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
		a.handOut(c, dir)
	}
}

// skipHoles gives up holes from the first until no more than left bytes wait.
func (a *Assembler) skipHoles(c *connection, dir Direction, left int) {
	h := &c.halves[dir]
	for len(h.pieces) > 0 && (h.waiting > left || len(h.pieces) > maxPieces/2) {
		a.skipTo(c, dir, h.pieces[0].from)
	}
}
