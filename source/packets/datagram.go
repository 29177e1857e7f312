package packets

import (
	"net/netip"
	"slices"

	"dragnet/flow"
	"dragnet/packet"
)

// udp takes in a datagram.
func (a *Assembler) udp(ts flow.Time, p *packet.Packet, bad bool) error {
	t, from := tupleOf(flow.UDP, p.Src, p.Dst, p.SrcPort, p.DstPort, true)
	c := a.find(t)
	if c == nil {
		c = a.open(ts, t, from, a.config.UDPInactivity)
		if a.serves(flow.UDP, p.SrcPort) && !a.serves(flow.UDP, p.DstPort) && !broadcast(p.Dst) {
			c.flip()
		}
		if _, port := c.tuple.end(c.origin ^ 1); slices.Contains(a.config.DNSPorts, port) {
			a.set(c, check, a.now+flow.Time(a.config.DNSInactivity))
		}
	}
	s := &c.sides[from]
	if bad {
		c.scaled(from, 'C', &s.corrupt)
		return ErrChecksum
	}
	c.last = ts
	c.once(from, hadPayload, 'D')
	s.active = true
	s.payload += uint64(p.PayloadLen)
	s.count(p.IPLen)
	return nil
}

func broadcast(addr netip.Addr) bool {
	return addr.Is4() && addr.As4() == [4]byte{255, 255, 255, 255}
}

// icmp takes in a message. Requests and replies are one flow; any other
// message is a flow of its own kind in one direction. An error is attributed
// to the flow it quotes as well.
func (a *Assembler) icmp(ts flow.Time, p *packet.Packet, bad bool) error {
	kind, answer, paired := packet.ICMPPorts(p.Proto, p.ICMPType, p.ICMPCode)
	t, from := tupleOf(p.Proto, p.Src, p.Dst, kind, answer, paired)
	c := a.find(t)
	if c == nil {
		c = a.open(ts, t, from, a.config.ICMPInactivity)
	}
	if bad {
		return ErrChecksum
	}
	c.last = ts
	s := &c.sides[from]
	s.active = true
	s.payload += uint64(p.PayloadLen)
	if !p.Cut() {
		s.count(p.IPLen)
	}
	a.attribute(p)
	return nil
}

// attribute notes an ICMP error at the flow it is about, unless that flow
// cannot have sent what is quoted (RFC 5927, section 4.1).
func (a *Assembler) attribute(p *packet.Packet) {
	if !failure(p.Proto, p.ICMPType, p.ICMPCode) {
		return
	}
	q, ok := p.Quoted()
	if !ok {
		return
	}
	paired := true
	if q.Proto == flow.ICMP || q.Proto == flow.ICMPv6 {
		_, _, paired = packet.ICMPPorts(q.Proto, uint8(q.SrcPort), 0)
	}
	t, from := tupleOf(q.Proto, q.Src, q.Dst, q.SrcPort, q.DstPort, paired)
	c := a.find(t)
	if c == nil || c.icmpError != 0 || q.Proto == flow.TCP && !c.sides[from].tcp.sent(q.Seq) {
		return
	}
	c.icmpError = uint16(p.ICMPType)<<8 | uint16(p.ICMPCode)
}

// failure reports whether an ICMP error means that the quoted packet did not
// arrive and never will: path MTU discovery, source quench and redirects do
// not.
func failure(proto flow.Proto, kind, code uint8) bool {
	if proto == flow.ICMPv6 {
		return kind == 1 || kind == 3 || kind == 4
	}
	return kind == 3 && code != 4 || kind == 11 || kind == 12
}

// other takes in a packet of a protocol without ports. What counts as payload
// is not known for it.
func (a *Assembler) other(ts flow.Time, p *packet.Packet) {
	t, from := tupleOf(p.Proto, p.Src, p.Dst, 0, 0, true)
	c := a.find(t)
	if c == nil {
		c = a.open(ts, t, from, a.config.OtherInactivity)
	}
	c.last = ts
	c.sides[from].count(p.IPLen)
}
