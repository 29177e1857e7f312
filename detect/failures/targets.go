package failures

import (
	"encoding/binary"
	"net/netip"
)

// targets counts distinct targets by 32-bit names, exactly up to a bound, above
// which it stops: no threshold is higher.
type targets struct {
	n    int
	few  [4]uint32 // most groups hold no more
	many map[uint32]struct{}
}

const targetBound = 100 * most

func (s *targets) addTarget(t uint32) {
	if s.many == nil {
		for _, have := range s.few[:min(s.n, len(s.few))] {
			if have == t {
				return
			}
		}
		if s.n < len(s.few) {
			s.few[s.n] = t
			s.n++
			return
		}
		s.many = make(map[uint32]struct{}, 16)
		for _, have := range s.few {
			s.many[have] = struct{}{}
		}
	}
	if len(s.many) < targetBound {
		s.many[t] = struct{}{}
		s.n = len(s.many)
	}
}

// merge adds the targets of another.
func (s *targets) merge(t *targets) {
	for target := range t.many {
		s.addTarget(target)
	}
	if t.many == nil {
		for _, target := range t.few[:t.n] {
			s.addTarget(target)
		}
	}
}

// hostTarget is the 32-bit name of a host: an IPv4 address itself, a hash of an
// IPv6 address. A collision only lowers a count.
func hostTarget(a netip.Addr) uint32 {
	if a.Is4() {
		b := a.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	b := a.As16()
	h := binary.BigEndian.Uint64(b[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(b[8:])*0xc2b2ae3d27d4eb4f
	return uint32(h >> 32)
}
