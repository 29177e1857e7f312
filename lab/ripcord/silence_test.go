package ripcord_test

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/packet"
)

// TestVictimSilencesHost is what the gateway is for. A compromised host floods
// over a connection that the victim no longer has. It ignores RSTs, since its
// packets are made by hand, and varies its acknowledgement. The victim has no
// special software: its kernel answers with an ordinary RST.
func TestVictimSilencesHost(t *testing.T) {
	t.Parallel()
	for i, family := range []string{"IPv4", "IPv6"} {
		for how, end := range map[string]func(*net.TCPConn) error{"gone": vanish, "aborted": abort} {
			t.Run(family+" "+how, func(t *testing.T) { silence(t, hostIPs[i], victimIPs[i], end) })
		}
	}
}

// vanish removes a socket without a packet (TCP_REPAIR), as if the process had
// never been.
func vanish(c *net.TCPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = rc.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) })
	if err == nil {
		err = set
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// abort closes with a RST.
func abort(c *net.TCPConn) error {
	c.SetLinger(0)
	return c.Close()
}

func silence(t *testing.T, hostIP, victimIP netip.Addr, end func(*net.TCPConn) error) {
	l := newLab(t, false, "")
	l.start()
	service, other := netip.AddrPortFrom(victimIP, 80), netip.AddrPortFrom(victimIP, 7)
	l.listen(l.victim, other, echo)
	accepted := make(chan *net.TCPConn, 4)
	l.listen(l.victim, service, func(c *net.TCPConn) { accepted <- c })
	bystander := l.mustDial(l.host, netip.AddrPort{}, other)
	l.check(ask(bystander, 1000))

	view := l.tap(l.host, "eth0") // what the host knows of its own connection
	flooded := l.mustDial(l.host, netip.AddrPort{}, service)
	source := flooded.LocalAddr().(*net.TCPAddr).AddrPort()
	victim := <-accepted
	for range 3 { // so that there are several acknowledgements to choose from
		victim.Write([]byte("x"))
		flooded.Read(make([]byte, 1))
		time.Sleep(60 * time.Millisecond)
	}
	flooded.Write([]byte("hello"))
	var last packet.Packet
	l.until("the host sends data", func() bool {
		for _, p := range view.packets() {
			if p.SrcPort == source.Port() && p.PayloadLen == 5 {
				last = p
			}
		}
		return last.Decoded
	})

	wire := l.tap(l.gateway, "outside")
	raw := l.raw(l.host, l.victim)
	sent := 0
	flood := func(n int) {
		for range n {
			sent++
			raw.send(pathtest.Segment{Src: source, Dst: service, Seq: last.Seq + uint32(5*sent), Ack: last.Ack - uint32(sent%3),
				Flags: pathtest.ACK, Payload: []byte("flood")}.Frame())
		}
	}
	flood(500)
	l.check(end(victim))
	for deadline := time.Now().Add(20 * time.Second); l.counter("block") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the flood was never ended")
		}
		flood(1)
	}
	flood(5000)
	l.check(ask(bystander, 100_000))
	next := l.mustDial(l.host, netip.AddrPort{}, service)
	l.check(next.Close())
	l.until("the tap has read what came before the next connection's end", func() bool {
		for _, p := range wire.packets() {
			if p.SrcPort == next.LocalAddr().(*net.TCPAddr).AddrPort().Port() && p.Flags&flow.FIN != 0 {
				return true
			}
		}
		return false
	})

	mine := func(p packet.Packet) bool { return p.Src == hostIP && p.SrcPort == source.Port() && p.DstPort == 80 }
	before, after, reset := 0, 0, false
	for _, p := range wire.packets() {
		switch {
		case p.Src == victimIP && p.DstPort == source.Port() && p.Flags&flow.RST != 0:
			reset = true
		case mine(p) && reset:
			after++
		case mine(p):
			before++
		}
	}
	t.Logf("the host sent %d packets; %d left before the RST, %d after", sent, before, after)
	if !reset || before < 500 || after != 0 {
		t.Errorf("RST: %v; %d packets left before it, %d after; want 500 or more, and none", reset, before, after)
	}
	if blocked := l.counter("blocked"); blocked < 5000 {
		t.Errorf("%d packets were blocked, want the last 5000", blocked)
	}
	l.until("the block is on record", func() bool { return strings.Contains(l.receipts(), source.String()) })
}

// TestRestartBreaksNothing ends the agent in both ways while connections carry
// data.
func TestRestartBreaksNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, true, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	l.check(ask(c, 1000))
	var stop atomic.Bool
	result := make(chan error)
	rounds := 0
	go func() {
		for !stop.Load() {
			if err := ask(c, 200_000); err != nil {
				result <- err
				return
			}
			rounds++
			time.Sleep(2 * time.Millisecond) // leave the processor to the others
		}
		result <- nil
	}()
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGTERM} {
		l.check(unix.Kill(l.agent.Pid(), signal))
		l.check(l.agent.Stop())
		time.Sleep(100 * time.Millisecond)
		l.start()
		if !strings.Contains(l.agent.Output(), `"resumed":true`) {
			t.Error("the agent did not take over what was there: ", l.agent.Output())
		}
	}
	stop.Store(true)
	if err := <-result; err != nil || rounds == 0 {
		t.Fatalf("after %d rounds: %v", rounds, err)
	}
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
	t.Logf("%d rounds of 200000 octets", rounds)
}
