//go:build linux

package ripcord

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/tables"
	"dragnet/packet"
)

// leases follows DHCP (RFC 2131) to learn the host's next address before the
// host uses it. A grant counts only if the host asked for it at most leaseWait
// before.
type leases struct {
	file *os.File
	// asked are the host's requests: transaction and client address, which have
	// the same offsets in request and reply.
	asked map[request]time.Time
	last  time.Time // of the last change
}

type request struct {
	xid [4]byte
	mac [6]byte
}

const (
	leaseWait = 30 * time.Second
	maxAsked  = 64

	dhcpRequest, dhcpAck = 3, 5
)

// openLeases opens a socket that receives DHCP in both directions on the
// interface to the network.
func openLeases(index int) (*leases, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket for DHCP: %w", err)
	}
	f := os.NewFile(uintptr(fd), "dhcp")
	filter := dhcpFilter()
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL << 8, Ifindex: index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket for DHCP: %w", err), f.Close())
	}
	return &leases{file: f, asked: map[request]time.Time{}}, nil
}

// dhcpFilter passes UDP over IPv4 to or from port 68, whole datagrams only.
func dhcpFilter() []unix.SockFilter {
	const half, octet = unix.BPF_LD | unix.BPF_H, unix.BPF_LD | unix.BPF_B
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	return []unix.SockFilter{
		{Code: half | unix.BPF_ABS, K: 12}, jump(unix.BPF_JEQ, 0x0800, 0, 9),
		{Code: octet | unix.BPF_ABS, K: 23}, jump(unix.BPF_JEQ, 17, 0, 7),
		{Code: half | unix.BPF_ABS, K: 20}, jump(unix.BPF_JSET, 0x3fff, 5, 0),
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 14},
		{Code: half | unix.BPF_IND, K: 14}, jump(unix.BPF_JEQ, 68, 3, 0), // source port
		{Code: half | unix.BPF_IND, K: 16}, jump(unix.BPF_JEQ, 68, 1, 0), // destination port
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 4096},
	}
}

// watchDHCP calls granted for each address granted, until the socket is closed.
func (l *leases) watchDHCP(granted func(netip.Addr)) error {
	rc, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		var n int
		var from unix.Sockaddr
		var recv error
		err := rc.Read(func(fd uintptr) bool {
			n, from, recv = unix.Recvfrom(int(fd), buf, 0)
			return recv != unix.EAGAIN
		})
		if err != nil {
			return nil // closed
		}
		if recv != nil {
			return fmt.Errorf("read DHCP: %w", recv)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		if a, ok := l.observeFrame(buf[:n], link.Pkttype == unix.PACKET_OUTGOING, time.Now()); ok {
			granted(a)
		}
	}
}

// observeFrame takes a frame of DHCP; ok reports that the host was granted an
// address.
func (l *leases) observeFrame(frame []byte, fromHost bool, now time.Time) (a netip.Addr, ok bool) {
	var p packet.Packet
	if p.Decode(packet.LinkEthernet, frame, len(frame)) != nil || p.Cut() || p.Checksum() == packet.ChecksumBad {
		return a, false
	}
	b := p.Payload
	if len(b) < 241 || binary.BigEndian.Uint32(b[236:]) != 0x63825363 || b[1] != 1 || b[2] != 6 {
		return a, false
	}
	r := request{[4]byte(b[4:]), [6]byte(b[28:])}
	kind := dhcpKind(b[240:])
	for known, at := range l.asked {
		if now.Sub(at) > leaseWait {
			delete(l.asked, known)
		}
	}
	switch {
	case fromHost && b[0] == 1 && kind == dhcpRequest && p.DstPort == 67:
		if len(l.asked) < maxAsked {
			l.asked[r] = now
		}
	case !fromHost && b[0] == 2 && kind == dhcpAck && p.SrcPort == 67:
		if _, asked := l.asked[r]; asked {
			delete(l.asked, r)
			a = netip.AddrFrom4([4]byte(b[16:]))
			return a, a.IsGlobalUnicast() || a.IsLinkLocalUnicast()
		}
	}
	return a, false
}

// dhcpKind is the message type among options (RFC 2132, section 9.6); 0 if
// absent.
func dhcpKind(b []byte) uint8 {
	for len(b) >= 2 && b[0] != 255 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		n := 2 + int(b[1])
		if n > len(b) {
			return 0
		}
		if b[0] == 53 && n == 3 {
			return b[2]
		}
		b = b[n:]
	}
	return 0
}

// allowLease lets the host use the address DHCP granted, in place of those
// learnt. Once in a quiet period is enough for everyone but a server that helps
// the host to change its source.
func (g *Gateway) allowLease(a netip.Addr) {
	for known := range g.wire.Sources() {
		if known == a {
			return
		}
	}
	now := time.Now()
	if g.config.Learn.IPv4 == 0 || now.Sub(g.leases.last) < g.config.Learn.Quiet {
		g.log.Warn("address granted by DHCP ignored", "address", a)
		return
	}
	g.leases.last = now
	for known, s := range g.wire.Sources() {
		if known.Is4() && s.Fixed == 0 {
			if err := g.wire.DropSource(known); err != nil {
				g.log.Error("remove address failed", "address", known, "err", err)
			}
		}
	}
	if err := g.wire.PutSource(a, tables.Source{Seen: bootMS()}); err != nil {
		g.log.Error("add address granted by DHCP failed", "err", err)
		return
	}
	g.log.Info("DHCP granted an address to the host", "address", a)
}
