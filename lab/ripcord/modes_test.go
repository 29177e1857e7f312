package ripcord_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/internal/netlab"
)

// TestObservingChangesNothing lets a flood go on, and counts it.
func TestObservingChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, true, "")
	b, err := os.ReadFile(l.config)
	l.check(err)
	l.check(os.WriteFile(l.config, []byte(strings.Replace(string(b), "enforce: true", "enforce: false", 1)), 0o600))
	l.start()
	inside, outside := l.tap(l.gateway, "inside"), l.tap(l.gateway, "outside")
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 100_000))
	raw := l.raw(l.host, l.victim)
	for range 20 {
		raw.send(pathtest.Segment{Src: netip.AddrPortFrom(hostIPs[0], 9), Dst: at, Seq: 1, Ack: 1, Flags: pathtest.ACK}.Frame())
	}
	l.until("the flood was counted", func() bool { return l.counter("no-handshake") >= 20 })
	type number struct{ seq, ack uint32 }
	numbers := func(seen *tap) (all map[number]bool, flood int) {
		all = map[number]bool{}
		for _, p := range seen.packets() {
			if p.Src == hostIPs[0] && p.Proto == flow.TCP {
				all[number{p.Seq, p.Ack}] = true
				if p.SrcPort == 9 {
					flood++
				}
			}
		}
		return all, flood
	}
	l.until("the flood leaves", func() bool { _, n := numbers(outside); return n == 20 })
	// Numbers that the host did not send would never be among those it did.
	l.until("all that left is as the host sent it", func() bool {
		left, _ := numbers(outside)
		sent, _ := numbers(inside)
		for n := range left {
			if !sent[n] {
				return false
			}
		}
		return true
	})
}

// TestConnectionsFromBefore begins a connection before there is a gateway.
func TestConnectionsFromBefore(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprintf("fail open %v", open), func(t *testing.T) {
			l := newLab(t, true, fmt.Sprintf("fail_open: %v\n", open))
			l.check(l.gateway.Bridge("br0", "inside", "outside"))
			at := netip.AddrPortFrom(victimIPs[0], 7)
			l.listen(l.victim, at, echo)
			c := l.mustDial(l.host, netip.AddrPort{}, at)
			l.check(ask(c, 1000))
			l.start()
			err := error(nil)
			if open {
				l.check(ask(c, 100_000))
				if l.counter("untracked") == 0 {
					t.Error("nothing was counted as untracked")
				}
				l.until("the log warns", func() bool { return strings.Contains(l.agent.Output(), "WARN") })
			} else {
				c.SetDeadline(time.Now().Add(time.Second))
				_, err = c.Write([]byte("x"))
				if _, read := c.Read(make([]byte, 1)); errors.Join(err, read) == nil {
					t.Error("a connection passes whose begin was not seen")
				}
			}
			l.check(ask(l.mustDial(l.host, netip.AddrPort{}, at), 1000))
		})
	}
}

// with sets a socket option before a socket is used.
func with(level, option, value int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
		return errors.Join(control, err)
	}
}

// TestFastOpen sends data in the SYN, with a cookie from the first connection.
func TestFastOpen(t *testing.T) {
	t.Parallel()
	l := newLab(t, true, "")
	l.start()
	l.check(errors.Join(l.host.Sysctl("net.ipv4.tcp_fastopen", "3"), l.victim.Sysctl("net.ipv4.tcp_fastopen", "3")))
	for _, ends := range [][2]*netlab.Node{{l.host, l.victim}, {l.victim, l.host}} {
		client, server := ends[0], ends[1]
		at := netip.AddrPortFrom(victimIPs[0], 7)
		if server == l.host {
			at = netip.AddrPortFrom(hostIPs[0], 7)
		}
		var ln net.Listener
		l.check(server.Do(func() (err error) {
			config := net.ListenConfig{Control: with(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)}
			ln, err = config.Listen(context.Background(), "tcp", at.String())
			return err
		}))
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go echo(c.(*net.TCPConn))
			}
		}()
		outside := l.tap(l.gateway, "outside")
		for range 3 {
			l.check(client.Do(func() error {
				d := net.Dialer{Timeout: 5 * time.Second, Control: with(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)}
				c, err := d.Dial("tcp", at.String())
				if err != nil {
					return err
				}
				defer c.Close()
				return ask(c, 500)
			}))
		}
		early := 0
		for _, p := range outside.packets() {
			if p.Flags&(flow.SYN|flow.ACK) == flow.SYN && p.PayloadLen > 0 {
				early++
			}
		}
		if early < 2 {
			t.Errorf("%d SYNs with data, want 2", early)
		}
	}
	l.clean()
}

// TestSignedConnections uses TCP-MD5 between real kernels.
func TestSignedConnections(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"refuse", "pass"} {
		t.Run(policy, func(t *testing.T) {
			l := newLab(t, true, "signed_tcp: "+policy+"\n")
			l.start()
			sign := func(peer netip.Addr) func(string, string, syscall.RawConn) error {
				return func(_, _ string, c syscall.RawConn) (err error) {
					s := unix.TCPMD5Sig{Keylen: 6}
					s.Addr.Family = unix.AF_INET
					a := peer.As4()
					copy(s.Addr.Data[2:], a[:]) // behind the port of a sockaddr_in
					copy(s.Key[:], "secret")
					control := c.Control(func(fd uintptr) { err = unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, &s) })
					return errors.Join(control, err)
				}
			}
			at := netip.AddrPortFrom(victimIPs[0], 179)
			var ln net.Listener
			l.check(l.victim.Do(func() (err error) {
				config := net.ListenConfig{Control: sign(hostIPs[0])}
				ln, err = config.Listen(context.Background(), "tcp4", at.String())
				return err
			}))
			t.Cleanup(func() { ln.Close() })
			go func() {
				if c, err := ln.Accept(); err == nil {
					echo(c.(*net.TCPConn))
				}
			}()
			err := l.host.Do(func() error {
				d := net.Dialer{Timeout: 1500 * time.Millisecond, Control: sign(victimIPs[0])}
				c, err := d.Dial("tcp4", at.String())
				if err != nil {
					return err
				}
				defer c.Close()
				return ask(c, 100_000)
			})
			if policy == "pass" {
				l.check(err)
			} else if err == nil || l.counter("signed") == 0 {
				t.Errorf("a signed connection: %v, %d packets refused", err, l.counter("signed"))
			}
		})
	}
}
