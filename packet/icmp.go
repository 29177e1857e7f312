package packet

import (
	"encoding/binary"
	"net/netip"

	"dragnet/flow"
)

// Quote is the start of the packet that an ICMP error is about, as far as the
// error carries it (RFC 792: the IP header and 8 octets; RFC 4443: as much as
// fits).
type Quote struct {
	// Src and Dst are the ends of the quoted packet: Src sent it and receives
	// the error.
	Src, Dst netip.Addr
	Proto    flow.Proto
	// SrcPort and DstPort are ports, or for ICMP the pair ICMPPorts gives.
	SrcPort, DstPort uint16
	// Seq is TCP's sequence number.
	Seq uint32
}

// errorType reports whether an ICMP message quotes a packet.
func errorType(proto flow.Proto, kind uint8) bool {
	if proto == flow.ICMPv6 {
		return kind < 128 // RFC 4443, section 2.1
	}
	switch kind {
	case 3, 4, 5, 11, 12: // unreachable, source quench, redirect, time exceeded, parameter problem
		return proto == flow.ICMP
	}
	return false
}

// Quoted reads the packet that this ICMP message is about. ok is false for a
// message that is not an error, or whose quote ends before the ports.
func (p *Packet) Quoted() (q Quote, ok bool) {
	if !p.Decoded || !errorType(p.Proto, p.ICMPType) {
		return Quote{}, false
	}
	var in Packet
	b := p.Payload
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		header := int(b[0]&0x0f) * 4
		if header < 20 || header > len(b) || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return Quote{}, false
		}
		in.Src, in.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		in.Proto = flow.Proto(b[9])
		in.segment = b[header:]
	case len(b) >= 40 && b[0]>>4 == 6:
		in.version = 6
		in.Src, in.Dst = netip.AddrFrom16([16]byte(b[8:24])).Unmap(), netip.AddrFrom16([16]byte(b[24:40])).Unmap()
		in.segment, in.segmentLen = b[40:], len(b)-40
		// The quote is truncated by design, so an incomplete transport header
		// is not an error here.
		if err := in.decodeUpper(b[6]); err != nil && in.Proto == 0 || in.fragOffset != 0 {
			return Quote{}, false
		}
	default:
		return Quote{}, false
	}
	return in.parseQuote()
}

func (p *Packet) parseQuote() (Quote, bool) {
	q := Quote{Src: p.Src, Dst: p.Dst, Proto: p.Proto}
	b := p.segment
	if len(b) < 4 {
		return Quote{}, false
	}
	switch p.Proto {
	case flow.TCP, flow.UDP:
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if p.Proto == flow.TCP {
			if len(b) < 8 {
				return Quote{}, false
			}
			q.Seq = binary.BigEndian.Uint32(b[4:])
		}
	case flow.ICMP, flow.ICMPv6:
		q.SrcPort, q.DstPort, _ = ICMPPorts(p.Proto, b[0], b[1])
	}
	return q, true
}

// counterparts4 and counterparts6 pair requests with replies (RFC 792, RFC
// 950, RFC 1256; RFC 4443, RFC 4861, RFC 2710, RFC 4620, RFC 6275).
var (
	counterparts4 = [...][2]uint8{{8, 0}, {13, 14}, {15, 16}, {10, 9}, {17, 18}}
	counterparts6 = [...][2]uint8{{128, 129}, {133, 134}, {135, 136}, {130, 131}, {139, 140}, {144, 145}}
)

// ICMPPorts returns what Zeek logs as the ports of an ICMP message: its type,
// and the type of the answer; for a message without an answer, its code, and
// twoWay is false.
func ICMPPorts(proto flow.Proto, kind, code uint8) (src, dst uint16, twoWay bool) {
	pairs := counterparts4[:]
	if proto == flow.ICMPv6 {
		pairs = counterparts6[:]
	}
	for _, pair := range pairs {
		switch kind {
		case pair[0]:
			return uint16(kind), uint16(pair[1]), true
		case pair[1]:
			return uint16(kind), uint16(pair[0]), true
		}
	}
	return uint16(kind), uint16(code), false
}
