package packet

import "encoding/binary"

// LinkType is the type of link-layer header of a captured frame (tcpdump.org
// "Link-layer header types").
type LinkType uint16

// The supported link types.
const (
	LinkNull       LinkType = 0   // BSD loopback: address family in the capturing host's byte order
	LinkEthernet   LinkType = 1   // IEEE 802.3
	LinkPPP        LinkType = 9   // PPP, perhaps with HDLC framing
	LinkRawBSD     LinkType = 12  // raw IP, as some systems number it
	LinkRawOpenBSD LinkType = 14  // raw IP, as OpenBSD numbers it
	LinkPPPSerial  LinkType = 50  // PPP in HDLC-like framing (RFC 1662)
	LinkPPPoE      LinkType = 51  // PPPoE session packets (RFC 2516)
	LinkRaw        LinkType = 101 // raw IP
	LinkCiscoHDLC  LinkType = 104 // address, control, EtherType
	LinkLoop       LinkType = 108 // OpenBSD loopback: address family in network byte order
	LinkLinuxSLL   LinkType = 113 // Linux "any" device
	LinkIPv4       LinkType = 228 // raw IPv4
	LinkIPv6       LinkType = 229 // raw IPv6
	LinkLinuxSLL2  LinkType = 276 // Linux "any" device, with interface index
)

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4          = 0x0800
	etherIPv6          = 0x86dd
	etherVLAN          = 0x8100
	etherQinQ          = 0x88a8
	etherQinQOld       = 0x9100
	etherMPLS          = 0x8847
	etherMPLSMulticast = 0x8848
	etherPPPoE         = 0x8864
	etherPBB           = 0x88e7
	etherFabricPath    = 0x8903
	etherVNTag         = 0x8926
)

// maxShims bounds VLAN tags, MPLS stacks and the like in one frame.
const maxShims = 16

// frame is the part still to be decoded: the captured bytes and their length on
// the wire.
type frame struct {
	b    []byte
	wire int
}

func (f frame) skipBytes(n int) frame { return frame{f.b[n:], f.wire - n} }

// Decode reads one captured frame into p; wire is the frame's length on the
// wire. Everything in p is overwritten.
func (p *Packet) Decode(link LinkType, data []byte, wire int) error {
	*p = Packet{}
	f := frame{data, max(wire, len(data))}
	switch link {
	case LinkEthernet:
		return p.decodeEthernet(f)
	case LinkRaw, LinkRawBSD, LinkRawOpenBSD, LinkIPv4, LinkIPv6:
		return p.decodeIP(f)
	case LinkNull, LinkLoop:
		return p.decodeLoopback(f)
	case LinkLinuxSLL:
		return p.decodeCooked(f, 16, 14)
	case LinkLinuxSLL2:
		return p.decodeCooked(f, 20, 0)
	case LinkCiscoHDLC:
		return p.decodeCooked(f, 4, 2)
	case LinkPPP, LinkPPPSerial:
		return p.decodePPP(f)
	case LinkPPPoE:
		return p.decodePPPoE(f)
	}
	return ErrLinkType
}

// decodeLoopback reads the four-octet address family; 2 is IPv4 everywhere and IPv6
// has a different number on every BSD, so the IP version decides.
func (p *Packet) decodeLoopback(f frame) error {
	if len(f.b) < 4 {
		return ErrTruncated
	}
	family := binary.LittleEndian.Uint32(f.b)
	if family > 0xffff {
		family = binary.BigEndian.Uint32(f.b)
	}
	switch family {
	case 2, 10, 24, 28, 30:
		return p.decodeIP(f.skipBytes(4))
	}
	return ErrNotIP
}

// decodeCooked reads a header of n octets with an EtherType at offset at.
func (p *Packet) decodeCooked(f frame, n, at int) error {
	if len(f.b) < n {
		return ErrTruncated
	}
	return p.decodeEtherType(binary.BigEndian.Uint16(f.b[at:]), f.skipBytes(n))
}

func (p *Packet) decodeEthernet(f frame) error {
	if len(f.b) < 14 {
		return ErrTruncated
	}
	return p.decodeEtherType(binary.BigEndian.Uint16(f.b[12:]), f.skipBytes(14))
}

// decodeEtherType strips shims up to the IP header.
func (p *Packet) decodeEtherType(kind uint16, f frame) error {
	for range maxShims {
		// n is the length of the shim, at the offset of the EtherType after it.
		var n, at int
		switch kind {
		case etherIPv4, etherIPv6:
			return p.decodeIP(f)
		case etherVLAN, etherQinQ, etherQinQOld:
			n, at = 4, 2
		case etherVNTag:
			n, at = 6, 4
		case etherPBB: // I-TAG, then the customer's Ethernet header
			n, at = 18, 16
		case etherFabricPath: // forwarding tag, then the customer's Ethernet header
			n, at = 16, 14
		case etherMPLS, etherMPLSMulticast:
			return p.decodeMPLS(f)
		case etherPPPoE:
			return p.decodePPPoE(f)
		default:
			if kind > 1500 {
				return ErrNotIP
			}
			// IEEE 802.3 length: LLC with a SNAP header holds an EtherType.
			if len(f.b) < 8 || f.b[0] != 0xaa || f.b[1] != 0xaa {
				return ErrNotIP
			}
			n, at = 8, 6
		}
		if len(f.b) < n {
			return ErrTruncated
		}
		if kind == etherVLAN || kind == etherQinQ || kind == etherQinQOld {
			p.addTag(binary.BigEndian.Uint16(f.b) & 0x0fff)
		}
		kind, f = binary.BigEndian.Uint16(f.b[at:]), f.skipBytes(n)
	}
	return ErrNesting
}

func (p *Packet) addTag(id uint16) {
	if p.VLAN == 0 {
		p.VLAN = id
	} else if p.InnerVLAN == 0 {
		p.InnerVLAN = id
	}
}

// decodeMPLS skips the label stack (RFC 3032). The protocol below is not
// stated, so the first nibble decides.
func (p *Packet) decodeMPLS(f frame) error {
	for range maxShims {
		if len(f.b) < 4 {
			return ErrTruncated
		}
		bottom := f.b[2]&1 != 0
		f = f.skipBytes(4)
		if !bottom {
			continue
		}
		if len(f.b) == 0 {
			return ErrTruncated
		}
		switch f.b[0] >> 4 {
		case 4, 6:
			return p.decodeIP(f)
		case 0: // pseudowire control word (RFC 4385), then Ethernet
			if len(f.b) < 4 {
				return ErrTruncated
			}
			return p.decodeEthernet(f.skipBytes(4))
		}
		return ErrNotIP
	}
	return ErrNesting
}

func (p *Packet) decodePPPoE(f frame) error {
	if len(f.b) < 6 {
		return ErrTruncated
	}
	if f.b[0] != 0x11 || f.b[1] != 0 { // version 1, type 1; code 0 is session data
		return ErrNotIP
	}
	return p.decodePPP(f.skipBytes(6))
}

// decodePPP reads the protocol field, one octet if it is odd (RFC 1661, section 2).
func (p *Packet) decodePPP(f frame) error {
	if len(f.b) >= 2 && f.b[0] == 0xff && f.b[1] == 0x03 {
		f = f.skipBytes(2)
	}
	if len(f.b) < 2 {
		return ErrTruncated
	}
	proto := uint16(f.b[0])
	if proto&1 != 0 {
		f = f.skipBytes(1)
	} else {
		proto = binary.BigEndian.Uint16(f.b)
		f = f.skipBytes(2)
	}
	switch proto {
	case 0x0021, 0x0057: // IPv4, IPv6
		return p.decodeIP(f)
	case 0x0281, 0x0283: // MPLS
		return p.decodeMPLS(f)
	}
	return ErrNotIP
}
