package ripcord_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dragnet/contain/ripcord/message"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/internal/netlab"
)

// silent makes a node send to an address although no node answers for it.
func (l *lab) silent(n *netlab.Node, a netip.Addr) {
	l.t.Helper()
	_, err := n.Run(l.t.Context(), "ip", "neigh", "replace", a.String(), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
	l.check(err)
}

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
				// The host grants a cookie that the machine outside knows.
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
	// The host may ask for a connection again, as to a peer that was restarted, but has
	// none until the peer agrees.
	judged := func() uint64 { return l.counter("blocked") + l.counter("handshake") + l.counter("ack-range") }
	before := judged()
	for n := range uint32(50) {
		raw.send(pathtest.Segment{Src: from, Dst: at, Seq: n << 16, Ack: 78, Flags: pathtest.ACK, Payload: []byte("flood")}.Frame())
	}
	l.until("the host's segments were judged", func() bool {
		packets, _ := wire.left(hostIPs[0], victimIPs[0])
		return judged()-before+uint64(packets) >= 50
	})
	for _, p := range wire.packets() {
		if p.Src == hostIPs[0] && p.PayloadLen > 0 {
			t.Fatal("data left although the peer had ended the conversation")
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

// TestChallengeLeavesByTheHostsNextHop has a neighbour on the segment ask in the
// name of a victim: the nonce must not go to the asker.
func TestChallengeLeavesByTheHostsNextHop(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	third := netip.MustParseAddr("10.7.0.9")
	l.silent(l.host, third)
	l.stream(netip.AddrPortFrom(hostIPs[0], 5000), netip.AddrPortFrom(third, 666))
	wire := l.tap(l.gateway, "outside")
	raw := l.raw(l.victim, l.host)
	ask := message.Message{Kind: message.Ask, Proto: 17, PPort: 666, Peer: netip.PrefixFrom(third, 32), Seconds: 60}
	challenged := 0
	l.until("the gateway challenges", func() bool {
		ask.ID[0]++
		raw.send(pathtest.UDP(netip.AddrPortFrom(third, 4000), netip.AddrPortFrom(hostIPs[0], 4817), ask.Append(nil)))
		seen := wire.packets()
		wire.mu.Lock()
		defer wire.mu.Unlock()
		for i, p := range seen {
			if p.SrcPort != 4817 || p.DstPort != 4000 {
				continue
			}
			challenged++
			if want := [6]byte{2, 0, 0, 0, 0, 0x99}; wire.to[i] != want {
				t.Fatalf("a challenge left to %x, want the host's next hop %x", wire.to[i], want)
			}
		}
		return challenged > 0
	})
}

// TestGatewaySpeaksForItsHostOnly sends requests to addresses that are not the
// host's.
func TestGatewaySpeaksForItsHostOnly(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	l.stream(netip.AddrPortFrom(hostIPs[0], 5000), netip.AddrPortFrom(victimIPs[0], 666))
	l.stream(netip.AddrPortFrom(hostIPs[1], 5000), netip.AddrPortFrom(victimIPs[1], 666))
	wire := l.tap(l.gateway, "outside")
	raw := l.raw(l.victim, l.host)
	ask := message.Message{Kind: message.Ask, Proto: 17, PPort: 666, Seconds: 60}
	l.until("the gateway answers for its host", func() bool {
		for _, to := range []string{"255.255.255.255", "198.51.100.77", "ff02::1", "fd07::77", "10.7.0.1", "fd07::1"} {
			dst := netip.MustParseAddr(to)
			i := 0
			if dst.Is6() {
				i = 1
			}
			ask.Peer = netip.PrefixFrom(victimIPs[i], victimIPs[i].BitLen())
			raw.send(pathtest.UDP(netip.AddrPortFrom(victimIPs[i], 4000), netip.AddrPortFrom(dst, 4817), ask.Append(nil)))
		}
		answers := 0
		for _, p := range wire.packets() {
			if p.SrcPort != 4817 {
				continue
			}
			answers++
			if p.Src != hostIPs[0] && p.Src != hostIPs[1] {
				t.Fatalf("the gateway spoke as %v", p.Src)
			}
		}
		return answers >= 10
	})
}

// TestIPv6SourcesOfTheLink lets the host send from IPv6 addresses that no node
// advertised, and claim those of its neighbours.
func TestIPv6SourcesOfTheLink(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[1], 7)
	l.listen(l.victim, at, echo)
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000)) // each has asked for the other
	raw := l.raw(l.host, l.victim)
	wire := l.tap(l.gateway, "outside")
	spoofed := l.counter("spoofed")
	sent := uint64(0)
	for n := range 20 {
		a := netip.MustParseAddr("2600::bad").As16()
		a[3] = byte(n)
		raw.send(pathtest.UDP(netip.AddrPortFrom(netip.AddrFrom16(a), 1), netip.AddrPortFrom(victimIPs[1], 9), []byte("x")))
		sent++
	}
	claim := append([]byte{0x60, 0, 0, 0}, victimIPs[1].AsSlice()...)
	router := netip.MustParseAddr("fe80::1234")
	rogue := append([]byte{0xe0, 0, 0, 0}, router.AsSlice()...)
	all := netip.MustParseAddr("ff02::1")
	for range 5 {
		raw.send(pathtest.ICMP(hostIPs[1], all, 136, 0, claim))
		raw.send(pathtest.ICMP(hostIPs[1], all, 136, 0, rogue))
		raw.send(pathtest.ICMP(victimIPs[1], all, 136, 0, claim))
		raw.send(pathtest.UDP(netip.AddrPortFrom(victimIPs[1], 1), netip.AddrPortFrom(victimIPs[1], 9), []byte("x")))
		sent += 4
	}
	l.until("all were judged", func() bool { return l.counter("spoofed") >= spoofed+sent })
	for _, p := range wire.packets() {
		if p.Src.Is6() && p.Src.As16()[0] == 0x26 || p.Proto == flow.UDP && p.Src == victimIPs[1] {
			t.Fatalf("a packet from %v left", p.Src)
		}
	}
	if n := l.counter("spoofed") - spoofed; n != sent {
		t.Errorf("%d packets were dropped as spoofed, want %d", n, sent)
	}
}

// TestSYNFloodOverPorts floods a victim's closed ports, each once.
func TestSYNFloodOverPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	l.check(l.ping(l.host, victimIPs[0]))
	raw := l.raw(l.host, l.victim)
	wire := l.tap(l.gateway, "outside")
	const sent = 20_000
	for n := range sent {
		raw.send(pathtest.Segment{Src: netip.AddrPortFrom(hostIPs[0], uint16(10000+n%40000)), Dst: netip.AddrPortFrom(victimIPs[0], uint16(1000+n)),
			Seq: uint32(n) << 16, Flags: pathtest.SYN}.Frame())
	}
	l.until("all were judged", func() bool { return l.counter("opened")+l.counter("stopped") >= sent })
	left, _ := wire.left(hostIPs[0], victimIPs[0])
	t.Logf("%d of %d SYNs left", left, sent)
	if left > sent/20 || l.counter("coarse-block") == 0 {
		t.Errorf("%d of %d SYNs left, %d coarse blocks", left, sent, l.counter("coarse-block"))
	}
}

// TestPullsUnderJunk pulls while somebody sends what looks like requests, and
// renews a stop that is in force.
func TestPullsUnderJunk(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "pull: {active: 1s}\n")
	l.start()
	l.stream(netip.AddrPortFrom(hostIPs[0], 5000), netip.AddrPortFrom(victimIPs[0], 666))
	raw := l.raw(l.victim, l.host)
	done := make(chan struct{})
	var junk sync.WaitGroup
	t.Cleanup(func() { close(done); junk.Wait() })
	junk.Go(func() {
		at := netip.AddrPortFrom(hostIPs[0], 4817)
		ask := message.Message{Kind: message.Ask, Proto: 17, Seconds: 60}
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			raw.send(pathtest.UDP(netip.MustParseAddrPort("198.51.100.1:9"), at, append([]byte("RIPC"), make([]byte, 36)...)))
			ask.Peer = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 32)
			raw.send(pathtest.UDP(netip.AddrPortFrom(ask.Peer.Addr(), 9), at, ask.Append(nil)))
			time.Sleep(time.Millisecond)
		}
	})
	for n := range 5 {
		out, err := l.pull(hostIPs[0].String(), "--proto", "udp", "--port", "666", "--for", "1m", "--watch", "0s")
		if err != nil || out.Status != "done" || out.Seconds < 55 {
			t.Errorf("pull %d: %+v, %v", n, out, err)
		}
		time.Sleep(1200 * time.Millisecond) // longer than active: the host goes on, and nothing leaves
	}
}

// TestSpoofedSYNsRefuseNobody floods the host with SYNs from addresses that are
// silent, to a closed and an open port, more than the table has room for.
func TestSpoofedSYNsRefuseNobody(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "connections: {ipv4: 512, ipv6: 512}\n")
	l.start()
	there, here := netip.AddrPortFrom(victimIPs[0], 7), netip.AddrPortFrom(hostIPs[0], 7)
	l.listen(l.victim, there, echo)
	l.listen(l.host, here, echo)
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, there), 1000))
	raw := l.raw(l.victim, l.host)
	const sent = 5000
	for n := range sent {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 4000)
		port := uint16(7 + n%2)
		raw.send(pathtest.Segment{Src: from, Dst: netip.AddrPortFrom(hostIPs[0], port), Seq: uint32(n) << 16, Flags: pathtest.SYN, Options: []byte{2, 4, 5, 180}}.Frame())
	}
	l.until("all were judged", func() bool { return l.counter("opened")+l.counter("table-full") >= sent })
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, there), 1000))
	l.check(ask(l.mustDial(l.victim, netip.AddrPort{}, here), 1000))
	if n := l.counter("table-full"); n != 0 {
		t.Errorf("%d connections were refused", n)
	}
}

// TestManyClosedConnections opens and closes more connections than the table has
// room for, within the time that closed ones are remembered.
func TestManyClosedConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "connections: {ipv4: 128, ipv6: 128}\n")
	l.start()
	here := netip.AddrPortFrom(hostIPs[0], 7)
	l.listen(l.host, here, echo)
	for n := range 400 {
		c, err := l.dial(l.victim, netip.AddrPort{}, here)
		if err != nil {
			t.Fatalf("connection %d: %v; %d refused", n, err, l.counter("table-full"))
		}
		if err := ask(c, 100); err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		c.Close()
		time.Sleep(20 * time.Millisecond)
	}
}
