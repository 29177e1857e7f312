package path

import (
	"encoding/binary"
	"net/netip"

	"dragnet/contain/ripcord/tables"
)

// findQuote finds the packet that an ICMP error quotes: where it begins, and how
// many octets there are. A Redirect may hold one among its options (RFC 4861,
// section 4.6.3).
func (f *frame) findQuote() (at, have int, why tables.Reason) {
	if f.proto != protoICMP6 || f.typ != 137 {
		return f.l4 + 8, int(f.len) - 8, 0
	}
	option := 40
	for range 4 {
		if option+8 > int(f.len) {
			return 0, 0, 0
		}
		n := int(f.b[f.l4+option+1]) * 8
		if n == 0 {
			break
		}
		if f.b[f.l4+option] == 4 {
			return f.l4 + option + 8, min(n, int(f.len)-option) - 8, 0
		}
		option += n
	}
	return 0, 0, tables.Unshifted
}

// parseQuote parses the start of a TCP segment of which have octets are quoted
// at l3, behind any extension headers; ok is false for anything else. len is
// what there is of the segment.
func (f *frame) parseQuote(have int, v4 bool) (ok bool) {
	b := f.b[f.l3 : f.l3+have]
	head := 40
	if v4 {
		if len(b) < 20 || b[0]>>4 != 4 || b[9] != protoTCP || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return false
		}
		if head = int(b[0]&15) * 4; head < 20 {
			return false
		}
		f.src, f.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	} else {
		if len(b) < 40 || b[0]>>4 != 6 {
			return false
		}
		f.src, f.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		next := b[6]
		for i := 0; next != protoTCP; i++ {
			if i == maxExtensions || next != 0 && next != 43 && next != 44 && next != 60 || len(b) < head+8 {
				return false
			}
			ext := b[head:]
			n := (int(ext[1]) + 1) * 8
			if next == 44 {
				n = 8
				if binary.BigEndian.Uint16(ext[2:])&0xfff8 != 0 {
					return false
				}
			}
			next = ext[0]
			head += n
		}
	}
	if len(b) < head {
		return false
	}
	f.l4 = f.l3 + head
	f.len = uint32(have - head)
	return true
}
