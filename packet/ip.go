package packet

import (
	"encoding/binary"
	"net/netip"

	"dragnet/flow"
)

// maxExtensions bounds IPv6 extension headers in one packet; RFC 8200 section
// 4.1 allows seven in order, once each.
const maxExtensions = 16

// IPv6 next-header numbers of extension headers (RFC 8200, RFC 4302, RFC 6275).
const (
	nextHopByHop = 0
	nextRouting  = 43
	nextFragment = 44
	nextAuth     = 51
	nextNone     = 59
	nextDestOpts = 60
	nextMobility = 135
)

// DecodeIP decodes a packet that starts with its IP header, such as one from a
// queue or a tunnel. Everything in p is overwritten.
func (p *Packet) DecodeIP(data []byte, wire int) error {
	*p = Packet{}
	return p.decodeIP(frame{data, max(wire, len(data))})
}

func (p *Packet) decodeIP(f frame) error {
	if len(f.b) == 0 {
		return ErrTruncated
	}
	switch f.b[0] >> 4 {
	case 4:
		return p.decodeIPv4(f)
	case 6:
		return p.decodeIPv6(f)
	}
	return ErrHeader
}

func (p *Packet) decodeIPv4(f frame) error {
	if len(f.b) < 20 {
		return ErrTruncated
	}
	header := int(f.b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(f.b[2:]))
	if total == 0 {
		total = f.wire // segmentation offload leaves the length to the network card
	}
	if header < 20 || total < header || total > f.wire {
		return ErrHeader
	}
	if len(f.b) < header {
		return ErrTruncated
	}
	p.version = 4
	p.Src = netip.AddrFrom4([4]byte(f.b[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(f.b[16:20]))
	p.TTL = f.b[8]
	p.IPLen = total
	p.header = f.b[:header]
	p.segment = f.b[header:min(total, len(f.b))]
	p.segmentLen = total - header

	flags := binary.BigEndian.Uint16(f.b[6:])
	p.fragOffset = int(flags&0x1fff) * 8
	p.fragMore = flags&0x2000 != 0
	p.Fragment = p.fragMore || p.fragOffset != 0
	if p.Fragment {
		p.fragID = uint32(binary.BigEndian.Uint16(f.b[4:]))
		p.Proto = flow.Proto(f.b[9])
		return nil
	}
	return p.decodeUpper(f.b[9])
}

func (p *Packet) decodeIPv6(f frame) error {
	if len(f.b) < 40 {
		return ErrTruncated
	}
	total := int(binary.BigEndian.Uint16(f.b[4:])) + 40
	if total == 40 && f.wire > 0xffff {
		total = f.wire // jumbogram (RFC 2675), or segmentation offload
	}
	if total > f.wire {
		return ErrHeader
	}
	p.version = 6
	p.Src = netip.AddrFrom16([16]byte(f.b[8:24])).Unmap()
	p.Dst = netip.AddrFrom16([16]byte(f.b[24:40])).Unmap()
	p.TTL = f.b[7]
	p.IPLen = total
	p.header = f.b[:40]
	p.segment = f.b[40:min(total, len(f.b))]
	p.segmentLen = total - 40
	return p.decodeUpper(f.b[6])
}

// decodeUpper skips extension headers from next on and reads the transport header.
// An authentication header is skipped under IPv4 too.
func (p *Packet) decodeUpper(next uint8) error {
	for range maxExtensions {
		if next != nextAuth && (p.version == 4 || !isExtension(next)) {
			p.Proto = flow.Proto(next)
			return p.decodeTransport()
		}
		b := p.segment
		if len(b) < 8 {
			return ErrTruncated
		}
		n := (int(b[1]) + 1) * 8
		switch next {
		case nextAuth: // counts in 4 octets, minus 2 (RFC 4302, section 2.2)
			n = (int(b[1]) + 2) * 4
		case nextFragment:
			n = 8
		}
		if n > p.segmentLen {
			return ErrHeader
		}
		if n > len(b) {
			return ErrTruncated
		}
		switch next {
		case nextRouting:
			p.parseRouting(b[:n])
		case nextDestOpts:
			p.parseDestinationOptions(b[:n])
		case nextFragment:
			if done := p.parseFragment(b); done {
				return nil
			}
		}
		next = b[0]
		p.segment = b[n:]
		p.segmentLen -= n
	}
	return ErrNesting
}

func isExtension(next uint8) bool {
	switch next {
	case nextHopByHop, nextRouting, nextFragment, nextDestOpts:
		return true
	}
	return false
}

// parseFragment reads the fragment header at b; done means that the rest has to
// wait for the other fragments. A lone "atomic" fragment (RFC 6946) does
// not.
func (p *Packet) parseFragment(b []byte) (done bool) {
	if p.Reassembled {
		return false
	}
	offset := binary.BigEndian.Uint16(b[2:])
	p.fragOffset = int(offset & 0xfff8)
	p.fragMore = offset&1 != 0
	if p.fragOffset == 0 && !p.fragMore {
		return false
	}
	p.Fragment = true
	p.fragID = binary.BigEndian.Uint32(b[4:])
	p.Proto = flow.Proto(b[0])
	p.segment = b[8:]
	p.segmentLen -= 8
	return true
}

// parseRouting takes the final destination from type 0 (RFC 2460, deprecated by RFC
// 5095) and type 2 (RFC 6275): the last address, while segments are left.
func (p *Packet) parseRouting(b []byte) {
	kind, left := b[2], b[3]
	if left == 0 || len(b) < 24 || len(b)%16 != 8 || kind != 0 && (kind != 2 || len(b) != 24) {
		return
	}
	p.Dst = netip.AddrFrom16([16]byte(b[len(b)-16:])).Unmap()
}

// parseDestinationOptions takes the source from a home-address option (RFC 6275,
// section 6.3).
func (p *Packet) parseDestinationOptions(b []byte) {
	for b = b[2:]; len(b) >= 2; {
		if b[0] == 0 { // Pad1
			b = b[1:]
			continue
		}
		n := 2 + int(b[1])
		if n > len(b) {
			return
		}
		if b[0] == 201 && n == 18 {
			p.Src = netip.AddrFrom16([16]byte(b[2:18])).Unmap()
			return
		}
		b = b[n:]
	}
}
