package survey

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"

	"dragnet/flow"
	"dragnet/flow/key"
)

// packed is a tuple without pointers: the address (IPv4 in its first four
// bytes), the ports and the protocol, big endian. Parts outside the mask are
// zero.
type packed [21]byte

func pack(t key.Tuple) (p packed) {
	copy(p[:16], t.Addr.AsSlice())
	binary.BigEndian.PutUint16(p[16:], t.SPort)
	binary.BigEndian.PutUint16(p[18:], t.DPort)
	p[20] = byte(t.Proto)
	return p
}

func (p *packed) tuple(m key.Mask) key.Tuple {
	t := key.Tuple{Mask: m, SPort: binary.BigEndian.Uint16(p[16:]), DPort: binary.BigEndian.Uint16(p[18:]), Proto: flow.Proto(p[20])}
	switch m.Family {
	case key.IPv4:
		t.Addr = netip.AddrFrom4([4]byte(p[:4]))
	case key.IPv6:
		t.Addr = netip.AddrFrom16([16]byte(p[:16]))
	}
	return t
}

// rank orders tuples at random, but the same way in every run with one seed:
// the first k by rank are a sample that does not depend on the order of
// reading. The mixing is that of SplitMix64.
func (p *packed) rank(seed uint64) uint64 {
	tail := uint64(p[16])<<32 | uint64(p[17])<<24 | uint64(p[18])<<16 | uint64(p[19])<<8 | uint64(p[20])
	h := seed
	for _, w := range [3]uint64{binary.BigEndian.Uint64(p[:]), binary.BigEndian.Uint64(p[8:]), tail} {
		h = (h ^ w) + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// counted is a distinct tuple and how many flows have it: 28 bytes.
type counted struct {
	packed
	flows uint32
}

// chunk is how many tuples are kept together, so that growing copies none.
const chunk = 1 << 16

// table counts flows by tuple. It takes about 36 bytes a distinct tuple, where
// a Go map would take 60 to 120: an open-addressed index of positions beside
// the tuples themselves. It is not safe for concurrent use.
type table struct {
	seed   maphash.Seed
	chunks [][]counted
	n      int
	index  []uint32 // position + 1 of a tuple; 0 is free
}

func newTable() *table {
	return &table{seed: maphash.MakeSeed(), index: make([]uint32, 1<<10)}
}

func (t *table) at(i int) *counted { return &t.chunks[i/chunk][i%chunk] }

// all walks over the tuples in the order they came.
func (t *table) all(yield func(*counted) bool) {
	for _, c := range t.chunks {
		for i := range c {
			if !yield(&c[i]) {
				return
			}
		}
	}
}

// add counts one flow.
func (t *table) add(p *packed) error {
	mask := uint64(len(t.index) - 1)
	for slot := maphash.Bytes(t.seed, p[:]) & mask; ; slot = (slot + 1) & mask {
		at := t.index[slot]
		if at == 0 {
			return t.insert(slot, p)
		}
		if c := t.at(int(at - 1)); c.packed == *p {
			if c.flows++; c.flows == 0 {
				return fmt.Errorf("more than 2^32 flows of one tuple; survey a part of the log")
			}
			return nil
		}
	}
}

func (t *table) insert(slot uint64, p *packed) error {
	if t.n == maxTuples {
		return fmt.Errorf("more than %d distinct tuples; survey a part of the log", maxTuples)
	}
	if t.n%chunk == 0 {
		t.chunks = append(t.chunks, make([]counted, 0, chunk))
	}
	last := &t.chunks[len(t.chunks)-1]
	*last = append(*last, counted{*p, 1})
	t.n++
	t.index[slot] = uint32(t.n)
	if t.n > len(t.index)*3/4 {
		t.grow()
	}
	return nil
}

func (t *table) grow() {
	t.index = make([]uint32, 2*len(t.index))
	mask := uint64(len(t.index) - 1)
	for i := range t.n {
		slot := maphash.Bytes(t.seed, t.at(i).packed[:]) & mask
		for t.index[slot] != 0 {
			slot = (slot + 1) & mask
		}
		t.index[slot] = uint32(i + 1)
	}
}

// sample is the first k tuples by rank among those that fit.
func (t *table) sample(k int, seed uint64, fits func(*packed) bool) []packed {
	type ranked struct {
		rank uint64
		packed
	}
	if k < 1 {
		return nil
	}
	var kept []ranked
	cut := func() {
		slices.SortFunc(kept, func(a, b ranked) int {
			if a.rank < b.rank {
				return -1
			}
			return 1
		})
		kept = kept[:min(k, len(kept))]
	}
	limit := ^uint64(0)
	for c := range t.all {
		r := c.rank(seed)
		if r > limit || !fits(&c.packed) {
			continue
		}
		if kept = append(kept, ranked{r, c.packed}); len(kept) >= 2*k+64 {
			cut()
			limit = kept[len(kept)-1].rank
		}
	}
	cut()
	out := make([]packed, len(kept))
	for i := range kept {
		out[i] = kept[i].packed
	}
	return out
}
