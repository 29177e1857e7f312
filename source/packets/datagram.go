package packets

import (
	"net/netip"
	"slices"

	"dragnet/flow"
	"dragnet/packet"
)

// addUDP adds a datagram.
func (a *Assembler) addUDP(ts flow.Time, p *packet.Packet, bad bool) error {
	t, from := tupleOf(flow.UDP, p.Src, p.Dst, p.SrcPort, p.DstPort, true)
	c := a.findConn(t)
	if c == nil {
		c = a.openConn(ts, t, from, a.config.UDPInactivity)
		if a.isServerPort(flow.UDP, p.SrcPort) && !a.isServerPort(flow.UDP, p.DstPort) && !isBroadcast(p.Dst) {
			c.flipRoles()
		}
		if _, port := c.tuple.endOf(c.origin ^ 1); slices.Contains(a.config.DNSPorts, port) {
			a.setTimer(c, check, a.now+flow.Time(a.config.DNSInactivity))
		}
	}
	s := &c.sides[from]
	if bad {
		c.addScaled(from, 'C', &s.corrupt)
		return ErrChecksum
	}
	c.last = ts
	c.addOnce(from, hadPayload, 'D')
	s.active = true
	s.payload += uint64(p.PayloadLen)
	s.countPacket(p.IPLen)
	return nil
}

func isBroadcast(addr netip.Addr) bool {
	return addr.Is4() && addr.As4() == [4]byte{255, 255, 255, 255}
}

// addICMP adds a message. Requests and replies are one flow; any other message
// is a one-way flow. An error is also attributed to the flow it quotes.
func (a *Assembler) addICMP(ts flow.Time, p *packet.Packet, bad bool) error {
	kind, answer, paired := packet.ICMPPorts(p.Proto, p.ICMPType, p.ICMPCode)
	t, from := tupleOf(p.Proto, p.Src, p.Dst, kind, answer, paired)
	c := a.findConn(t)
	if c == nil {
		c = a.openConn(ts, t, from, a.config.ICMPInactivity)
	}
	if bad {
		return ErrChecksum
	}
	c.last = ts
	s := &c.sides[from]
	s.active = true
	s.payload += uint64(p.PayloadLen)
	if !p.Cut() {
		s.countPacket(p.IPLen)
	}
	a.attributeError(p)
	return nil
}

// attributeError records an ICMP error at the flow it quotes, unless that flow
// cannot have sent the quoted packet (RFC 5927, section 4.1).
func (a *Assembler) attributeError(p *packet.Packet) {
	if !isFailure(p.Proto, p.ICMPType, p.ICMPCode) {
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
	c := a.findConn(t)
	if c == nil || c.icmpError != 0 || q.Proto == flow.TCP && !c.sides[from].tcp.hasSent(q.Seq) {
		return
	}
	c.icmpError = uint16(p.ICMPType)<<8 | uint16(p.ICMPCode)
}

// isFailure reports whether an ICMP error means that the quoted packet did not
// arrive and never will: path MTU discovery, source quench and redirects do
// not.
func isFailure(proto flow.Proto, kind, code uint8) bool {
	if proto == flow.ICMPv6 {
		return kind == 1 || kind == 3 || kind == 4
	}
	return kind == 3 && code != 4 || kind == 11 || kind == 12
}

// addOther adds a packet of a protocol without ports. Its payload length is not
// known.
func (a *Assembler) addOther(ts flow.Time, p *packet.Packet) {
	t, from := tupleOf(p.Proto, p.Src, p.Dst, 0, 0, true)
	c := a.findConn(t)
	if c == nil {
		c = a.openConn(ts, t, from, a.config.OtherInactivity)
	}
	c.last = ts
	c.sides[from].countPacket(p.IPLen)
}
