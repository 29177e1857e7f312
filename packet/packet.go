// Package packet decodes captured frames down to the transport header, without
// copying and without allocating.
//
// Decode strips the link layer (Ethernet with VLAN, QinQ, MPLS, PBB and VN-Tag
// shims, PPP, PPPoE, Linux cooked, raw IP), IPv4 with options, and IPv6 with
// extension headers, and reads TCP, UDP, ICMP and ICMPv6. A Defragmenter joins
// fragments; Quoted reads the header that an ICMP error carries.
//
// Tunnels (GRE, IP in IP, 6in4, Teredo, VXLAN, Geneve, GTP ...) are not
// unwrapped: a tunnel is one flow between its two ends, and the traffic inside
// it is not decoded.
//
// Sub-packages read capture files (capture) and reassemble TCP streams
// (stream).
package packet

import (
	"errors"
	"net/netip"

	"dragnet/flow"
)

// Reasons why a frame yields no packet. Decode returns these bare, so that a
// flood of broken frames costs no memory; the caller adds the packet number.
var (
	// ErrNotIP marks valid frames without IP: ARP, spanning tree, LLDP.
	ErrNotIP = errors.New("not an IP packet")
	// ErrLinkType marks a link layer this package does not support.
	ErrLinkType = errors.New("link type is not supported")
	// ErrTruncated marks frames that end inside a header.
	ErrTruncated = errors.New("frame ends inside a header")
	// ErrHeader marks impossible header lengths and versions.
	ErrHeader = errors.New("impossible header length or version")
	// ErrNesting marks frames with more link shims or extension headers than
	// any network uses.
	ErrNesting = errors.New("too many nested headers")
)

// Packet is one decoded IP packet. Its slices point into the frame given to
// Decode and are valid as long as that is.
type Packet struct {
	// VLAN and InnerVLAN are the identifiers of the first two 802.1Q tags, 0 if
	// absent.
	VLAN, InnerVLAN uint16

	// Src and Dst are the ends of the conversation, never IPv4-mapped. With
	// IPv6 routing and home-address headers they are the final destination
	// and the home address, as the upper layer's checksum uses them.
	Src, Dst netip.Addr
	// Proto is the upper-layer protocol, after all extension headers.
	Proto flow.Proto
	// TTL is the time to live or hop limit.
	TTL uint8
	// IPLen is the length of the packet on the wire from the IP header on.
	IPLen int

	// Fragment is set for fragments of a larger datagram; only Src, Dst, Proto,
	// TTL and IPLen are meaningful until a Defragmenter completes it.
	Fragment bool
	// Reassembled is set by a Defragmenter.
	Reassembled bool

	// Decoded says that the transport header of TCP, UDP, ICMP or ICMPv6 was
	// present and is filled in below.
	Decoded bool
	// SrcPort and DstPort are the ports of TCP and UDP.
	SrcPort, DstPort uint16
	// Seq, Ack, Flags, Window and Options are TCP's.
	Seq, Ack uint32
	Flags    flow.TCPFlags
	Window   uint16
	Options  []byte
	// ICMPType and ICMPCode are those of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	// Payload holds the captured bytes after the transport header, or after the
	// IP header for other protocols.
	Payload []byte
	// PayloadLen is their number on the wire; more than len(Payload) if the
	// capture truncated the frame.
	PayloadLen int

	header  []byte // IPv4 header with options, IPv6 header without extensions
	segment []byte // the IP payload: transport header and its payload, as captured
	// segmentLen is the length of segment on the wire.
	segmentLen int
	version    uint8
	fragID     uint32
	fragOffset int
	fragMore   bool
}

// Version is 4 or 6.
func (p *Packet) Version() int { return int(p.version) }

// Cut reports whether the capture holds less of the packet than was on the
// wire.
func (p *Packet) Cut() bool { return len(p.segment) < p.segmentLen }

// IsMapped reports whether a packet of IPv6 has an IPv4-mapped address in its
// header (RFC 4291, section 2.5.5.2). No host sends one, and Src and Dst are the same
// as those of a packet of IPv4.
func (p *Packet) IsMapped() bool {
	if p.version != 6 || len(p.header) < 40 {
		return false
	}
	return netip.AddrFrom16([16]byte(p.header[8:24])).Is4In6() || netip.AddrFrom16([16]byte(p.header[24:40])).Is4In6()
}

// NetworkSrc is the source in the IP header itself, which routers and filters see;
// Src may be an IPv6 home address, which any sender can write.
func (p *Packet) NetworkSrc() netip.Addr {
	if p.version == 6 && len(p.header) >= 40 {
		return netip.AddrFrom16([16]byte(p.header[8:24])).Unmap()
	}
	return p.Src
}
