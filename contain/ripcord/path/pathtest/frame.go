// Package pathtest makes packets for the tests of Ripcord's packet path: whole
// ones by hand, and random ones that are coherent enough to reach every rule.
package pathtest

import (
	"encoding/binary"
	"net/netip"
)

// Flags of TCP.
const (
	FIN = 1
	SYN = 2
	RST = 4
	ACK = 16
)

// Segment describes a TCP segment.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    uint8
	Options  []byte // a multiple of 4 octets
	Payload  []byte
	// VLAN are tags, outermost first.
	VLAN []uint16
	// IPOptions follow the IPv4 header, Extensions the IPv6 header; the
	// latter begin with FirstNext.
	IPOptions  []byte
	Extensions []byte
	FirstNext  uint8
	// Offset is IPv4's field of fragment flags and offset.
	Offset uint16
}

// Frame makes the segment, with right checksums.
func (s Segment) Frame() []byte {
	t := make([]byte, 20, 20+len(s.Options)+len(s.Payload))
	binary.BigEndian.PutUint16(t, s.Src.Port())
	binary.BigEndian.PutUint16(t[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(t[4:], s.Seq)
	binary.BigEndian.PutUint32(t[8:], s.Ack)
	t[12] = uint8(5+len(s.Options)/4) << 4
	t[13] = s.Flags
	binary.BigEndian.PutUint16(t[14:], 0xfaf0)
	t = append(append(t, s.Options...), s.Payload...)
	Sum(t, 16, s.Src.Addr(), s.Dst.Addr(), 6)
	return s.Wrap(6, t)
}

// Wrap puts a transport packet into IP and Ethernet as the Segment says.
func (s Segment) Wrap(proto uint8, b []byte) []byte {
	f := Ethernet(s.Src.Addr().Is6(), s.VLAN)
	if s.Src.Addr().Is4() {
		h := make([]byte, 20, 60)
		h[0] = 0x40 | uint8(5+len(s.IPOptions)/4)
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(s.IPOptions)+len(b)))
		binary.BigEndian.PutUint16(h[4:], 0x1234)
		binary.BigEndian.PutUint16(h[6:], s.Offset)
		h[8], h[9] = 64, proto
		copy(h[12:], s.Src.Addr().AsSlice())
		copy(h[16:], s.Dst.Addr().AsSlice())
		h = append(h, s.IPOptions...)
		binary.BigEndian.PutUint16(h[10:], ^foldSum(addWords(0, h)))
		return append(append(f, h...), b...)
	}
	h := make([]byte, 40, 80)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(s.Extensions)+len(b)))
	h[6], h[7] = proto, 64
	if len(s.Extensions) > 0 {
		h[6] = s.FirstNext
	}
	if proto == 58 && len(b) > 0 && b[0] >= 133 && b[0] <= 137 {
		h[7] = 255 // neighbour discovery stays on the link
	}
	copy(h[8:], s.Src.Addr().AsSlice())
	copy(h[24:], s.Dst.Addr().AsSlice())
	return append(append(append(f, h...), s.Extensions...), b...)
}

// Ethernet makes a header with VLAN tags, for IPv4 or IPv6.
func Ethernet(v6 bool, vlan []uint16) []byte {
	f := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	for i, id := range vlan {
		kind := uint16(0x8100)
		if i == 0 && len(vlan) > 1 {
			kind = 0x88a8
		}
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, kind), id)
	}
	if v6 {
		return append(f, 0x86, 0xdd)
	}
	return append(f, 8, 0)
}

// UDP makes a datagram's frame.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	b = append(b, payload...)
	Sum(b, 6, src.Addr(), dst.Addr(), 17)
	return Segment{Src: src, Dst: dst}.Wrap(17, b)
}

// ICMP makes the frame of an ICMP or ICMPv6 message with a body after the first
// four octets.
func ICMP(src, dst netip.Addr, kind, code uint8, body []byte) []byte {
	b := append([]byte{kind, code, 0, 0}, body...)
	proto := uint8(1)
	if src.Is6() {
		proto = 58
		Sum(b, 2, src, dst, 58)
	} else {
		binary.BigEndian.PutUint16(b[2:], ^foldSum(addWords(0, b)))
	}
	return Segment{Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0)}.Wrap(proto, b)
}

// ARP makes a reply in which sender claims its address.
func ARP(sender, target netip.Addr) []byte {
	f := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1}
	f = append(append(f, sender.AsSlice()...), 2, 0, 0, 0, 0, 2)
	return append(f, target.AsSlice()...)
}

// Sum writes the checksum of a transport packet at an offset, computed from
// scratch with the pseudo header (RFC 9293, section 3.1).
func Sum(b []byte, at int, src, dst netip.Addr, proto uint8) {
	b[at], b[at+1] = 0, 0
	s := addWords(uint64(len(b))+uint64(proto), src.AsSlice())
	s = addWords(addWords(s, dst.AsSlice()), b)
	binary.BigEndian.PutUint16(b[at:], ^foldSum(s))
}

func addWords(s uint64, b []byte) uint64 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint64(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint64(b[len(b)-1]) << 8
	}
	return s
}

func foldSum(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
