package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"dragnet/flow"
)

// Checksum is the result of verifying a packet's Internet checksums (RFC 1071).
type Checksum uint8

// The outcomes.
const (
	// ChecksumGood: right, absent (IPv4 UDP), or not checkable because the
	// capture cut the packet or the protocol has none.
	ChecksumGood Checksum = iota
	// ChecksumOffloaded: the field holds only the sum of the pseudo header, as
	// written by a host that leaves the rest to its network card. They are
	// common in captures made on the sending host.
	ChecksumOffloaded
	// ChecksumBad: the receiver will have dropped the packet.
	ChecksumBad
)

// HeaderChecksum checks the IPv4 header; IPv6 has none, and a reassembled
// header differs from the one summed. Segmentation offload leaves 0.
func (p *Packet) HeaderChecksum() Checksum {
	if p.version != 4 || p.Reassembled || foldedSum(p.header[:int(p.header[0]&0x0f)*4], 0) == 0xffff {
		return ChecksumGood
	}
	if p.header[10] == 0 && p.header[11] == 0 {
		return ChecksumOffloaded
	}
	return ChecksumBad
}

// Checksum checks the transport header and payload.
func (p *Packet) Checksum() Checksum {
	if !p.Decoded || p.Cut() || len(p.segment) == 0 {
		return ChecksumGood
	}
	b := p.segment
	var at int
	switch p.Proto {
	case flow.TCP:
		at = 16
	case flow.UDP:
		at = 6
		if n := int(binary.BigEndian.Uint16(b[4:])); n >= 8 && n < len(b) {
			b = b[:n]
		}
		if p.version == 4 && b[6] == 0 && b[7] == 0 {
			return ChecksumGood // none computed (RFC 768)
		}
	case flow.ICMP:
		if foldedSum(b, 0) == 0xffff {
			return ChecksumGood
		}
		return ChecksumBad
	default:
		at = 2
	}
	pseudo := p.pseudoHeader(len(b))
	if foldedSum(b, pseudo) == 0xffff {
		return ChecksumGood
	}
	if uint64(binary.BigEndian.Uint16(b[at:])) == foldOnce(pseudo) {
		return ChecksumOffloaded
	}
	return ChecksumBad
}

// pseudoHeader is the unfolded sum of addresses, protocol and length (RFC 9293
// section 3.1, RFC 8200 section 8.1).
func (p *Packet) pseudoHeader(n int) uint64 {
	s := uint64(n) + uint64(p.Proto)
	if p.version == 4 {
		return s + sumWords(p.header[12:20])
	}
	src, dst := p.Src.As16(), p.Dst.As16()
	return s + sumWords(src[:]) + sumWords(dst[:])
}

// TransportChecksum is what the checksum field of a transport header must hold, which
// is 0 in b, the header with its payload (RFC 9293, section 3.1).
func TransportChecksum(src, dst netip.Addr, proto flow.Proto, b []byte) uint16 {
	pseudo := uint64(len(b)) + uint64(proto) + sumWords(src.AsSlice()) + sumWords(dst.AsSlice())
	return ^uint16(foldedSum(b, pseudo))
}

func sumWords(b []byte) (s uint64) {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint64(binary.BigEndian.Uint16(b[i:]))
	}
	return s
}

// foldedSum is the folded one's-complement sum of b and of s, a sum of words so far.
func foldedSum(b []byte, s uint64) uint64 {
	var total, carry uint64
	for len(b) >= 32 {
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b), carry)
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b[8:]), carry)
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b[16:]), carry)
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	s += total>>48 + total>>32&0xffff + total>>16&0xffff + total&0xffff + carry
	s += sumWords(b)
	if len(b)%2 == 1 {
		s += uint64(b[len(b)-1]) << 8
	}
	return foldOnce(s)
}

func foldOnce(s uint64) uint64 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return s
}
