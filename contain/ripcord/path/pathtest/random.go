package pathtest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"dragnet/contain/ripcord/path"
	"dragnet/contain/ripcord/tables"
)

// Random makes packets around the connections that a Path has, so that every
// rule is exercised from both sides: exact numbers, numbers next to them,
// others.
type Random struct {
	R    *rand.Rand
	Path *path.Path
	// Hosts are addresses of the host (the last of each family may be one that
	// is not), Peers those of others.
	Hosts, Peers []netip.Addr

	cookie []byte // for the segment that is made
}

// NewRandom has a few addresses and ports of both families.
func NewRandom(seed uint64, p *path.Path) *Random {
	a := netip.MustParseAddr
	return &Random{
		R: rand.New(rand.NewPCG(seed, 7)), Path: p,
		Hosts: []netip.Addr{a("10.0.0.5"), a("2001:db8::5"), a("10.0.0.6"), a("fe80::5")},
		Peers: []netip.Addr{a("192.0.2.1"), a("2001:db8:1::1"), a("192.0.2.9"), a("2001:db8:1::9")},
	}
}

func (r *Random) oneIn(n int) bool { return r.R.IntN(n) == 0 }

func pickOne[T any](r *Random, list ...T) T { return list[r.R.IntN(len(list))] }

// pickEnds picks a connection, mostly of the host's true addresses.
func (r *Random) pickEnds() tables.Ends {
	i := r.R.IntN(2)
	host := r.Hosts[i]
	if r.oneIn(40) {
		host = r.Hosts[i+2]
	}
	peer := r.Peers[i]
	if r.oneIn(3) {
		peer = r.Peers[i+2]
	}
	return tables.Ends{
		Host: netip.AddrPortFrom(host, uint16(40000+r.R.IntN(3))),
		Peer: netip.AddrPortFrom(peer, pickOne[uint16](r, 80, 443)),
	}
}

// nearNumber is n, or a number next to it.
func (r *Random) nearNumber(n uint32) uint32 {
	switch r.R.IntN(12) {
	case 0:
		return n + 1
	case 1:
		return n - 1
	case 2:
		return n + uint32(r.R.IntN(100_000))
	case 3:
		return n - uint32(r.R.IntN(100_000))
	case 4:
		return r.R.Uint32()
	}
	return n
}

// Next makes a frame and returns it with the side it comes from.
func (r *Random) Next() (side tables.Side, frame []byte) {
	side = tables.Side(r.R.IntN(2))
	switch n := r.R.IntN(100); {
	case n < 80:
		frame = r.randomTCP(side).Frame()
	case n < 86:
		frame = r.randomUDP(side)
	case n < 92:
		frame = r.randomICMP(side)
	case n < 94:
		frame = ARP(pickOne(r, r.Hosts[0], r.Hosts[2], netip.IPv4Unspecified()), r.Peers[0])
	case n < 96:
		frame = r.randomNeighbour()
	default:
		frame = r.randomTCP(side).Frame()
		r.damageFrame(&frame)
	}
	return side, frame
}

func (r *Random) randomTCP(side tables.Side) Segment {
	e := r.pickEnds()
	s := Segment{Src: e.Host, Dst: e.Peer}
	if side == tables.In {
		s.Src, s.Dst = s.Dst, s.Src
	}
	s.Flags = pickOne[uint8](r, ACK, ACK, ACK, ACK, ACK|8, SYN, SYN, SYN|ACK, SYN|ACK, FIN|ACK, FIN|ACK, RST, RST|ACK, RST|ACK, 0, SYN|FIN, FIN)
	if c := r.Path.Conns[e]; c == nil {
		s.Seq, s.Ack = r.R.Uint32(), r.R.Uint32()
		if !r.oneIn(4) {
			s.Flags = SYN
		}
	} else if side == tables.Out {
		s.Seq = r.nearNumber(pickOne(r, c.OutNext, c.OutNext, c.ISNOut) - c.Out)
		s.Ack = r.nearNumber(pickOne(r, c.InNext, c.InNext, c.AckHi, c.ISNIn+1) + c.In)
		r.completeHandshake(c, &s, c.ISNOut-c.Out)
	} else {
		s.Seq = r.nearNumber(pickOne(r, c.InNext, c.InNext, c.ISNIn, c.AckHi, c.AckHi, c.Probe))
		s.Ack = r.nearNumber(pickOne(r, c.OutNext, c.OutNext, c.OutUna))
		r.completeHandshake(c, &s, c.ISNIn)
		if c.State == tables.Handshaking && c.Seen&tables.SYNIn == 0 && r.oneIn(3) { // a closed port
			s.Flags, s.Seq, s.Ack = RST|ACK, 0, c.OutNext
		}
	}
	if r.oneIn(2) {
		s.Payload = make([]byte, r.R.IntN(60))
		for i := range s.Payload {
			s.Payload[i] = byte(r.R.Uint32())
		}
	}
	r.cookie = []byte("FASTOPEN")
	if known, ok := r.Path.PeerCookies[tables.Grant{Host: e.Host.Addr(), Peer: e.Peer.Addr()}]; ok && side == tables.Out && !r.oneIn(4) {
		r.cookie = binary.BigEndian.AppendUint64(nil, known)
	}
	if known, ok := r.Path.Cookies[tables.Grant{Host: e.Host.Addr(), Peer: e.Peer.Addr()}]; ok && side == tables.In && !r.oneIn(4) {
		r.cookie = binary.BigEndian.AppendUint64(nil, known.Value)
	}
	s.Options = r.randomOptions()
	r.addHeaders(&s)
	return s
}

// completeHandshake makes handshakes succeed often enough.
func (r *Random) completeHandshake(c *tables.Conn, s *Segment, isn uint32) {
	if c.State == tables.Handshaking && r.oneIn(2) {
		s.Flags = pickOne[uint8](r, SYN|ACK, ACK)
	}
	if s.Flags&SYN != 0 && r.oneIn(2) {
		s.Seq = isn
	}
	if c.State == tables.Established && s.Flags&RST != 0 && !r.oneIn(6) {
		s.Flags = ACK
	}
}

// addHeaders adds VLAN tags, IP options, extension headers and fragment fields.
func (r *Random) addHeaders(s *Segment) {
	if r.oneIn(8) {
		s.VLAN = make([]uint16, r.R.IntN(4))
	}
	if r.oneIn(12) {
		s.IPOptions = pickOne(r, []byte{1, 1, 1, 0}, []byte{148, 4, 0, 0}, []byte{131, 7, 4, 10, 0, 0, 9, 0}, []byte{7, 9, 0, 0}, []byte{1, 5, 3, 0})
		s.FirstNext = pickOne[uint8](r, 0, 43, 60, 44)
		switch s.FirstNext {
		case 43:
			s.Extensions = []byte{6, 0, 0, uint8(r.R.IntN(2)), 0, 0, 0, 0}
		case 44:
			s.Extensions = []byte{6, 0, 0, pickOne[uint8](r, 0, 0, 1, 8), 0, 0, 0, 9}
		default:
			s.Extensions = []byte{6, uint8(r.R.IntN(2)), 1, 4, 0, 0, 0, 0}
		}
		if r.oneIn(4) {
			s.Extensions = append([]byte{s.FirstNext, 0, 1, 4, 0, 0, 0, 0}, s.Extensions...)
			s.FirstNext = 60
		}
	}
	if r.oneIn(30) {
		s.Offset = pickOne[uint16](r, 0x4000, 0x2000, 0x2001, 0x0010)
	}
}

func (r *Random) randomOptions() []byte {
	edges := func(n int) []byte {
		b := []byte{5, uint8(2 + n)}
		for range n {
			b = append(b, byte(r.R.Uint32()))
		}
		return b
	}
	stamp := []byte{8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	var b []byte
	switch r.R.IntN(13) {
	case 0, 1, 2, 3:
		b = append([]byte{1, 1}, stamp...)
	case 4:
		b = append([]byte{1, 1}, edges(8*(1+r.R.IntN(4)))...)
	case 5: // at an odd offset
		b = append([]byte{1}, edges(8*(1+r.R.IntN(4)))...)
	case 6:
		b = append(append([]byte{}, stamp...), edges(8*(1+r.R.IntN(3)))...)
	case 7:
		b = []byte{2, 4, 5, 180, 4, 2, 3, 3, 7}
	case 9: // a Fast Open cookie, at an even or odd offset
		b = append(pickOne(r, []byte{}, []byte{1}, []byte{1, 1}), 34, 10)
		b = append(b, r.cookie...)
	case 8: // half a block, too long, twice, signed
		b = pickOne(r, edges(12), edges(4), []byte{8, 44}, []byte{8, 1}, append(edges(8), edges(8)...),
			append([]byte{19, 18}, make([]byte, 16)...), append([]byte{29, 16}, make([]byte, 14)...), []byte{8})
	}
	for len(b)%4 != 0 {
		b = append(b, pickOne[byte](r, 1, 1, 0))
	}
	return b[:min(len(b), 40)]
}

func (r *Random) randomUDP(side tables.Side) []byte {
	e := r.pickEnds()
	src, dst := e.Host, e.Peer
	payload := make([]byte, r.R.IntN(30))
	if r.oneIn(6) {
		payload = []byte(tables.Magic + "....")
		dst = netip.AddrPortFrom(dst.Addr(), r.Path.Settings.ControlPort)
	}
	if r.oneIn(10) {
		src, dst = netip.AddrPortFrom(netip.IPv4Unspecified(), 68), netip.MustParseAddrPort("255.255.255.255:67")
	}
	if side == tables.In {
		src, dst = e.Peer, e.Host
		if len(payload) > 4 && r.oneIn(2) {
			dst = netip.AddrPortFrom(dst.Addr(), r.Path.Settings.ControlPort)
		}
	}
	if src.Addr().Is4() != dst.Addr().Is4() {
		src, dst = e.Peer, e.Host
	}
	return UDP(src, dst, payload)
}

// randomICMP makes an error about a segment that went the other way.
func (r *Random) randomICMP(side tables.Side) []byte {
	quoted := r.randomTCP(1 - side)
	quoted.VLAN = nil
	inner := quoted.Frame()[14:]
	if r.oneIn(3) {
		inner = inner[:min(len(inner), 28+r.R.IntN(40))]
	}
	body := binary.BigEndian.AppendUint32(nil, 1400)
	kind := uint8(3)
	if quoted.Src.Addr().Is6() {
		kind = 2
	}
	if r.oneIn(5) {
		kind = 8
	}
	src, dst := quoted.Dst.Addr(), quoted.Src.Addr()
	if src.Is6() && r.oneIn(3) {
		kind = 137
		body = append(body, make([]byte, 32)...)
		if r.oneIn(2) { // a link-layer address before it
			body = append(body, 2, 1, 0, 0, 0, 0, 0, 0)
		}
		inner = inner[:len(inner)/8*8]
		body = append(body, 4, uint8(1+len(inner)/8), 0, 0, 0, 0, 0, 0)
	}
	return ICMP(src, dst, kind, 4, append(body, inner...))
}

func (r *Random) randomNeighbour() []byte {
	target := pickOne(r, r.Hosts[1], r.Hosts[3], r.Peers[1])
	body := append(make([]byte, 4), target.AsSlice()...)
	if r.oneIn(4) { // an advertisement of prefixes
		body = make([]byte, 12)
		for range r.R.IntN(3) {
			option := append([]byte{3, 4, pickOne[uint8](r, 64, 64, 48), 0xc0}, make([]byte, 28)...)
			prefix := pickOne(r, r.Hosts[1], r.Peers[1]).As16()
			copy(option[16:], prefix[:8])
			body = append(append(body, option...), 1, 1, 0, 0, 0, 0, 0, 0)
		}
		return ICMP(pickOne(r, r.Peers[1], r.Hosts[3]), r.Hosts[1], 134, 0, body)
	}
	to := pickOne(r, r.Peers[1], netip.MustParseAddr("ff02::1"))
	return ICMP(pickOne(r, r.Hosts[1], r.Hosts[3], r.Peers[3], netip.IPv6Unspecified()), to, pickOne[uint8](r, 135, 136), 0, body)
}

func (r *Random) damageFrame(frame *[]byte) {
	f := *frame
	for range 1 + r.R.IntN(3) {
		f[12+r.R.IntN(min(len(f)-12, 70))] = byte(r.R.Uint32())
	}
	if r.oneIn(3) {
		f = f[:14+r.R.IntN(len(f)-14)]
	}
	*frame = f
}
