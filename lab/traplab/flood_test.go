package traplab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connections is how many the router's kernel remembers.
func (l *lab) connections() int {
	l.Helper()
	out, err := l.router.Run(l.Context(), "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		l.Fatal(err, out)
	}
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		l.Fatal(err)
	}
	return n
}

// floodUnused sends packets of forged sources to unused addresses, and says how many.
func (l *lab) floodUnused(last time.Duration, packet func(from, to netip.Addr, sport uint16) []byte) (sent int) {
	l.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	err := l.attacker.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for end := time.Now().Add(last); time.Now().Before(end); sent++ {
			to := [4]byte{192, 0, 2, byte(193 + r.IntN(30))}
			p := packet(netip.AddrFrom4([4]byte{198, 18, byte(r.IntN(256)), byte(r.IntN(256))}), netip.AddrFrom4(to), uint16(1024+r.IntN(60000)))
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: to}); err != nil && err != unix.ENOBUFS {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.Fatal(err)
	}
	return sent
}

// rawDatagram is a UDP datagram without a checksum.
func rawDatagram(from, to netip.Addr, sport, dport uint16) []byte {
	p := rawIPv4(from, to, unix.IPPROTO_UDP, 12)
	binary.BigEndian.PutUint16(p[20:], sport)
	binary.BigEndian.PutUint16(p[22:], dport)
	binary.BigEndian.PutUint16(p[24:], 12)
	return p
}

// TestFloodOfForgedSources: SYNs, other segments and datagrams of forged sources fill
// neither the kernel's table of connections nor keep others from their own.
func TestFloodOfForgedSources(t *testing.T) {
	l := newLab(t)
	l.say(l.server, "10.77.0.2:80", "server")
	l.say(l.honeypot, "10.66.0.2:80", "honeypot")
	l.startTrap()
	const limit, last = 500, 3 * time.Second // redirect.per_second
	for name, packet := range map[string]func(from, to netip.Addr, sport uint16) []byte{
		"SYN": func(from, to netip.Addr, sport uint16) []byte { return rawSYN(from, to, sport, 80) },
		"ACK": func(from, to netip.Addr, sport uint16) []byte { return rawTCP(from, to, sport, 80, 0x10) },
		"UDP": func(from, to netip.Addr, sport uint16) []byte { return rawDatagram(from, to, sport, 7777) },
	} {
		before, start := l.connections(), time.Now()
		sent := l.floodUnused(last, packet)
		took := time.Since(start)
		if got := l.hears("10.77.0.2:80"); got != "server" {
			t.Errorf("%s: during the flood a server says %q", name, got)
		}
		most := limit*(int(took.Seconds())+2) + 100
		if sent < 4*most {
			t.Fatalf("%s: only %d packets were sent in %v: no flood", name, sent, took)
		}
		if n := l.connections() - before; n > most {
			t.Errorf("%s: the kernel remembers %d connections more of %d packets, want at most %d", name, n, sent, most)
		}
	}
}
