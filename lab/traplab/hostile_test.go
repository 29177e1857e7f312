package traplab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/trap/vault"
)

// residentMB is the resident set of the agent.
func (l *lab) residentMB() (mb int) {
	l.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Pid()))
	if err != nil {
		l.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscan(rest, &mb); err != nil {
				l.Fatal(err)
			}
			return mb >> 10
		}
	}
	l.Fatal("no resident set")
	return 0
}

// answers reports an error unless the array answers a request.
func (l *lab) answers(when string) {
	l.Helper()
	out, err := l.honeypot.Run(l.Context(), testkit.Tool(l, "curl"), "-sS", "--max-time", "20", "http://198.51.100.7/a")
	if err != nil || !strings.Contains(out, "It works!") {
		l.Errorf("%s the array does not answer: %v %s\n%s", when, err, out, l.process.Output())
	}
}

// TestHoneypotAttacksTheAgent: a honeypot that was taken over reaches nothing of the
// router itself, whatever it connects to, and what it does to the array is bounded.
func TestHoneypotAttacksTheAgent(t *testing.T) {
	l := newLab(t)
	l.startTrap("array: {idle: 2s, longest: 5s, sessions: 300, per_client: 300, session_bytes: 65536}")
	var reached atomic.Int64
	for _, address := range []string{"0.0.0.0:9121", "[::]:9121"} { // as a node's interface
		l.serve(l.router, address, func(c net.Conn) {
			reached.Add(1)
			c.Close()
		})
	}
	for _, to := range []string{"10.66.0.1:9121", "203.0.113.1:9121", "[2001:db8:77::1]:9121", "127.0.0.1:9121", "10.66.0.1:5113"} {
		if c, err := l.dial(l.honeypot, tcpOf(to), to); err == nil {
			fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
			_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the honeypot reached the router's own service %d times", n)
	}
	l.answers("after that")

	// Slow clients take all places, and lose them when their time is over.
	err := l.honeypot.Do(func() error {
		for i := range 400 {
			c, err := net.DialTimeout("tcp4", fmt.Sprintf("198.51.100.%d:80", 1+i%250), 3*time.Second)
			if err != nil {
				return err
			}
			go func() { // a byte now and then
				defer c.Close()
				for {
					if _, err := c.Write([]byte("G")); err != nil {
						return
					}
					time.Sleep(500 * time.Millisecond)
				}
			}()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second)
	l.answers("after slow clients")

	// Datagrams from many ports, and an upload of a gigabyte.
	size := int64(1 << 30)
	if testkit.Short(t) {
		size = 1 << 27
	}
	err = l.honeypot.Do(func() error {
		for i := range 2000 {
			c, err := net.Dial("udp4", fmt.Sprintf("198.51.100.%d:%d", 1+i%250, 1+i*31%60000))
			if err != nil {
				return err
			}
			for range 20 {
				_, _ = c.Write([]byte("flood")) // refused ones do not matter
			}
			c.Close()
		}
		c, err := net.DialTimeout("tcp4", "198.51.100.9:80", 20*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size); err != nil {
			return err
		}
		piece := make([]byte, 1<<20)
		for sent := int64(0); sent < size; sent += int64(len(piece)) {
			if _, err := c.Write(piece); err != nil {
				return nil // it was cut off
			}
		}
		return errors.New("all was taken")
	})
	if err != nil {
		t.Errorf("upload: %v", err)
	}
	time.Sleep(3 * time.Second)
	l.answers("after floods")
	if mb := l.residentMB(); mb > 300 {
		t.Errorf("the agent takes %d MB", mb)
	}
	if err := l.process.Stop(); err != nil {
		t.Error(err)
	}
	if out := l.process.Output(); strings.Contains(out, `"refused":0,`) || !strings.Contains(out, `"refused":`) {
		t.Errorf("nothing is counted as refused: %s", out[max(0, len(out)-500):])
	}
}

// TestNoAmplification: over UDP the array never answers more bytes than it
// received.
func TestNoAmplification(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	for port, ask := range map[int]string{
		53:   "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\xff\x00\x01",
		69:   "\x00\x02f\x00octet\x00",
		5060: "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c:1;branch=z9hG4bK1\r\nFrom: <sip:c>;tag=2\r\nTo: <sip:a@b>\r\nCall-ID: 3\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nUser-Agent: x\r\n\r\n",
		123:  "\x17\x00\x03\x2a\x00\x00\x00\x00", 1900: "M-SEARCH * HTTP/1.1\r\n\r\n", 11211: "\x00\x00\x00\x00\x00\x01\x00\x00stats\r\n",
	} {
		c, err := l.dial(l.honeypot, "udp4", fmt.Sprintf("198.51.100.30:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		received := 0
		for range 20 {
			if _, err := c.Write([]byte(ask)); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 65536)
		for {
			_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := c.Read(b)
			if err != nil {
				break
			}
			received += n
		}
		c.Close()
		if received > 20*len(ask) {
			t.Errorf("port %d: %d bytes answer %d", port, received, 20*len(ask))
		}
		if (port == 53 || port == 69 || port == 5060) && received == 0 {
			t.Errorf("port %d: no answer: this proves nothing", port)
		}
	}
}

// TestFullDisk: a trap whose disk is full goes on answering, says so, and keeps what
// it has; when there is room again it records again.
func TestFullDisk(t *testing.T) {
	l := newLab(t)
	captures := filepath.Join(l.dir, "captures")
	if err := os.Mkdir(captures, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", captures, "tmpfs", 0, "size=400k,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(captures, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l.startTrap("recording: {record: false}")
	l.answers("at first")
	first := l.lines(1)[0]
	err := l.honeypot.Do(func() error {
		for i := range 12 {
			c, err := net.DialTimeout("tcp4", "198.51.100.7:4444", 3*time.Second)
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte(strings.Repeat(fmt.Sprintf("%09d ", i), 10_000))); err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.process.Await(t.Context(), "no space left on device"); err != nil {
		t.Fatal(err)
	}
	l.answers("with a full disk")
	keys, err := vault.ReadKey(filepath.Join(captures, "age.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vault.ReadPayload(captures, first.Sent, keys); err != nil {
		t.Errorf("what was kept is gone: %v", err)
	}
	before := len(l.recorded())
	if err := unix.Mount("tmpfs", captures, "tmpfs", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	out, err := l.honeypot.Run(t.Context(), testkit.Tool(t, "curl"), "-sS", "--max-time", "20", "http://198.51.100.7/again")
	if err != nil {
		t.Error(err, out)
	}
	l.lines(before + 1)
}

// TestGateDoesNotAmplify: somebody who forges a victim's address has it sent no more
// than he sends: of a honeypot, whose system would repeat its SYN and ACK, and which
// serves something that answers at length. Those who do not forge get through.
func TestGateDoesNotAmplify(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	ln := l.listen(l.honeypot, "tcp4", ":8080")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	for _, network := range []string{"udp4", "udp6"} {
		var chatty net.PacketConn
		if err := l.honeypot.Do(func() (err error) { chatty, err = net.ListenPacket(network, ":7777"); return err }); err != nil {
			t.Fatal(err)
		}
		defer chatty.Close()
		go func() { // answers x with as many as there are, five times
			b := make([]byte, 2000)
			for {
				n, from, err := chatty.ReadFrom(b)
				if err != nil {
					return
				}
				times := 1
				if b[0] == 'x' {
					n, times = len(b)-700, 5
				}
				for range times {
					_, _ = chatty.WriteTo(b[:n], from)
				}
			}
		}()
	}
	stop := l.tcpdump(l.attacker, "eth0")
	// A victim that does not answer SYNs and ACKs: the attacker's host has no socket
	// and its resets are dropped, as a host behind a firewall would.
	if out, err := l.attacker.Run(t.Context(), "nft", "add table inet silent; add chain inet silent out { type filter hook output priority 0; }; add rule inet silent out tcp flags rst drop; add rule inet silent out ip protocol icmp drop"); err != nil {
		t.Fatal(err, out)
	}
	err := l.attacker.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range 20 {
			p := rawSYN(netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("192.0.2.210"), uint16(20000+i), 8080)
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 210}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"192.0.2.210:7777", "[2001:db8:66::10]:7777"} {
		network := "udp4"
		if to[0] == '[' {
			network = "udp6"
		}
		c, err := l.dial(l.attacker, network, to)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		defer c.Close()
	}
	time.Sleep(8 * time.Second) // a host repeats after 1, 3 and 7 seconds
	_, packets := l.packetsIn(stop(), netip.MustParseAddr("192.0.2.210"), netip.MustParseAddr("2001:db8:66::10"))
	sent, received, answered := 0, 0, 0
	for i := range packets {
		if p := &packets[i]; unused.Contains(p.Dst) || unused6.Contains(p.Dst) {
			sent += 20 + p.PayloadLen
		} else {
			received += 20 + p.PayloadLen
			if p.Proto == flow.TCP {
				answered++
			}
		}
	}
	if received > sent || answered != 20 {
		t.Errorf("%d bytes were sent in the victim's name, which is sent %d; %d SYNs of 20 answered", sent, received, answered)
	}
	if out, err := l.attacker.Run(t.Context(), "nft", "delete table inet silent"); err != nil {
		t.Fatal(err, out)
	}
	// An honest client: a connection, and datagrams that are answered in kind.
	c, err := l.dial(l.attacker, "tcp4", "192.0.2.211:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := io.ReadFull(c, make([]byte, 100_000)); err != nil {
		t.Errorf("%d bytes of an open connection came back: %v", n, err)
	}
	u, err := l.dial(l.attacker, "udp6", "[2001:db8:66::11]:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for range 5 {
		b := make([]byte, 1500)
		_, _ = u.Write([]byte(strings.Repeat("y", 80))) // 128 bytes with its headers
		_ = u.SetReadDeadline(time.Now().Add(3 * time.Second))
		if n, err := u.Read(b); err != nil || n != 80 {
			t.Errorf("an answer as long as the question: %d bytes, %v", n, err)
		}
	}
}

// rawIPv4 is a packet with room for a header and payload of a protocol.
func rawIPv4(from, to netip.Addr, proto byte, payload int) []byte {
	p := make([]byte, 20+payload)
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	return p
}

// rawSYN is a SYN without options.
func rawSYN(from, to netip.Addr, sport, dport uint16) []byte {
	return rawTCP(from, to, sport, dport, 0x02)
}

// rawTCP is a segment without data, with its checksum.
func rawTCP(from, to netip.Addr, sport, dport uint16, flags byte) []byte {
	p := rawIPv4(from, to, unix.IPPROTO_TCP, 20)
	binary.BigEndian.PutUint16(p[20:], sport)
	binary.BigEndian.PutUint16(p[22:], dport)
	p[32], p[33] = 5<<4, flags
	binary.BigEndian.PutUint16(p[34:], 64000)
	sum := uint32(unix.IPPROTO_TCP + 20)
	for i := 12; i < 40; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(p[36:], ^uint16(sum))
	return p
}

// TestDoctor: the checks find each mistake that lets honeypots and others mix.
func TestDoctor(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	doctor := func() string {
		out, _ := l.router.Run(t.Context(), l.agent, "doctor", "--trap", filepath.Join(l.dir, "trap.yaml"), "-o", "csv")
		return out
	}
	if out := doctor(); strings.Contains(out, "broken") || strings.Contains(out, "limited") {
		t.Errorf("nothing is wrong: %s", out)
	}
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for what, c := range map[string]struct {
		do   func() error
		want string
	}{
		"a host in an unused prefix": {func() error { return l.router.Address("lan", prefix("192.0.2.193/32")) }, "unused prefixes,broken"},
		"a host among the honeypots": {func() error {
			if err := l.honeypot.Address("eth0", prefix("10.66.0.9/24")); err != nil {
				return err
			}
			_, err := l.honeypot.Run(t.Context(), "ping", "-c", "1", "-I", "10.66.0.9", "10.66.0.1")
			return err
		}, "others behind inside,limited"},
		"a honeypot elsewhere": {func() error { return l.router.Route(prefix("2001:db8:77::2/128"), addr("2001:db8:1::2")) }, "honeypots,broken"},
		"no forwarding":        {func() error { return l.router.Sysctl("net/ipv4/ip_forward", "0") }, "forwarding,broken"},
		"the rules are removed": {func() error {
			_, err := l.router.Run(t.Context(), l.agent, "trap", "remove", "--config", filepath.Join(l.dir, "trap.yaml"))
			return err
		}, "rules,limited"},
	} {
		if err := c.do(); err != nil {
			t.Fatal(what, err)
		}
		if out := doctor(); !strings.Contains(out, c.want) {
			t.Errorf("%s: want %q in %s", what, c.want, out)
		}
	}
}
