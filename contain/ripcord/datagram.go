//go:build linux

package ripcord

import (
	"encoding/binary"
	"net/netip"
)

// appendDatagram appends an IP header, a UDP header and a payload.
func appendDatagram(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	n := 8 + len(payload)
	start := len(b)
	if src.Addr().Is4() {
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+n))
		b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0)
		b = append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(b[start+10:], ^addWords(0, b[start:]))
	} else {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = append(b, 17, 64)
		b = append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	}
	u := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(append(b, 0, 0), payload...)
	pseudo := uint64(addWords(0, src.Addr().AsSlice())) + uint64(addWords(0, dst.Addr().AsSlice())) + uint64(n) + 17
	if s := ^addWords(pseudo, b[u:]); s != 0 {
		binary.BigEndian.PutUint16(b[u+6:], s)
	} else {
		binary.BigEndian.PutUint16(b[u+6:], 0xffff) // 0 means none (RFC 768)
	}
	return b
}

// addWords is the one's complement sum of words (RFC 1071).
func addWords(s uint64, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint64(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint64(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
