package ripcord_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"dragnet/internal/netlab"
	"dragnet/packet"
)

// tap sees the packets of an interface in the order they cross it.
type tap struct {
	file *os.File
	conn syscall.RawConn

	mu   sync.Mutex // guards buf and seen
	buf  []byte
	seen []packet.Packet
	to   [][6]byte // MAC addresses, of each in seen
}

func (l *lab) tap(n *netlab.Node, dev string) *tap {
	l.t.Helper()
	const all = unix.ETH_P_ALL << 8
	var fd int
	l.check(n.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	}))
	c := &tap{file: os.NewFile(uintptr(fd), "tap"), buf: make([]byte, 1<<17)}
	l.t.Cleanup(func() { c.file.Close() })
	var err error
	c.conn, err = c.file.SyscallConn()
	l.check(err)
	go c.conn.Read(func(fd uintptr) bool {
		c.drain(int(fd))
		return false // until the file is closed
	})
	return c
}

// drain takes what waits in the socket.
func (c *tap) drain(fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		n, _, err := unix.Recvfrom(fd, c.buf, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		var p packet.Packet
		if p.Decode(packet.LinkEthernet, bytes.Clone(c.buf[:n]), n) == nil {
			c.seen, c.to = append(c.seen, p), append(c.to, [6]byte(c.buf))
		}
	}
}

// packets returns all that crossed the interface until now, those included that
// no reader has taken from the socket yet.
func (c *tap) packets() []packet.Packet {
	c.conn.Control(func(fd uintptr) { c.drain(int(fd)) })
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]packet.Packet(nil), c.seen...)
}

// raw sends frames from a node as they are; from and to are the addresses of
// its own and the other node's interface.
type raw struct {
	lab       *lab
	fd, index int
	from, to  net.HardwareAddr
}

func (l *lab) raw(n, other *netlab.Node) *raw {
	l.t.Helper()
	r := &raw{lab: l}
	l.check(n.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		r.index, r.from = i.Index, i.HardwareAddr
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	l.check(other.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			r.to = i.HardwareAddr
		}
		return err
	}))
	l.t.Cleanup(func() { unix.Close(r.fd) })
	return r
}

// send puts the true addresses into a frame and sends it.
func (r *raw) send(frame []byte) {
	copy(frame, r.to)
	copy(frame[6:], r.from)
	err := unix.Sendto(r.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: r.index})
	if err != nil && !errors.Is(err, syscall.ENOBUFS) {
		r.lab.t.Error(err)
	}
}
