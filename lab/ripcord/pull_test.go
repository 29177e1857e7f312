package ripcord_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/internal/cli"
)

// pull runs the victim's command and reads what it says.
func (l *lab) pull(args ...string) (out struct {
	Status  string
	Seconds int
	Obeyed  *bool
	Packets int
}, err error) {
	b, err := l.victim.Command(l.t.Context(), agent, append([]string{"ripcord", "pull", "-o", "json"}, args...)...).Output()
	if len(b) > 0 {
		rows, err := cli.ReadItems[json.RawMessage](bytes.NewReader(b))
		l.check(err)
		l.check(json.Unmarshal(rows[0], &out))
	}
	return out, err
}

// stream sends UDP from the host without a pause until the test ends.
func (l *lab) stream(from, to netip.AddrPort) {
	l.t.Helper()
	var c *net.UDPConn
	l.check(l.host.Do(func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		return err
	}))
	done := make(chan struct{})
	l.t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			if _, err := c.Write([]byte("flood")); err != nil && strings.Contains(err.Error(), "closed") {
				return // refusals by ICMP are ignored, as a flooder does
			}
			if n%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
}

// TestPullEndsUDPFlood ends a flood that has no RST, by the protocol.
func TestPullEndsUDPFlood(t *testing.T) {
	t.Parallel()
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			l := newLab(t, false, "")
			l.start()
			other := netip.AddrPortFrom(victimIPs[i], 7)
			l.listen(l.victim, other, echo)
			bystander := l.mustDial(l.host, netip.AddrPort{}, other)
			to, kept := netip.AddrPortFrom(victimIPs[i], 666), netip.AddrPortFrom(victimIPs[i], 53)
			l.stream(netip.AddrPortFrom(hostIPs[i], 5000), to)
			l.stream(netip.AddrPortFrom(hostIPs[i], 5001), kept)
			wire := l.tap(l.gateway, "outside")
			got := func(port uint16) (n int) {
				for _, p := range wire.packets() {
					if p.Src == hostIPs[i] && p.Proto == flow.UDP && p.DstPort == port {
						n++
					}
				}
				return n
			}
			l.until("the flood comes", func() bool { return got(666) > 100 && got(53) > 100 })
			out, err := l.pull(hostIPs[i].String(), "--proto", "udp", "--port", "666", "--for", "1m", "--watch", "500ms")
			if err != nil || out.Status != "done" || out.Seconds != 60 || out.Obeyed == nil || !*out.Obeyed {
				t.Fatalf("pull: %+v, %v", out, err)
			}
			flooded, going := got(666), got(53)
			l.until("other traffic goes on", func() bool { return got(53) > going+100 })
			if now := got(666); now != flooded {
				t.Errorf("%d packets more left for the port that was pulled", now-flooded)
			}
			l.check(ask(bystander, 10_000))
			if !strings.Contains(l.receipts(), "pulled") {
				t.Error("the record does not tell of it: ", l.receipts())
			}

			if _, err := l.pull(hostIPs[i].String(), "--proto", "udp", "--port", "999", "--watch", "0s"); err == nil {
				t.Error("a conversation was ended that the host does not take part in")
			}
			// A restart forgets no block.
			l.check(l.agent.Stop())
			l.start()
			time.Sleep(200 * time.Millisecond)
			if now := got(666); now != flooded {
				t.Errorf("%d packets left after the restart", now-flooded)
			}
		})
	}
}

// TestPullForAPrefix has a victim that owns a whole prefix end what is sent to
// all of it, and one that owns a single address of it fail.
func TestPullForAPrefix(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	own := netip.MustParsePrefix("10.8.0.0/24")
	l.check(l.host.RouteOn(own, "eth0"))
	run := func(args ...string) {
		t.Helper()
		_, err := l.victim.Run(t.Context(), args[0], args[1:]...)
		l.check(err)
	}
	l.check(l.victim.Sysctl("net.ipv4.conf.all.proxy_arp", "1"))
	run("ip", "addr", "add", "10.8.0.77/32", "dev", "eth0")
	l.stream(netip.AddrPortFrom(hostIPs[0], 5000), netip.MustParseAddrPort("10.8.0.77:666"))
	wire := l.tap(l.gateway, "outside")
	got := func() (n int) {
		for _, p := range wire.packets() {
			if p.Proto == flow.UDP && p.DstPort == 666 {
				n++
			}
		}
		return n
	}
	l.until("the flood comes", func() bool { return got() > 100 })
	args := []string{hostIPs[0].String(), "--to", own.String(), "--proto", "udp", "--watch", "0s", "--timeout", "5s"}
	if out, err := l.pull(args...); err == nil {
		t.Fatalf("one address spoke for the prefix: %+v", out)
	}
	before := got()
	l.until("the flood goes on", func() bool { return got() > before+100 })
	run("ip", "route", "add", "local", own.String(), "dev", "lo")
	if out, err := l.pull(args...); err != nil || out.Status != "done" {
		t.Fatalf("pull: %+v, %v", out, err)
	}
	before = got()
	time.Sleep(200 * time.Millisecond)
	if now := got(); now != before {
		t.Errorf("%d packets left after the pull", now-before)
	}
}

// TestPullByReset sends the RST that the victim's kernel does not, since its
// firewall drops what comes in.
func TestPullByReset(t *testing.T) {
	t.Parallel()
	needs(t, "nft")
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 80)
	accepted := make(chan *net.TCPConn, 1)
	l.listen(l.victim, at, func(c *net.TCPConn) { accepted <- c })
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	l.check(vanish(<-accepted))
	_, err := l.victim.Run(t.Context(), "nft", "add table ip f; add chain ip f in { type filter hook input priority 0; }; add rule ip f in tcp dport 80 drop")
	l.check(err)
	go func() {
		for range 200 {
			c.Write([]byte("flood"))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	out, err := l.pull(hostIPs[0].String(), "--reset", "--port", "80", "--watch", "1s")
	if err != nil || out.Obeyed == nil || !*out.Obeyed {
		t.Errorf("pull: %+v, %v", out, err)
	}
	if l.counter("block") == 0 {
		t.Error("nothing was blocked")
	}
}

// TestSYNFloodIsBlockedCoarsely floods a closed port from ever new ports; the
// victim's RSTs raise a block of new connections to it, and only to it.
func TestSYNFloodIsBlockedCoarsely(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	bystander := l.mustDial(l.host, netip.AddrPort{}, at)
	raw := l.raw(l.host, l.victim)
	wire := l.tap(l.gateway, "outside")
	for n := range 1000 {
		raw.send(pathtest.Segment{Src: netip.AddrPortFrom(hostIPs[0], uint16(20000+n)), Dst: netip.AddrPortFrom(victimIPs[0], 25),
			Seq: uint32(n) << 20, Flags: pathtest.SYN, Options: []byte{2, 4, 5, 180}}.Frame())
	}
	l.until("the gateway has judged all of them", func() bool { return l.counter("opened")+l.counter("stopped") >= 1000 })
	left := 0
	for _, p := range wire.packets() {
		if p.Src == hostIPs[0] && p.DstPort == 25 {
			left++
		}
	}
	t.Logf("%d of 1000 SYNs left", left)
	if left < 8 || left > 16 || l.counter("coarse-block") == 0 {
		t.Errorf("%d SYNs left, want 8 and those on their way; coarse blocks: %d", left, l.counter("coarse-block"))
	}
	l.check(ask(bystander, 1000))
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
}

// TestSpoofedSourcesStay lets the host send from addresses that are not its
// own.
func TestSpoofedSourcesStay(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "addresses: [10.7.0.1, \"fd07::1\"]\nlearn: {ipv4: 0, ipv6: 2}\n")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	raw := l.raw(l.host, l.victim)
	wire := l.tap(l.gateway, "outside")
	v6 := 0
	for n := range 50 {
		from := netip.AddrFrom4([4]byte{198, 51, 100, byte(n + 1)})
		raw.send(pathtest.UDP(netip.AddrPortFrom(from, 1), netip.AddrPortFrom(victimIPs[0], 9), []byte("x")))
		raw.send(pathtest.ARP(from, victimIPs[0]))
		a := hostIPs[1].As16()
		a[15] = byte(n + 10)
		raw.send(pathtest.UDP(netip.AddrPortFrom(netip.AddrFrom16(a), 1), netip.AddrPortFrom(victimIPs[1], 9), []byte("x")))
		v6++
	}
	l.until("all were judged", func() bool { return l.counter("spoofed") >= 50+50+uint64(v6)-2 })
	for _, p := range wire.packets() {
		if p.Src.Is4() && p.Src.As4()[0] == 198 {
			t.Fatalf("a packet from %v left", p.Src)
		}
	}
	if n := l.counter("learnt"); n > 2 {
		t.Errorf("%d addresses were learnt, more than allowed", n)
	}
}

// TestOffPathForger sends RSTs with random numbers from the victim's side, by
// somebody who knows the addresses and ports of a connection but sees nothing.
func TestOffPathForger(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	l.check(ask(c, 1000))
	raw := l.raw(l.victim, l.host)
	from := c.LocalAddr().(*net.TCPAddr).AddrPort()
	const tries = 20_000
	for n := range uint32(tries) {
		flags := uint8(pathtest.RST)
		if n%2 == 0 {
			flags |= pathtest.ACK
		}
		raw.send(pathtest.Segment{Src: at, Dst: from, Seq: n * 2654435761, Ack: n * 2246822519, Flags: flags}.Frame())
	}
	l.until("all were judged", func() bool { return l.counter("inexact-reset")+l.counter("challenge")+l.counter("block") >= tries })
	// Two numbers of 2^32 are taken: 10^-5 forged RSTs would be expected among
	// these.
	if n := l.counter("block"); n != 0 {
		t.Errorf("%d of %d forged RSTs were taken", n, tries)
	}
	l.check(ask(c, 100_000))
}
