//go:build linux

// Package diag asks the kernel about single sockets over netlink
// (sock_diag(7)). The requests are exact: the kernel looks one connection up in
// its hash table, so a host with 10,000 sockets answers as fast as an idle one,
// and a miss costs as much as a hit. Existing libraries dump all sockets and
// filter.
package diag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotFound means that the kernel has no such socket.
var ErrNotFound = errors.New("no such socket")

// Message types and sizes of linux/sock_diag.h, linux/inet_diag.h and
// linux/unix_diag.h.
const (
	sockDiagByFamily = 20
	headerSize       = 16
	inetRequestSize  = 56
	inetMessageSize  = 72
	unixRequestSize  = 24
	unixMessageSize  = 16
	linkMessageSize  = 16
	noCookie         = 0xffffffff
	allStates        = 0xffffffff
)

// TCP states as the kernel numbers them.
const (
	Established = 1
	SynSent     = 2
	SynReceived = 3
	TimeWait    = 6
	Closed      = 7
	Listen      = 10
)

// ListedSocket is what the kernel reports about one TCP socket.
type ListedSocket struct {
	Local, Remote netip.AddrPort
	State         uint8
	UID           uint32
	// Inode identifies the socket among a process's descriptors; 0 means that
	// no process holds it any more.
	Inode uint64
	// Cookie is never reused while the system is up.
	Cookie uint64
	// Device is the index of the interface to which the socket is bound
	// (SO_BINDTODEVICE, or a link-local address); 0 if to none.
	Device uint32
}

// Conn is a netlink socket of one network namespace, namely that of the thread
// that opened it. It is safe for concurrent use.
type Conn struct {
	mu    sync.Mutex // one request and its answer at a time; guards all below
	fd    int
	route int // asks for interfaces
	seq   uint32
	buf   []byte

	devices     []uint32
	devicesRead time.Time
}

// Open opens a socket in the calling thread's network namespace.
func Open() (*Conn, error) {
	fd, err := openNetlink(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	route, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Conn{fd: fd, route: route, buf: make([]byte, 64<<10)}, nil
}

func openNetlink(family int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return 0, err
	}
	// The kernel answers within the request; the limit only guards against a
	// kernel that never does.
	limit := unix.NsecToTimeval(int64(2 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(unix.Close(c.fd), unix.Close(c.route))
}

// TCP looks one connection up. The kernel falls back to a listening socket
// where no connection matches; that counts as not found, unless remote's port
// is 0, which asks for the listening socket.
func (c *Conn) TCP(local, remote netip.AddrPort) (ListedSocket, error) {
	local, remote = unmapAddr(local), unmapAddr(remote)
	listening := remote.Port() == 0
	match := func(s ListedSocket) bool {
		return listening == (s.State == Listen) && (listening || s.Local == local && s.Remote == remote)
	}
	var found ListedSocket
	err := c.roundTrip(inetRequest(local, remote, 0), 0, func(msg []byte) error {
		var err error
		found, err = parseInet(msg)
		return err
	})
	if err == nil && match(found) {
		return found, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return ListedSocket{}, err
	}
	return c.findBound(match, func(device uint32) []byte { return inetRequest(local, remote, device) })
}

// EachTCP calls see for every TCP socket of the namespace.
func (c *Conn) EachTCP(see func(ListedSocket)) error { return c.eachTCP(allStates, see) }

// connectedStates are the bits of those in which both ends know each other and a
// process may hold the socket: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT,
// LAST_ACK, CLOSING.
const connectedStates = 1<<Established | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

// EachConnected calls see for every connection of the namespace. A server that closes
// thousands of connections a second has a hundred times as many that are only
// waiting (TIME_WAIT), which the kernel leaves out here.
func (c *Conn) EachConnected(see func(ListedSocket)) error { return c.eachTCP(connectedStates, see) }

func (c *Conn) eachTCP(states uint32, see func(ListedSocket)) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, inetRequestSize)
		req[0], req[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(req[4:], states)
		if err := c.roundTrip(req, unix.NLM_F_DUMP, func(msg []byte) error {
			s, err := parseInet(msg)
			if err == nil {
				see(s)
			}
			return err
		}); err != nil {
			return fmt.Errorf("list TCP sockets: %w", err)
		}
	}
	return nil
}

func unmapAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func inetRequest(local, remote netip.AddrPort, device uint32) []byte {
	req := make([]byte, inetRequestSize)
	req[0], req[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		req[0] = unix.AF_INET
	}
	binary.NativeEndian.PutUint32(req[4:], allStates)
	binary.BigEndian.PutUint16(req[8:], local.Port())
	binary.BigEndian.PutUint16(req[10:], remote.Port())
	copy(req[12:28], local.Addr().AsSlice())
	copy(req[28:44], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(req[44:], device)
	binary.NativeEndian.PutUint32(req[48:], noCookie)
	binary.NativeEndian.PutUint32(req[52:], noCookie)
	return req
}

func parseInet(m []byte) (ListedSocket, error) {
	if len(m) < inetMessageSize {
		return ListedSocket{}, fmt.Errorf("inet_diag message of %d bytes", len(m))
	}
	width := 16
	if m[0] == unix.AF_INET {
		width = 4
	}
	local, _ := netip.AddrFromSlice(m[8 : 8+width])
	remote, _ := netip.AddrFromSlice(m[24 : 24+width])
	return ListedSocket{
		State:  m[1],
		Local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(m[4:])),
		Remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(m[6:])),
		Device: binary.NativeEndian.Uint32(m[40:]),
		Cookie: uint64(binary.NativeEndian.Uint32(m[44:])) | uint64(binary.NativeEndian.Uint32(m[48:]))<<32,
		UID:    binary.NativeEndian.Uint32(m[64:]),
		Inode:  uint64(binary.NativeEndian.Uint32(m[68:])),
	}, nil
}

// roundTrip sends one request and calls see with every message of the answer.
func (c *Conn) roundTrip(request []byte, flags uint16, see func([]byte) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exchange(c.fd, sockDiagByFamily, request, flags, see)
}

// exchange is roundTrip on one of the two sockets; the caller holds the lock.
func (c *Conn) exchange(fd int, kind uint16, request []byte, flags uint16, see func([]byte) error) error {
	c.seq++
	msg := c.buf[:headerSize+len(request)]
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], kind)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(msg[8:], c.seq)
	binary.NativeEndian.PutUint32(msg[12:], 0)
	copy(msg[headerSize:], request)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask netlink: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(fd, c.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink did not answer: %w", err)
		}
		done, err := c.parseMessages(c.buf[:n], flags&unix.NLM_F_DUMP != 0, see)
		if done || err != nil {
			return err
		}
	}
}

// parseMessages reads one datagram; done means that the answer is complete.
func (c *Conn) parseMessages(b []byte, dump bool, see func([]byte) error) (done bool, err error) {
	for len(b) >= headerSize {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerSize || size > len(b) {
			return true, fmt.Errorf("netlink message of %d bytes in %d", size, len(b))
		}
		kind, seq, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[headerSize:size]
		b = b[min((size+3)&^3, len(b)):]
		if seq != c.seq {
			continue // the rest of an answer we gave up on
		}
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			return true, errorOf(body)
		}
		if err := see(body); err != nil {
			return true, err
		}
		done = !dump
	}
	return done, nil
}

func errorOf(body []byte) error {
	if len(body) < 4 {
		return errors.New("short netlink error")
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
	switch errno {
	case 0:
		return nil
	case unix.ENOENT, unix.ESTALE:
		return ErrNotFound
	}
	return fmt.Errorf("netlink: %w", errno)
}
