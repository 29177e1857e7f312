// Package path is Ripcord's packet path in plain Go: what crosses the gateway
// between a host and its network, and how it is changed on the way. It is the
// oracle of the kernel programs in contain/ripcord/bpf, which do the same to the same
// bytes, and names what both keep and count.
//
// A Path is a pure function of its tables, the frame and the time: no clock, no
// I/O, no goroutines.
package path

import "net/netip"

// Side is where a packet comes from.
type Side uint8

// The sides.
const (
	Out Side = iota // from the host
	In              // from the network
)

// Settings say how a Path judges; the kernel programs have the same as
// constants.
type Settings struct {
	// Observe changes and drops nothing, letters to the gateway apart, but
	// counts what it would.
	Observe bool
	// FailOpen passes connections whose begin was not seen or that the table
	// has no room for.
	FailOpen bool
	// SignedPass lets connections with signed segments (TCP-MD5, TCP-AO) pass
	// unshifted; otherwise they are refused.
	SignedPass bool
	// BlockMS is how long a connection stays ended, in milliseconds; CoarseMS
	// how long a port that answered CoarseResets new connections by RST is
	// sent no SYN.
	BlockMS, CoarseMS, CoarseResets uint32
	// ControlPort is the UDP port of letters to the gateway.
	ControlPort uint16
}

// DefaultSettings are those the kernel programs have when nothing is set.
func DefaultSettings() Settings {
	return Settings{BlockMS: 30_000, CoarseMS: 60_000, CoarseResets: 8, ControlPort: 4817}
}

// Magic begins every letter to and from the gateway.
const Magic = "RIPC"

// Source is an address the host may use.
type Source struct {
	// Seen is when it last did, in milliseconds since boot.
	Seen uint32
	// Fixed is 1 for an address that was configured rather than learnt.
	Fixed uint32
}

// Ends names a connection.
type Ends struct{ Host, Peer netip.AddrPort }

// Talk names a conversation other than TCP's; ports are 0 where there are none.
type Talk struct {
	Peer         netip.Addr
	HPort, PPort uint16
	Proto        uint8
}

// Principals name a coarse conversation: ports and protocol 0 are any.
type Principals struct {
	Peer         netip.Prefix
	HPort, PPort uint16
	Proto        uint8
	// Later is set for fragments behind the first, which have no ports.
	Later bool
}

// Stop says how long a coarse conversation is ended, in milliseconds since
// boot, and whether that concerns new TCP connections only (1).
type Stop struct{ Until, SYNOnly uint32 }

// Resets counts the new connections that a port answered by RST.
type Resets struct{ Since, Count uint32 }

// Event tells of one packet.
type Event struct {
	Seq, Ack   uint32
	Host, Peer netip.AddrPort
	Reason     Reason
	Side       Side
	Proto      uint8
	Observed   bool
	Len        uint32
}

// StopLengths is how many prefix lengths stops may have at a time; the first is
// 128, single addresses.
const StopLengths = 4

// Path is the state of a gateway.
type Path struct {
	Settings Settings
	// Room is how many connections of IPv4 and IPv6 the tables take.
	Room [2]int
	// NS is the time, nanoseconds since boot.
	NS uint64
	// Secret is the key of the nonces; all zero lets nothing begin.
	Secret [2]uint64
	// Budget is how many IPv4 and IPv6 sources may still be learnt.
	Budget [2]int32

	Conns   map[Ends]*Conn
	Sources map[netip.Addr]*Source
	Stops   map[Principals]Stop
	Lengths [StopLengths]uint32
	Resets  map[netip.AddrPort]*Resets
	Talks   map[Talk]uint32

	Counters [Reasons]uint64
	// Tell receives events; nil drops them.
	Tell func(Event)

	conns [2]int
}

// New is a Path that knows nobody and has no secret.
func New(s Settings) *Path {
	return &Path{
		Settings: s, Room: [2]int{65536, 65536},
		Conns: map[Ends]*Conn{}, Sources: map[netip.Addr]*Source{}, Stops: map[Principals]Stop{},
		Resets: map[netip.AddrPort]*Resets{}, Talks: map[Talk]uint32{},
	}
}

func (p *Path) now() uint32 { return uint32(p.NS / 1_000_000) }

func (p *Path) count(r Reason) { p.Counters[r]++ }

func (p *Path) tell(f *frame, s *segment, side Side, why Reason) {
	if p.Tell == nil {
		return
	}
	host, peer := f.ends(side)
	p.Tell(Event{
		Seq: s.seq, Ack: s.ack, Host: host, Peer: peer, Reason: why, Side: side,
		Proto: f.proto, Observed: p.Settings.Observe, Len: f.len,
	})
}

// Judge decides about a frame that comes from a side, and changes it in place.
// pass tells whether it crosses. gso marks a packet larger than a frame, whose
// length field may be empty.
func (p *Path) Judge(side Side, data []byte, gso bool) (why Reason, pass bool) {
	f := frame{b: data, gso: gso}
	var s segment
	why = p.judge(&f, &s, side)
	p.count(why)
	if why <= PassedIn {
		return why, true
	}
	p.tell(&f, &s, side, why)
	return why, p.Settings.Observe && why != Control
}

func passed(side Side) Reason { return Reason(side) }

func (p *Path) judge(f *frame, s *segment, side Side) Reason {
	kind, why := f.parse()
	switch {
	case why > PassedIn:
		return why
	case kind == isARP && side == Out:
		return p.checkARP(f)
	case kind == isOther && side == Out && f.ether != etherEAPOL && f.ether != etherLLDP:
		return NotIP
	case kind != isIP:
		return passed(side)
	}
	if side == Out {
		if why := p.checkHost(f); why > PassedIn {
			return why
		}
	}
	if f.proto == protoTCP {
		return p.tcp(f, s, side)
	}
	if p.control(f, side) {
		return Control
	}
	if side == Out {
		if p.stopped(f, false) {
			return Stopped
		}
		p.noteTalk(f)
	}
	if f.quotes() {
		p.shiftQuote(f, side)
	}
	return passed(side)
}

// control reports a letter to the gateway, or one that the host writes in the
// gateway's name.
func (p *Path) control(f *frame, side Side) bool {
	port := f.dport
	if side == Out {
		port = f.sport
	}
	return f.proto == protoUDP && f.piece == whole && port == p.Settings.ControlPort && f.len >= 12 &&
		len(f.b) >= f.l4+12 && string(f.b[f.l4+8:f.l4+12]) == Magic
}
