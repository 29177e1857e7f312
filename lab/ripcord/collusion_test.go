package ripcord_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/packet"
)

// collusion is a host and a machine outside that share all they know, and a recorder: it
// has every packet of a conversation that a third once had with the host, as seen on
// either side. They try to get data to the third, which says nothing any more.
type collusion struct {
	l               *lab
	r               *rand.Rand
	inside, outside *raw
	third, colluder netip.Addr
	view            *tap        // what the host sees
	known           []uint32    // numbers they have seen
	recorded        [2][][]byte // frames of the third's conversation, of the host and of the third
	ports           [2]uint16   // of the host and of the third
	sent            int         // by the host
	seen            int         // of view
}

// TestTwoColludersAndARecorder lets them play some thousands of random moves.
func TestTwoColludersAndARecorder(t *testing.T) {
	t.Parallel()
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			l := newLab(t, false, "")
			l.start()
			const seed = 20
			c := &collusion{l: l, r: rand.New(rand.NewPCG(seed, uint64(i))), inside: l.raw(l.host, l.victim), outside: l.raw(l.victim, l.host),
				third: [2]netip.Addr{netip.MustParseAddr("10.7.0.9"), netip.MustParseAddr("fd07::9")}[i], colluder: victimIPs[i]}
			at := c.record(i)
			c.view = l.tap(l.host, "eth0")
			wire := l.tap(l.gateway, "outside")
			const rounds, moves = 60, 40
			for n := range rounds {
				c.ports = [2]uint16{uint16(20000 + n), uint16(30000 + n)}
				if n%3 == 0 { // those of the recorded conversation
					c.ports = at
				}
				for range moves {
					c.learn()
					if c.r.IntN(3) == 0 {
						c.spoof()
					} else {
						c.send()
					}
				}
			}
			// What was sent has been judged when a last ping is answered: there is one queue.
			l.check(l.ping(l.host, victimIPs[0]))
			time.Sleep(100 * time.Millisecond)
			packets, octets := wire.left(hostIPs[i], c.third)
			t.Logf("of %d segments that the host sent, %d left, with %d octets", c.sent, packets, octets)
			if octets > 0 {
				t.Errorf("%d octets of data reached somebody who took no part", octets)
			}
			if packets == 0 {
				t.Error("not even a SYN left")
			}
		})
	}
}

// record has the third talk to the host once, and takes it off the network.
func (c *collusion) record(i int) (ports [2]uint16) {
	l := c.l
	bits := [2]int{24, 64}[i]
	l.check(l.victim.Address("eth0", netip.PrefixFrom(c.third, bits)))
	view, wire := l.tap(l.host, "eth0"), l.tap(l.gateway, "outside")
	at := netip.AddrPortFrom(hostIPs[i], 80)
	l.listen(l.host, at, func(conn *net.TCPConn) { echo(conn) })
	conn := l.mustDial(l.victim, netip.AddrPortFrom(c.third, 0), at)
	ports = [2]uint16{80, uint16(conn.LocalAddr().(*net.TCPAddr).Port)}
	l.check(ask(conn, 300))
	conn.Close()
	l.until("the conversation has ended", func() bool {
		fins := 0
		for _, p := range wire.packets() {
			if p.Flags&flow.FIN != 0 {
				fins++
			}
		}
		return fins >= 2
	})
	time.Sleep(50 * time.Millisecond) // the last acknowledgement
	for _, p := range append(view.packets(), wire.packets()...) {
		side := 0
		if p.Src == c.third {
			side = 1
		}
		if p.Proto == flow.TCP {
			c.recorded[side] = append(c.recorded[side], rebuild(&p))
			c.known = append(c.known, p.Seq, p.Ack)
		}
	}
	_, err := l.victim.Run(l.t.Context(), "ip", "address", "del", netip.PrefixFrom(c.third, bits).String(), "dev", "eth0")
	l.check(err)
	l.silent(l.host, c.third)
	return ports
}

// rebuild makes a recorded segment again.
func rebuild(p *packet.Packet) []byte {
	return pathtest.Segment{Src: netip.AddrPortFrom(p.Src, p.SrcPort), Dst: netip.AddrPortFrom(p.Dst, p.DstPort), Seq: p.Seq, Ack: p.Ack,
		Flags: uint8(p.Flags) & 0x17, Payload: p.Payload}.Frame()
}

// learn takes in what the host has seen since.
func (c *collusion) learn() {
	all := c.view.packets()
	for _, p := range all[c.seen:] {
		if p.Proto == flow.TCP {
			c.known = append(c.known, p.Seq, p.Ack)
		}
	}
	c.seen = len(all)
}

// number is one they may choose: seen, near one, or any.
func (c *collusion) number() uint32 {
	if len(c.known) == 0 || c.r.IntN(8) == 0 {
		return c.r.Uint32()
	}
	// What was seen last is of most use.
	n := c.known[max(0, len(c.known)-1-c.r.IntN(12))]
	return n + uint32(c.r.IntN(5)) - 1
}

// segment is any: flags, data, options.
func (c *collusion) segment(from, to netip.AddrPort) pathtest.Segment {
	flags := []uint8{pathtest.SYN, pathtest.SYN | pathtest.ACK, pathtest.ACK, pathtest.ACK, pathtest.FIN | pathtest.ACK, pathtest.RST, pathtest.RST | pathtest.ACK}
	s := pathtest.Segment{Src: from, Dst: to, Seq: c.number(), Ack: c.number(), Flags: flags[c.r.IntN(len(flags))]}
	if c.r.IntN(2) == 0 {
		s.Payload = make([]byte, 1+c.r.IntN(1000))
	}
	switch c.r.IntN(6) {
	case 0: // a Fast Open cookie on which they agreed
		s.Options = append([]byte{1, 1, 34, 10}, "COOKIE!!"...)
	case 1:
		s.Options = []byte{2, 4, 5, 180}
	case 2:
		s.Options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 5, 10}, c.number()), c.number())
	}
	if from.Addr().Is6() && c.r.IntN(4) == 0 {
		s.Extensions, s.FirstNext = []byte{6, 0, 1, 4, 0, 0, 0, 0}, 60 // destination options: padding
	}
	return s
}

// send sends something from the host to the third.
func (c *collusion) send() {
	c.sent++
	if c.r.IntN(4) == 0 {
		c.inside.send(append([]byte(nil), c.recorded[0][c.r.IntN(len(c.recorded[0]))]...))
		return
	}
	from, to := netip.AddrPortFrom(c.inside.addr(c.third), c.ports[0]), netip.AddrPortFrom(c.third, c.ports[1])
	s := c.segment(from, to)
	c.known = append(c.known, s.Seq)
	c.inside.send(s.Frame())
}

// spoof sends something to the host in the name of the third: a segment, a recorded one,
// or an ICMP error about one of the host's.
func (c *collusion) spoof() {
	switch c.r.IntN(5) {
	case 0:
		c.outside.send(append([]byte(nil), c.recorded[1][c.r.IntN(len(c.recorded[1]))]...))
	case 1:
		host := netip.AddrPortFrom(c.inside.addr(c.third), c.ports[0])
		quoted := c.segment(host, netip.AddrPortFrom(c.third, c.ports[1])).Frame()[14:]
		kind := uint8(11)
		if c.third.Is6() {
			kind = 3
		}
		c.outside.send(pathtest.ICMP(c.colluder, host.Addr(), kind, 0, append(make([]byte, 4), quoted...)))
	default:
		c.outside.send(c.segment(netip.AddrPortFrom(c.third, c.ports[1]), netip.AddrPortFrom(c.inside.addr(c.third), c.ports[0])).Frame())
	}
}

// addr is the host's address of the family of another.
func (r *raw) addr(like netip.Addr) netip.Addr {
	if like.Is6() {
		return hostIPs[1]
	}
	return hostIPs[0]
}
