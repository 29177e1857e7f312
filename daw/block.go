package daw

import (
	"math"
	"net/netip"
	"time"

	"dragnet/flow"
)

// history is what is remembered of an address's blocks.
type history struct {
	from, until flow.Time
	blocks      int // so far, the current one included
}

// Block is a block in force.
type Block struct {
	Addr  netip.Addr
	Until flow.Time
	// Prior counts the blocks before this one that are still remembered.
	Prior int
}

// Block blocks an address from now on for T0*e^k, where k counts its earlier
// blocks (Tang 2006, section 2.3.3). An Edge only proposes sources to block:
// see Persistent and Offenders. An address already blocked keeps its end.
func (e *Edge) Block(now flow.Time, addr netip.Addr) Block {
	t := e.tell(now)
	k := keyOf(addr)
	h := e.blocks[k]
	if h == nil {
		h = &history{}
		e.blocks[k] = h
	}
	if t >= h.until {
		h.from, h.until = t, t+flow.Time(e.p.blockTime(h.blocks))
		h.blocks++
	}
	return e.told(k, h)
}

// NextBlock is how long a block of an address would last if it began now.
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

// Unblock ends a block and reports whether there was one. It stays remembered
// unless forget is set, as for a block that was a mistake.
func (e *Edge) Unblock(now flow.Time, addr netip.Addr, forget bool) bool {
	t := e.tell(now)
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
func (e *Edge) Blocks(now flow.Time) []Block {
	t := e.tell(now)
	var all []Block
	for k, h := range e.blocks {
		if t < h.until {
			all = append(all, e.told(k, h))
		}
	}
	return all
}

func (e *Edge) told(k key, h *history) Block {
	return Block{Addr: k.addr(), Until: h.until - flow.Time(e.clock.shift), Prior: h.blocks - 1}
}

func (e *Edge) blocked(t flow.Time, k key) bool {
	h := e.blocks[k]
	return h != nil && t < h.until
}

// forgetBlocks drops what ended longer than BlockMemory ago.
func (e *Edge) forgetBlocks(t flow.Time) {
	for k, h := range e.blocks {
		if t-h.until > flow.Time(e.p.BlockMemory) {
			delete(e.blocks, k)
		}
	}
}
