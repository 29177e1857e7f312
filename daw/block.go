package daw

import (
	"math"
	"net/netip"
	"time"

	"dragnet/flow"
)

// blockHistory is the record of an address's blocks.
type blockHistory struct {
	from, until flow.Time
	blocks      int // so far, the current one included
}

// ActiveBlock is a block in force.
type ActiveBlock struct {
	Addr  netip.Addr
	Until flow.Time
	// Prior counts the earlier blocks that are still kept.
	Prior int
}

// Block blocks an address from now on for T0*e^k, where k counts its earlier
// blocks (Tang 2006, section 2.3.3). An Edge only proposes sources to block:
// see Persistent and Offenders. An address already blocked keeps its end.
func (e *Edge) Block(now flow.Time, addr netip.Addr) ActiveBlock {
	t := e.advanceClock(now)
	k := keyOf(addr)
	h := e.blocks[k]
	if h == nil {
		h = &blockHistory{}
		e.blocks[k] = h
	}
	if t >= h.until {
		h.from, h.until = t, t+flow.Time(e.p.blockTime(h.blocks))
		h.blocks++
	}
	return e.describeBlock(k, h)
}

// NextBlock is how long a block of an address would last if it started now.
func (e *Edge) NextBlock(addr netip.Addr) time.Duration {
	prior := 0
	if h := e.blocks[keyOf(addr)]; h != nil {
		prior = h.blocks
	}
	return e.p.blockTime(prior)
}

func (p *Parameters) blockTime(prior int) time.Duration {
	length := float64(p.FirstBlock) * math.Exp(float64(min(prior, 100)))
	return time.Duration(min(length, float64(p.BlockMemory)))
}

// Unblock ends a block and reports whether there was one. It is kept in the
// history unless forget is set, as for a mistaken block.
func (e *Edge) Unblock(now flow.Time, addr netip.Addr, forget bool) bool {
	t := e.advanceClock(now)
	h := e.blocks[keyOf(addr)]
	if h == nil {
		return false
	}
	was := t < h.until
	h.until = min(h.until, t)
	if forget {
		if h.blocks--; h.blocks <= 0 {
			delete(e.blocks, keyOf(addr))
		}
	}
	return was
}

// Blocks lists the blocks in force, in no order.
func (e *Edge) Blocks(now flow.Time) []ActiveBlock {
	t := e.advanceClock(now)
	var all []ActiveBlock
	for k, h := range e.blocks {
		if t < h.until {
			all = append(all, e.describeBlock(k, h))
		}
	}
	return all
}

func (e *Edge) describeBlock(k key, h *blockHistory) ActiveBlock {
	return ActiveBlock{Addr: k.toAddr(), Until: h.until - flow.Time(e.clock.shift), Prior: h.blocks - 1}
}

func (e *Edge) isBlocked(t flow.Time, k key) bool {
	h := e.blocks[k]
	return h != nil && t < h.until
}

// dropOldBlocks drops blocks that ended longer than BlockMemory ago.
func (e *Edge) dropOldBlocks(t flow.Time) {
	for k, h := range e.blocks {
		if t-h.until > flow.Time(e.p.BlockMemory) {
			delete(e.blocks, k)
		}
	}
}
