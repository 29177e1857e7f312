package traplab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// tag is in all that the honeypot sends, also where an error quotes it.
var tag = []byte("\xd5tag-of-honeypot\xd5")

// TestNothingLeaves6 is TestNothingLeaves for IPv6: packets with extension headers,
// fragments, all of ICMPv6 with neighbour discovery and multicast listeners, forged
// sources and link-local multicast, written to the link itself. tcpdump on all links
// of the router is the judge.
func TestNothingLeaves6(t *testing.T) {
	l := newLab(t)
	err := errors.Join(
		l.server.Address("eth0", netip.MustParsePrefix("2001:db8:88::2/64")), l.router.Address("lan", netip.MustParsePrefix("2001:db8:88::1/64")),
		l.router.Do(func() error { // a router that would take advertisements
			return os.WriteFile("/proc/sys/net/ipv6/conf/inside/accept_ra", []byte("2"), 0o600)
		}))
	if err != nil {
		t.Fatal(err)
	}
	l.startTrap()
	n := 100_000
	if testkit.Short(t) {
		n = 10_000
	}
	stops := l.watchLinks()
	sent := l.sendVaried6(n / 2)
	if err := unix.Kill(l.process.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sent += l.sendVaried6(n / 4)
	l.startTrap()
	if err := l.process.Stop(); err != nil {
		t.Error(err)
	}
	sent += l.sendVaried6(n / 4)
	inside, leaked := l.readLinks(stops)
	if inside < n*9/10 || sent < n-4 {
		t.Errorf("%d packets were sent, tcpdump saw %d of them inside", sent, inside)
	}
	if len(leaked) > 0 {
		t.Errorf("%d of %d packets left:\n%s", len(leaked), sent, strings.Join(leaked[:min(8, len(leaked))], "\n"))
	}
	if out, err := l.router.Run(t.Context(), "ip", "-6", "route", "show", "dev", "inside", "proto", "ra"); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("the honeypot advertised routes: %v %s", err, out)
	}
	if out, err := l.router.Run(t.Context(), l.agent, "trap", "remove", "--config", filepath.Join(l.dir, "trap.yaml")); err != nil {
		t.Fatal(err, out)
	}
	stops = l.watchLinks()
	l.sendVaried6(1000)
	if _, leaked := l.readLinks(stops); len(leaked) < 50 {
		t.Errorf("without rules %d of 1000 packets were seen to leave: the test proves nothing", len(leaked))
	}
}

// watchLinks starts tcpdump on the honeypots' link, and on both ends of all others.
func (l *lab) watchLinks() (stops []func() string) {
	l.Helper()
	return []func() string{
		l.tcpdump(l.router, "inside"), l.tcpdump(l.router, "outside"), l.tcpdump(l.router, "lan"), l.tcpdump(l.attacker, "eth0"), l.tcpdump(l.server, "eth0"),
	}
}

// readLinks counts the honeypot's packets inside, and lists those elsewhere, and
// what else is neither of the router nor of its neighbours.
func (l *lab) readLinks(stops []func() string) (inside int, leaked []string) {
	l.Helper()
	own := []string{"2001:db8:1:", "2001:db8:88:", "fe80:", "203.0.113.", "10.77.0."}
	for i, stop := range stops {
		file := stop()
		f, err := capture.Open(file)
		if err != nil {
			l.Fatal(err)
		}
		for {
			r, err := f.Next()
			if err != nil {
				break
			}
			tagged := bytes.Contains(r.Data, tag[:8])
			if i == 0 {
				if tagged {
					inside++
				}
				continue
			}
			var p packet.Packet
			strange := false
			if p.Decode(r.Link, r.Data, r.Wire) == nil {
				strange = p.Src.String() != "::"
				for _, n := range own {
					strange = strange && !strings.HasPrefix(p.Src.String(), n)
				}
			}
			if tagged || strange {
				leaked = append(leaked, filepath.Base(file)+": "+p.Src.String()+" > "+p.Dst.String()+" "+p.Proto.String()+fmt.Sprintf(" %x", r.Data[:min(len(r.Data), 160)]))
			}
		}
		f.Close()
	}
	return inside, leaked
}

// sendVaried6 writes packets to the honeypots' link, past the honeypot's own stack.
func (l *lab) sendVaried6(n int) (sent int) {
	l.Helper()
	var router net.HardwareAddr
	err := l.router.Do(func() error {
		i, err := net.InterfaceByName("inside")
		if err == nil {
			router = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
	random := rand.New(rand.NewPCG(6, uint64(n)))
	err = l.honeypot.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		const ethernetIPv6 = 0xdd86 // ETH_P_IPV6 in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for range n {
			p := variedPacket6(random)
			to := &unix.SockaddrLinklayer{Protocol: ethernetIPv6, Ifindex: link.Index, Halen: 6}
			copy(to.Addr[:], router)
			if p[24] == 0xff && random.IntN(4) > 0 {
				to.Addr = [8]byte{0x33, 0x33, p[36], p[37], p[38], p[39]}
			}
			if err := unix.Sendto(fd, p, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
			sent++
		}
		return nil
	})
	if err != nil {
		l.Fatal(err)
	}
	return sent
}

// address6 draws an address; x stands for random digits.
func address6(random *rand.Rand, from ...string) []byte {
	text := from[random.IntN(len(from))]
	b := netip.MustParseAddr(strings.ReplaceAll(text, "x", "0")).As16()
	if strings.Contains(text, "x") {
		binary.BigEndian.PutUint16(b[14:], uint16(random.Uint32()))
	}
	return b[:]
}

// variedPacket6 is an IPv6 packet with up to three extension headers.
func variedPacket6(random *rand.Rand) []byte {
	pick := func(of ...byte) byte { return of[random.IntN(len(of))] }
	src := address6(random, "2001:db8:77::2", "2001:db8:77::2", "2001:db8:77::2", "2001:db8:1::2", "2001:db8:88::2", "2001:db8:66::x", "2001:db8:77::1", "fe80::x", "::")
	dst := address6(random, "2001:db8:9::x", "2001:db8:9::x", "2001:db8:1::2", "2001:db8:1::1", "2001:db8:88::2", "2001:db8:66::x", "2001:db8:77::1", "fe80::x", "ff02::1", "ff02::2", "ff02::16", "ff02::1:ff00:x", "ff05::2", "ff0e::x")
	upper := pick(6, 6, 17, 17, 58, 58, 58, 59, 4, 41, 47, 50, 132, 255)
	body := make([]byte, 24+random.IntN(40))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	switch upper {
	case unix.IPPROTO_TCP:
		body[12] = 0x50
	case unix.IPPROTO_ICMPV6:
		body[0], body[1] = pick(1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 134, 134, 135, 135, 136, 137, 138, 139, 141, 143, 151, 160), pick(0, 0, 0, 1, 4)
		copy(body[8:], dst)
		if body[0] == 134 { // an advertisement that is valid
			copy(body[4:], []byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})
			body = body[:16]
		}
	}
	if body[0] != 134 || upper != unix.IPPROTO_ICMPV6 {
		body = append(body, tag...)
	}
	if upper == unix.IPPROTO_UDP {
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	}
	if at, ok := map[byte]int{6: 16, 17: 6, 58: 2}[upper]; ok && random.IntN(4) > 0 {
		binary.BigEndian.PutUint16(body[at:], 0)
		binary.BigEndian.PutUint16(body[at:], checksum6(src, dst, upper, body))
	}
	next := upper
	for range random.IntN(4) {
		header := []byte{next, 0, 1, 4, 0, 0, 0, 0} // padded
		switch next = pick(0, 0, 43, 44, 60); next {
		case 0, 60:
			if random.IntN(2) == 0 { // an option, which may be one to answer with an error
				header[2], header[3] = pick(0x05, 0x1e, 0x5e, 0x9e, 0xde, 0xc2), 4
			}
		case 43:
			header[2], header[3] = pick(0, 2, 3, 4, 253), pick(0, 1, 2)
		case 44:
			header[1] = 0
			binary.BigEndian.PutUint16(header[2:], uint16(random.IntN(4))<<3|uint16(random.IntN(2)))
			header[4] = byte(random.Uint32())
		}
		body = append(header, body...)
	}
	p := make([]byte, 40, 40+len(body))
	p[0], p[6], p[7] = 0x60, next, pick(0, 1, 2, 64, 64, 255, 255)
	binary.BigEndian.PutUint16(p[4:], uint16(len(body)))
	copy(p[8:], src)
	copy(p[24:], dst)
	return append(p, body...)
}

// checksum6 is that of RFC 8200, section 8.1.
func checksum6(src, dst []byte, proto byte, body []byte) uint16 {
	sum := uint32(proto) + uint32(len(body))
	for _, part := range [][]byte{src, dst, body} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i]) << 8
			if i+1 < len(part) {
				sum += uint32(part[i+1])
			}
		}
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
