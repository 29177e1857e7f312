package path

import (
	"encoding/binary"
	"net/netip"
)

// parseQuote parses the start of a TCP segment of which have octets are quoted
// at l3; ok is false for anything else. IPv6 extension headers inside quotes
// are not followed.
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
		if len(b) < 40 || b[0]>>4 != 6 || b[6] != protoTCP {
			return false
		}
		f.src, f.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	}
	if len(b) < head+8 {
		return false
	}
	f.l4 = f.l3 + head
	f.len = uint32(have - head)
	f.sport, f.dport = f.u16(f.l4), f.u16(f.l4+2)
	return true
}
