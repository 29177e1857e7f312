package packet

import (
	"encoding/binary"

	"dragnet/flow"
)

// decodeTransport reads the header at the start of segment. A packet whose
// transport header was truncated by the capture is an error: it cannot be
// assigned to a flow.
func (p *Packet) decodeTransport() error {
	b := p.segment
	p.Payload, p.PayloadLen = b, p.segmentLen
	var header int
	switch p.Proto {
	case flow.TCP:
		header = 20
	case flow.UDP, flow.ICMP, flow.ICMPv6:
		header = 8
	default:
		return nil
	}
	if p.segmentLen < header {
		return ErrHeader
	}
	if len(b) < header {
		return ErrTruncated
	}
	switch p.Proto {
	case flow.TCP:
		return p.decodeTCP(b)
	case flow.UDP:
		p.decodeUDP(b)
	default:
		p.ICMPType, p.ICMPCode = b[0], b[1]
		p.Payload, p.PayloadLen = b[8:], p.segmentLen-8
	}
	p.Decoded = true
	return nil
}

func (p *Packet) decodeTCP(b []byte) error {
	header := int(b[12]>>4) * 4
	if header < 20 || header > p.segmentLen {
		return ErrHeader
	}
	if header > len(b) {
		return ErrTruncated
	}
	p.SrcPort = binary.BigEndian.Uint16(b)
	p.DstPort = binary.BigEndian.Uint16(b[2:])
	p.Seq = binary.BigEndian.Uint32(b[4:])
	p.Ack = binary.BigEndian.Uint32(b[8:])
	p.Flags = flow.TCPFlags(b[13])
	p.Window = binary.BigEndian.Uint16(b[14:])
	p.Options = b[20:header]
	p.Payload, p.PayloadLen = b[header:], p.segmentLen-header
	p.Decoded = true
	return nil
}

// decodeUDP takes the payload's length from the UDP header if that is possible:
// the rest of the IP payload is padding.
func (p *Packet) decodeUDP(b []byte) {
	p.SrcPort = binary.BigEndian.Uint16(b)
	p.DstPort = binary.BigEndian.Uint16(b[2:])
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 8 || n > p.segmentLen {
		n = p.segmentLen
	}
	p.Payload, p.PayloadLen = b[8:min(n, len(b))], n-8
}

// Option is one TCP option (RFC 9293, section 3.1).
type Option struct {
	Kind uint8
	Data []byte
}

// TCPOptions calls yield for each option that lies completely inside the
// header; it stops at the end-of-options mark or the first broken length.
func (p *Packet) TCPOptions(yield func(Option) bool) {
	for b := p.Options; len(b) > 0; {
		switch {
		case b[0] == 0:
			return
		case b[0] == 1:
			b = b[1:]
			continue
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
			return
		}
		if !yield(Option{b[0], b[2:b[1]]}) {
			return
		}
		b = b[b[1]:]
	}
}
