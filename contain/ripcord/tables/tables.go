// Package tables names what Ripcord's kernel programs keep and report: the
// settings, connections, sources and stops in their tables, and the events and
// counters of packets. The layouts are those of contain/ripcord/bpf/maps.h.
//
// contain/ripcord/bpf reads and writes them, and so does the oracle of the
// programs, contain/ripcord/path.
package tables

import "net/netip"

// Side is where a packet comes from.
type Side uint8

// The sides.
const (
	Out Side = iota // from the host
	In              // from the network
)

// Settings configure the packet path; the kernel programs have them as
// constants.
type Settings struct {
	// Observe changes and drops nothing, except messages to the gateway, but
	// counts what it would.
	Observe bool
	// FailOpen passes connections whose start was not seen or for which the
	// table has no room.
	FailOpen bool
	// SignedPass lets connections with signed segments (TCP-MD5, TCP-AO) pass
	// unshifted; otherwise they are refused.
	SignedPass bool
	// BlockMS is how long a connection stays ended, in milliseconds. A port that
	// answered CoarseResets new connections by RST, faster than two a second, is
	// sent no SYN for a second, then two, and so on up to CoarseMS.
	BlockMS, CoarseMS, CoarseResets uint32
	// HandshakeMS, EstablishedMS and ClosedMS are how long silent connections are
	// remembered when a table is full, in milliseconds.
	HandshakeMS, EstablishedMS, ClosedMS uint32
	// ControlPort is the UDP port of messages to the gateway.
	ControlPort uint16
}

// DefaultSettings are those the kernel programs have when nothing is set.
func DefaultSettings() Settings {
	return Settings{BlockMS: 30_000, CoarseMS: 60_000, CoarseResets: 8, HandshakeMS: 75_000, EstablishedMS: 120 * 3600 * 1000, ClosedMS: 1000, ControlPort: 4817}
}

// Magic is the first four octets of every message to and from the gateway.
const Magic = "RIPC"

// Hop is how the host reaches a peer: the MAC addresses of its packets there, the
// next hop's and its own, and the tag the kernel took off (TCI and protocol).
type Hop struct {
	Next, Own [6]byte
	VLAN      uint32
}

// Sweeps are the times, in milliseconds since boot, at which the programs last removed
// what had expired, because the table of connections or of stops was full.
type Sweeps struct{ Conns4, Conns6, Stops, _ uint32 }

// Grant names a Fast Open cookie (RFC 7413) that the host granted to a peer.
type Grant struct{ Host, Peer netip.Addr }

// Cookie is one as it left, and what it was masked with.
type Cookie struct{ Mask, Value uint64 }

// Source is an address the host may use.
type Source struct {
	// Seen is when it last did, in milliseconds since boot.
	Seen uint32
	// Fixed is 1 for an address that was configured rather than learnt.
	Fixed uint32
}

// Ends names a connection.
type Ends struct{ Host, Peer netip.AddrPort }

// Conversation names a conversation other than a TCP connection; ports are 0
// for protocols without ports.
type Conversation struct {
	Peer         netip.Addr
	HPort, PPort uint16
	Proto        uint8
}

// Principals name a coarse conversation: ports and protocol 0 are any.
type Principals struct {
	Peer         netip.Prefix
	HPort, PPort uint16
	Proto        uint8
	// Later is set for fragments after the first, which have no ports.
	Later bool
}

// Stop says how long a coarse conversation is ended, in milliseconds since
// boot, and whether that concerns new TCP connections only (1).
type Stop struct{ Until, SYNOnly uint32 }

// ResetCount counts the new connections that a port, or any port (0), answered by
// RST; Hold is how long the last block was, in milliseconds, that began at Raised.
type ResetCount struct{ Since, Count, Hold, Raised uint32 }

// PacketEvent describes one packet.
type PacketEvent struct {
	Seq, Ack   uint32
	Host, Peer netip.AddrPort
	Reason     Reason
	Side       Side
	Proto      uint8
	Observed   bool
	Len        uint32
}

// StopLengths is how many prefix lengths stops may have at a time; the first is
// 128, single addresses. There is room for all that the protocol has: 8 to 32 of
// IPv4, and every fourth from 8 to 64 of IPv6.
const StopLengths = 44

// Prefix is a's prefix where IPv4 addresses are mapped into IPv6, as lengths of
// stops count: 128 is one address of either kind.
func Prefix(a netip.Addr, bits uint32) netip.Prefix {
	p, _ := netip.AddrFrom16(a.As16()).Prefix(int(bits))
	return p
}
