package key

import (
	"math"
	"net/netip"

	"dragnet/flow"
)

// Reader is the knowledge of somebody who reads a key without having seen the
// traffic. The fewer values it has to try, the fewer candidates remain.
type Reader struct {
	// Service is set if the reader knows, or guesses, the ports and the
	// protocol of the tuple asked about.
	Service *Tuple
	// Near is set if the reader knows that the address lies in this prefix,
	// such as a witness asked about its own network.
	Near netip.Prefix
}

// plausibleProtos are the protocols tried by a reader who does not know the
// protocol.
var plausibleProtos = []byte{byte(flow.ICMP), byte(flow.TCP), byte(flow.UDP)}

// possibleValues lists, for each byte that is multiplied, the values possible
// for the reader.
func (r Reader) possibleValues(m Mask) [][]byte {
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
			all = append(all, byteRange(0, 255, 1), byteRange(0, 255, 1))
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
		return byteRange(0, last, step)
	}
	return byteRange(int(base), int(base)|0xff>>fixed, step)
}

func byteRange(from, to, step int) []byte {
	var s []byte
	for v := from; v <= to; v += step {
		s = append(s, byte(v))
	}
	return s
}

// Space is the number of tuples of mask m possible for the reader.
func (r Reader) Space(m Mask) float64 {
	return spaceOf(r.possibleValues(m))
}

func spaceOf(positions [][]byte) float64 {
	space := 1.0
	for _, p := range positions {
		space *= float64(len(p))
	}
	return space
}

// DefaultBits is the size of Linear's keys for masks asked together: 19 bits
// give about 16 false tuples at a witness with 10^7 of them, and fewer if a
// mask is so small that 19 bits would leave a reader under floor candidates.
// Services are few, so if an address is fixed, it alone must be ambiguous.
func DefaultBits(floor float64, masks ...Mask) int {
	bits := 19
	for _, m := range masks {
		var r Reader
		if m.Family != NoAddr {
			r.Service = &Tuple{}
		}
		bits = min(bits, int(math.Log2(max(2, r.Space(m)/floor))))
	}
	return max(bits, 1)
}
