// Package path is Ripcord's packet path in plain Go: which packets cross the
// gateway between a host and its network, and how they are changed on the way.
// It is the oracle of the kernel programs in contain/ripcord/bpf, which do the same
// to the same bytes, and no program links it. The tables both work on are in
// contain/ripcord/state.
//
// A Path is a pure function of its tables, the frame and the time: no clock, no
// I/O, no goroutines.
package path

import (
	"net/netip"

	"dragnet/contain/ripcord/tables"
)

// Path is the state of a gateway.
type Path struct {
	Settings tables.Settings
	// Room is how many connections of IPv4 and IPv6 the tables take.
	Room [2]int
	// NS is the time, nanoseconds since boot.
	NS uint64
	// Secret is the key of the nonces; all zero refuses new connections.
	Secret [2]uint64
	// Budget is how many IPv4 and IPv6 sources may still be learnt,
	// and in how many more prefixes of IPv6.
	Budget [3]int32

	Conns         map[tables.Ends]*tables.Conn
	Sources       map[netip.Addr]*tables.Source
	Stops         map[tables.Principals]tables.Stop
	Lengths       [tables.StopLengths]uint32
	Resets        map[netip.AddrPort]*tables.ResetCount
	Conversations map[tables.Conversation]uint32
	Hops          map[netip.Addr]tables.Hop
	Prefixes      map[netip.Prefix]uint32
	Neighbours    map[netip.Addr]uint32
	Cookies       map[tables.Grant]tables.Cookie
	PeerCookies   map[tables.Grant]uint64
	Sweeps        tables.Sweeps

	Counters [tables.Reasons]uint64
	// OnEvent receives events; nil drops them.
	OnEvent func(tables.PacketEvent)

	conns [2]int
}

// New returns a Path with empty tables and no secret.
func New(s tables.Settings) *Path {
	return &Path{
		Settings: s, Room: [2]int{65536, 65536},
		Conns: map[tables.Ends]*tables.Conn{}, Sources: map[netip.Addr]*tables.Source{}, Stops: map[tables.Principals]tables.Stop{},
		Resets: map[netip.AddrPort]*tables.ResetCount{}, Conversations: map[tables.Conversation]uint32{},
		Prefixes: map[netip.Prefix]uint32{}, Neighbours: map[netip.Addr]uint32{},
		Hops: map[netip.Addr]tables.Hop{}, Cookies: map[tables.Grant]tables.Cookie{}, PeerCookies: map[tables.Grant]uint64{},
	}
}

func (p *Path) nowMS() uint32 { return uint32(p.NS / 1_000_000) }

func (p *Path) count(r tables.Reason) { p.Counters[r]++ }

func (p *Path) emitEvent(f *frame, s *segment, side tables.Side, why tables.Reason) {
	if p.OnEvent == nil {
		return
	}
	host, peer := f.hostAndPeer(side)
	p.OnEvent(tables.PacketEvent{
		Seq: s.seq, Ack: s.ack, Host: host, Peer: peer, Reason: why, Side: side,
		Proto: f.proto, Observed: p.Settings.Observe, Len: f.len,
	})
}

// Judge decides about a frame that comes from a side, and changes it in place.
// pass reports whether it crosses. A Challenge leaves by the side it came from. gso marks a packet larger than a frame,
// whose length field may be empty.
func (p *Path) Judge(side tables.Side, data []byte, gso bool) (why tables.Reason, pass bool) {
	f := frame{b: data, gso: gso}
	var s segment
	why = p.judgeFrame(&f, &s, side)
	p.count(why)
	if why <= tables.PassedIn {
		return why, true
	}
	p.emitEvent(&f, &s, side, why)
	return why, p.Settings.Observe && why != tables.Control
}

func passReason(side tables.Side) tables.Reason { return tables.Reason(side) }

func (p *Path) judgeFrame(f *frame, s *segment, side tables.Side) tables.Reason {
	kind, why := f.parseHeaders()
	switch {
	case why > tables.PassedIn:
		return why
	case kind == isARP && side == tables.Out:
		return p.checkARP(f)
	case kind == isOther && side == tables.Out && f.ether != etherEAPOL && f.ether != etherLLDP:
		return tables.NotIP
	case kind != isIP:
		return passReason(side)
	}
	if side == tables.Out {
		if why := p.checkHost(f); why > tables.PassedIn {
			return why
		}
	}
	if f.proto == protoTCP {
		if side == tables.In && f.piece == later {
			// Without the first fragment, which is judged, the host gets nothing.
			return tables.PassedIn
		}
		return p.judgeTCP(f, s, side)
	}
	// The gateway speaks in the name of its host only.
	if p.isControl(f, side) && (side == tables.Out || p.Sources[f.dst] != nil) {
		return tables.Control
	}
	if side == tables.In && f.proto == protoICMP6 && f.piece == whole && f.typ >= 133 && f.typ <= 137 {
		p.noteNeighbour(f)
	}
	if side == tables.Out {
		// What is stopped still shows that the host goes on.
		p.noteConversation(f)
		if p.isStopped(f, false) {
			return tables.Stopped
		}
	}
	if f.carriesQuote() {
		return p.shiftQuote(f, side)
	}
	return passReason(side)
}

// isControl reports whether a packet is a message to the gateway, or one that
// the host sends in the gateway's name.
func (p *Path) isControl(f *frame, side tables.Side) bool {
	port := f.dport
	if side == tables.Out {
		port = f.sport
	}
	return f.proto == protoUDP && f.piece == whole && port == p.Settings.ControlPort && f.len >= 12 &&
		len(f.b) >= f.l4+12 && string(f.b[f.l4+8:f.l4+12]) == tables.Magic
}
