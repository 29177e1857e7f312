package path

import (
	"encoding/binary"
	"net/netip"

	"dragnet/contain/ripcord/tables"
)

const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherARP   = 0x0806
	etherVLAN  = 0x8100
	etherQinQ  = 0x88a8
	etherEAPOL = 0x888e
	etherLLDP  = 0x88cc

	protoICMP  = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
	protoSCTP  = 132

	maxExtensions = 6
)

// kind of a frame.
type kind uint8

const (
	isIP kind = iota
	isARP
	isOther
)

// piece of a datagram.
type piece uint8

const (
	whole piece = iota
	first
	later
)

// frame is an Ethernet frame and its parsed headers.
type frame struct {
	b   []byte
	gso bool

	src, dst     netip.Addr // IPv4 as such, not mapped
	len          uint32     // octets from l4 on, by the IP header
	l3, l4       int
	sport, dport uint16
	ether        uint16
	proto, typ   uint8
	v6           bool
	piece        piece
}

func (f *frame) has(at, n int) bool { return at+n <= len(f.b) }
func (f *frame) u16(at int) uint16  { return binary.BigEndian.Uint16(f.b[at:]) }
func (f *frame) u32(at int) uint32  { return binary.BigEndian.Uint32(f.b[at:]) }

// hostAndPeer names both ends, given the side the packet comes from.
func (f *frame) hostAndPeer(side tables.Side) (host, peer netip.AddrPort) {
	src, dst := netip.AddrPortFrom(f.src, f.sport), netip.AddrPortFrom(f.dst, f.dport)
	if side == tables.Out {
		return src, dst
	}
	return dst, src
}

func (f *frame) parseHeaders() (kind, tables.Reason) {
	at := 12
	for i := 0; ; i++ {
		if !f.has(at, 2) {
			return 0, tables.Malformed
		}
		f.ether = f.u16(at)
		if f.ether != etherVLAN && f.ether != etherQinQ {
			break
		}
		if i == 2 {
			f.ether = 0
			return 0, tables.Nested
		}
		at += 4
	}
	f.l3 = at + 2
	switch f.ether {
	case etherIPv4:
		return isIP, f.parseIPv4()
	case etherIPv6:
		return isIP, f.parseIPv6()
	case etherARP:
		return isARP, 0
	}
	return isOther, 0
}

func (f *frame) parseIPv4() tables.Reason {
	if !f.has(f.l3, 20) || f.b[f.l3]>>4 != 4 {
		return tables.Malformed
	}
	head, total, have := int(f.b[f.l3]&15)*4, int(f.u16(f.l3+2)), len(f.b)-f.l3
	if total == 0 && f.gso {
		total = have
	}
	if head < 20 || total < head || total > have {
		return tables.Malformed
	}
	if head > 20 {
		o := options{ip: true}
		o.parseList(f.b[f.l3+20 : f.l3+head])
		switch {
		case o.routed:
			return tables.SourceRouted
		case o.broken:
			return tables.Options
		}
	}
	f.src, f.dst = netip.AddrFrom4([4]byte(f.b[f.l3+12:])), netip.AddrFrom4([4]byte(f.b[f.l3+16:]))
	f.proto = f.b[f.l3+9]
	f.l4 = f.l3 + head
	f.len = uint32(total - head)
	switch off := f.u16(f.l3 + 6); {
	case off&0x1fff != 0:
		f.piece = later
	case off&0x2000 != 0:
		f.piece = first
	}
	return f.parsePorts()
}

func (f *frame) parseIPv6() tables.Reason {
	if !f.has(f.l3, 40) || f.b[f.l3]>>4 != 6 {
		return tables.Malformed
	}
	total, have := int(f.u16(f.l3+4))+40, len(f.b)-f.l3
	if total == 40 && f.gso {
		total = have
	}
	if total > have {
		return tables.Malformed
	}
	f.v6 = true
	f.src, f.dst = netip.AddrFrom16([16]byte(f.b[f.l3+8:])), netip.AddrFrom16([16]byte(f.b[f.l3+24:]))
	if f.src.Is4In6() || f.dst.Is4In6() {
		return tables.Malformed // the tables' form of IPv4, never sent (RFC 4942)
	}
	next, at := f.b[f.l3+6], 40
	for range maxExtensions + 1 {
		if f.piece == later || next != 0 && next != 43 && next != 44 && next != 60 {
			f.proto = next
			f.l4 = f.l3 + at
			f.len = uint32(total - at)
			return f.parsePorts()
		}
		if at+8 > total {
			return tables.Malformed
		}
		ext := f.b[f.l3+at:]
		n := (int(ext[1]) + 1) * 8
		switch {
		case next == 44:
			n = 8
			if off := binary.BigEndian.Uint16(ext[2:]); off&0xfff8 != 0 {
				f.piece = later
			} else if off&1 != 0 {
				f.piece = first
			}
		case next == 43 && ext[3] != 0:
			return tables.SourceRouted
		}
		at += n
		if at > total {
			return tables.Malformed
		}
		next = ext[0]
	}
	return tables.Nested
}

func (f *frame) parsePorts() tables.Reason {
	if f.piece == later {
		return 0
	}
	switch f.proto { // those of TCP are read with the rest of its header
	case protoUDP, protoSCTP:
		if f.len < 8 {
			return tables.Malformed
		}
		f.sport, f.dport = f.u16(f.l4), f.u16(f.l4+2)
	case protoICMP, protoICMP6:
		if f.len < 4 {
			return tables.Malformed
		}
		f.typ = f.b[f.l4]
	}
	return 0
}

// options is the result of parsing IPv4 or TCP options, which have the same
// form.
type options struct {
	ip            bool
	sack, sackLen int // offset of the edges; length 0 if absent
	broken        bool
	sign, routed  bool
	cookie        int // offset of a Fast Open cookie of 8 octets; 0 if absent
}

func (o *options) parseList(b []byte) {
	for at := 0; at < len(b); {
		kind := b[at]
		if kind == 0 {
			return
		}
		if kind == 1 {
			at++
			continue
		}
		if at+1 >= len(b) || b[at+1] < 2 || at+int(b[at+1]) > len(b) {
			o.broken = true
			return
		}
		n := int(b[at+1])
		switch {
		case o.ip:
			o.routed = o.routed || kind == 131 || kind == 137 // RFC 791
		case kind == 19 || kind == 29: // RFC 2385, RFC 5925
			o.sign = true
		case kind == 5: // RFC 2018
			if o.sackLen != 0 || n < 10 || n > 34 || n%8 != 2 {
				o.broken = true
				return
			}
			o.sack, o.sackLen = at+2, n-2
		case kind == 34 && n == 10: // RFC 7413; others are left alone
			o.cookie = at + 2
		}
		at += n
	}
}
