package key

import (
	"math"
	"math/rand/v2"
	"net/netip"

	"dragnet/flow"
)

// Reader is what somebody who reads a key without having seen the traffic may
// deem possible. The fewer values it has to try, the fewer candidates remain.
type Reader struct {
	// Service is set if the reader knows, or guesses, the ports and the
	// protocol of the tuple asked about.
	Service *Tuple
	// Near is set if the reader knows that the address lies in this prefix,
	// such as a witness asked about its own network.
	Near netip.Prefix
}

// plausibleProtos is what a reader tries who does not know the protocol.
var plausibleProtos = []byte{byte(flow.ICMP), byte(flow.TCP), byte(flow.UDP)}

// Candidates is how many tuples of mask m the reader must deem possible for
// key k: its protection. Linear spreads evenly, so that is space / 2^b. For
// Product, up to eight bytes, it is the exact number of tuples with that
// product; beyond, and for ProductMod, it is estimated from a fixed sample.
// The tuple truly asked about is one of them, so the result is at least 1.
func (r Reader) Candidates(m Mask, h Hash, k K) float64 {
	positions := r.positions(m)
	space := 1.0
	for _, p := range positions {
		space *= float64(len(p))
	}
	switch {
	case h.Kind == Linear:
		return max(1, space/math.Exp2(float64(h.Bits)))
	case h.Kind == Product && len(positions) <= 8:
		return max(1, countProducts(positions, uint64(k)))
	}
	return max(1, sampleShare(positions, h, k)*space)
}

// positions lists, for each byte that is multiplied, the values the reader
// deems possible there.
func (r Reader) positions(m Mask) [][]byte {
	var all [][]byte
	for i := range m.Family.Bits() / 8 {
		all = append(all, r.addressByte(m, i))
	}
	port := func(in bool, known func(*Tuple) uint16) {
		switch {
		case in && r.Service != nil:
			v := known(r.Service)
			all = append(all, []byte{byte(v >> 8)}, []byte{byte(v)})
		case in:
			all = append(all, span(0, 255, 1), span(0, 255, 1))
		}
	}
	port(m.SPort, func(t *Tuple) uint16 { return t.SPort })
	port(m.DPort, func(t *Tuple) uint16 { return t.DPort })
	if m.Proto {
		if r.Service != nil {
			all = append(all, []byte{byte(r.Service.Proto)})
		} else {
			all = append(all, plausibleProtos)
		}
	}
	return all
}

// addressByte is the i-th byte of the address: masked bits are zero, bits of a
// known prefix are fixed, and IPv4 beyond unicast (224/3) is not tried.
func (r Reader) addressByte(m Mask, i int) []byte {
	free := min(max(int(m.Prefix)-8*i, 0), 8) // leading bits inside the mask
	var fixed int
	var base byte
	if r.Near.IsValid() && r.Near.Addr().Is4() == (m.Family == IPv4) {
		fixed = min(max(r.Near.Bits()-8*i, 0), free)
		base = r.Near.Addr().AsSlice()[i] & byte(int(0xff00)>>fixed)
	}
	last := 255
	if m.Family == IPv4 && i == 0 && fixed == 0 {
		last = 223
	}
	step := 1 << (8 - free)
	if fixed == 0 {
		return span(0, last, step)
	}
	return span(int(base), int(base)|0xff>>fixed, step)
}

func span(from, to, step int) []byte {
	var s []byte
	for v := from; v <= to; v += step {
		s = append(s, byte(v))
	}
	return s
}

// countProducts is the number of ways to choose one value per position so that
// the product, zeros counted as one, is k.
func countProducts(positions [][]byte, k uint64) float64 {
	type state struct {
		position int
		rest     uint64
	}
	memo := map[state]float64{}
	var count func(position int, rest uint64) float64
	count = func(position int, rest uint64) float64 {
		if position == len(positions) {
			if rest == 1 {
				return 1
			}
			return 0
		}
		at := state{position, rest}
		if n, seen := memo[at]; seen {
			return n
		}
		n := 0.0
		for _, v := range positions[position] {
			if f := factor(v); rest%f == 0 {
				n += count(position+1, rest/f)
			}
		}
		memo[at] = n
		return n
	}
	if k == 0 {
		return 0
	}
	return count(0, k)
}

// samples and seed of sampleShare: fixed, so that a question shows the same
// candidates every time.
const samples = 1 << 18

// sampleShare estimates the share of the space that has key k. With fewer than
// ten hits it falls back to an even spread over the hash's range.
func sampleShare(positions [][]byte, h Hash, k K) float64 {
	rng := rand.New(rand.NewPCG(2006, 7))
	hits := 0
	for range samples {
		p := uint64(1)
		for _, values := range positions {
			p *= factor(values[rng.IntN(len(values))])
			if h.Kind == ProductMod {
				p %= h.Modulus
			}
		}
		if p == uint64(k) {
			hits++
		}
	}
	if hits >= 10 {
		return float64(hits) / samples
	}
	if h.Kind == ProductMod {
		return 1 / float64(h.Modulus)
	}
	return 0
}

// Space is how many tuples of mask m the reader deems possible at all.
func (r Reader) Space(m Mask) float64 {
	space := 1.0
	for _, p := range r.positions(m) {
		space *= float64(len(p))
	}
	return space
}

// DefaultBits is the size of Linear's keys for masks asked together: 19 bits
// give about 16 false tuples at a witness with 10^7 of them, and fewer where a
// mask is so small that 19 bits would leave a reader under floor candidates.
func DefaultBits(floor float64, masks ...Mask) int {
	bits := 19
	for _, m := range masks {
		bits = min(bits, int(math.Log2(max(2, Reader{}.Space(m)/floor))))
	}
	return max(bits, 1)
}
