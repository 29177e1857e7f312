package ripcord_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/internal/netlab"
)

// left counts the host's packets to a peer that left the gateway, and their
// octets of payload.
func (c *tap) left(host, peer netip.Addr) (packets, octets int) {
	for _, p := range c.packets() {
		if p.Src == host && p.Dst == peer && p.Proto == flow.TCP {
			packets++
			octets += p.PayloadLen
		}
	}
	return packets, octets
}

// TestOffPathResetsDuringDownload sends RSTs with random numbers into a
// connection that carries data as fast as it can. Every acknowledgement of the
// last seconds used to be taken.
func TestOffPathResetsDuringDownload(t *testing.T) {
	t.Parallel()
	l := newLab(t, true, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, func(c *net.TCPConn) {
		defer c.Close()
		for b := make([]byte, 1<<16); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	var got atomic.Int64
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := c.Read(b)
			got.Add(int64(n))
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	l.until("a window's worth has come", func() bool { return got.Load() > 64<<20 })
	raw := l.raw(l.victim, l.host)
	from := c.LocalAddr().(*net.TCPAddr).AddrPort()
	const tries = 5000
	r := rand.New(rand.NewPCG(1, 1))
	for n := range tries {
		flags := uint8(pathtest.RST)
		if n%2 == 0 {
			flags |= pathtest.ACK
		}
		raw.send(pathtest.Segment{Src: at, Dst: from, Seq: r.Uint32(), Ack: r.Uint32(), Flags: flags}.Frame())
	}
	l.until("all were judged", func() bool { return l.counter("inexact-reset")+l.counter("block")+l.counter("challenge") >= tries })
	before := got.Load()
	l.until("the download goes on", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the download ended: %v; %d of %d forged RSTs were taken", err, l.counter("block"), tries)
		default:
		}
		return got.Load() > before+16<<20
	})
	if n := l.counter("block"); n != 0 {
		t.Errorf("%d of %d forged RSTs were taken", n, tries)
	}
}

// TestInexactResetIsChallenged sends a RST that is not exact for a connection
// which the victim has, and for one that it has no more. The gateway asks the
// victim's kernel, whose answer is exact, and the host need not send anything.
func TestInexactResetIsChallenged(t *testing.T) {
	t.Parallel()
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			l := newLab(t, true, "")
			l.start()
			at := netip.AddrPortFrom(victimIPs[i], 80)
			accepted := make(chan *net.TCPConn, 1)
			l.listen(l.victim, at, func(c *net.TCPConn) { accepted <- c })
			c := l.mustDial(l.host, netip.AddrPort{}, at)
			victim := <-accepted
			from := c.LocalAddr().(*net.TCPAddr).AddrPort()
			raw := l.raw(l.victim, l.host)
			// The connection lives: its end answers the challenge with an
			// acknowledgement.
			raw.send(pathtest.Segment{Src: at, Dst: from, Seq: 1, Flags: pathtest.RST}.Frame())
			l.until("the RST was challenged", func() bool { return l.counter("challenge") == 1 })
			go echo(victim)
			l.check(ask(c, 50_000))
			if n := l.counter("block"); n != 0 {
				t.Fatal("a forged RST ended a connection")
			}
			c.Close()

			c = l.mustDial(l.host, netip.AddrPort{}, at)
			l.check(vanish(<-accepted))
			raw.send(pathtest.Segment{Src: at, Dst: c.LocalAddr().(*net.TCPAddr).AddrPort(), Seq: 1, Flags: pathtest.RST}.Frame())
			l.until("the answer to the challenge ended the connection", func() bool { return l.counter("block") == 1 })
		})
	}
}

// TestColludersReachNobody has a host and a machine outside, which agree on
// everything, try to make the gateway believe that a third takes part.
func TestColludersReachNobody(t *testing.T) {
	t.Parallel()
	third := netip.MustParseAddr("10.7.0.9")
	at := netip.AddrPortFrom(hostIPs[0], 80)
	options := []byte{2, 4, 5, 180}
	for name, c := range map[string]struct {
		syn, answer, flood int // octets of payload
		cookie             bool
	}{
		"early data":              {syn: 1, flood: 1400},
		"early data and a cookie": {syn: 1, flood: 1400, cookie: true},
		"data with the SYN|ACK":   {answer: 1400},
		"SYN|ACKs":                {},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, false, "")
			l.start()
			l.check(l.ping(l.victim, hostIPs[0])) // its address is learnt
			outside := l.raw(l.victim, l.host)
			inside := l.raw(l.host, l.victim)
			wire := l.tap(l.gateway, "outside")
			from := netip.AddrPortFrom(third, 4000)
			syn := pathtest.Segment{Src: from, Dst: at, Seq: 9000, Flags: pathtest.SYN, Options: options, Payload: make([]byte, c.syn)}
			synAck := pathtest.Segment{Src: at, Dst: from, Seq: 1000, Flags: pathtest.SYN | pathtest.ACK, Options: options, Payload: make([]byte, c.answer)}
			if c.cookie {
				// The host grants a cookie of which its friend knows.
				cookie := append([]byte{1, 1, 34, 10}, "COOKIE!!"...)
				syn.Options, synAck.Options = append(syn.Options, cookie...), append(synAck.Options, cookie...)
			}
			inner := l.tap(l.host, "eth0")
			rounds := 1
			if c.cookie {
				rounds = 2
			}
			for round := range rounds {
				from = netip.AddrPortFrom(third, uint16(4000+round))
				syn.Src, synAck.Dst = from, from
				outside.send(syn.Frame())
				var shifted uint32
				l.until("the host gets the SYN", func() bool {
					for _, p := range inner.packets() {
						if p.SrcPort == from.Port() && p.Src == third {
							shifted = p.Seq
							return true
						}
					}
					return false
				})
				synAck.Ack = shifted + 1 + uint32(c.syn)
				for range 200 {
					inside.send(synAck.Frame())
				}
				if c.flood > 0 {
					for n := range 2000 {
						inside.send(pathtest.Segment{Src: at, Dst: from, Seq: 1001 + uint32(n*c.flood), Ack: synAck.Ack, Flags: pathtest.ACK, Payload: make([]byte, c.flood)}.Frame())
					}
				}
			}
			want := uint64(rounds * 200)
			if c.flood > 0 {
				want += uint64(rounds * 2000)
			}
			l.until("all were judged", func() bool {
				packets, _ := wire.left(hostIPs[0], third)
				return l.counter("handshake")+uint64(packets) >= want
			})
			packets, octets := wire.left(hostIPs[0], third)
			t.Logf("%d packets with %d octets left for somebody who took no part", packets, octets)
			if packets > 6*rounds || octets != 0 {
				t.Errorf("%d packets with %d octets left for somebody who took no part, want a few empty SYN|ACKs", packets, octets)
			}
		})
	}
}

// TestSpoofedSYNRevivesNothing has a colluder begin again what a peer ended.
func TestSpoofedSYNRevivesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 80)
	accepted := make(chan *net.TCPConn, 1)
	l.listen(l.victim, at, func(c *net.TCPConn) { accepted <- c })
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	l.check(abort(<-accepted))
	l.until("the connection is ended", func() bool { return l.counter("block") == 1 })
	from := c.LocalAddr().(*net.TCPAddr).AddrPort()
	opened := l.counter("opened")
	l.raw(l.victim, l.host).send(pathtest.Segment{Src: at, Dst: from, Seq: 77, Flags: pathtest.SYN}.Frame())
	l.until("the SYN was judged", func() bool { return l.counter("opened") > opened })
	raw := l.raw(l.host, l.victim)
	wire := l.tap(l.gateway, "outside")
	for n := range uint32(50) {
		raw.send(pathtest.Segment{Src: from, Dst: at, Seq: n << 16, Flags: pathtest.SYN}.Frame())
	}
	l.until("the host's SYNs were judged", func() bool {
		packets, _ := wire.left(hostIPs[0], victimIPs[0])
		return l.counter("blocked")+uint64(packets) >= 50
	})
	for _, p := range wire.packets() {
		if p.Src == hostIPs[0] && p.Flags&(flow.SYN|flow.ACK) == flow.SYN {
			t.Fatal("a SYN left although the peer had ended the conversation")
		}
	}
}

// ping sends one echo request.
func (l *lab) ping(n *netlab.Node, to netip.Addr) error {
	return n.Do(func() error {
		c, err := net.Dial("ip:icmp", to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		b := []byte{8, 0, 0, 0, 0, 1, 0, 1}
		binary.BigEndian.PutUint16(b[2:], 0xf7fd)
		if _, err := c.Write(b); err != nil {
			return err
		}
		_, err = io.ReadAtLeast(c, make([]byte, 128), 1)
		return err
	})
}
