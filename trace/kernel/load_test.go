//go:build linux

package kernel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"dragnet/internal/testkit"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T, network, address string) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func ends(c *net.TCPConn) (local, remote netip.AddrPort) {
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

func TestDirectionIsRecorded(t *testing.T) {
	testkit.Root(t)
	before, _ := pair(t, "tcp4", "127.0.0.1:0")
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.MarkError != nil {
		t.Fatal(p.MarkError)
	}
	check := func(c *net.TCPConn, want Direction) {
		t.Helper()
		local, remote := ends(c)
		if got, err := p.Direction(local, remote, 0); err != nil || got != want {
			t.Errorf("%v -> %v: %v, %v; want %v", local, remote, got, err, want)
		}
	}
	check(before, Unknown) // older than the record
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := pair(t, "tcp", address)
		check(client, Outbound)
		check(server, Inbound)

		seen := map[uint16]Direction{}
		if err := p.Walk(func(h *Held) {
			if int(h.PID) == os.Getpid() && h.Protocol == 6 {
				seen[h.LocalPort] = h.Direction
			}
		}); err != nil {
			t.Fatal(err)
		}
		local, remote := ends(client)
		if seen[local.Port()] != Outbound || seen[remote.Port()] != Inbound {
			t.Errorf("%s: the walk says %v for the client, %v for the server", address, seen[local.Port()], seen[remote.Port()])
		}
	}
}

// TestReconnectedSocket takes a socket that was accepted, dissolves its
// connection and connects it elsewhere: what was noted about the first
// connection must not be said of the second.
func TestReconnectedSocket(t *testing.T) {
	testkit.Root(t)
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.MarkError != nil {
		t.Fatal(p.MarkError)
	}
	_, server := pair(t, "tcp4", "127.0.0.1:0")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := server.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dissolve := [16]byte{} // struct sockaddr with sa_family AF_UNSPEC
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, file.Fd(), uintptr(unsafe.Pointer(&dissolve)), 16); errno != 0 {
		t.Fatal(errno)
	}
	to := l.Addr().(*net.TCPAddr).AddrPort()
	if err := unix.Connect(int(file.Fd()), &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	remote, local := ends(c.(*net.TCPConn))
	if got, err := p.Direction(local, remote, 0); err != nil || got != Outbound {
		t.Errorf("%v, %v; want outbound", got, err)
	}
}

// TestDirectionOfABoundSocket binds the socket to its interface.
func TestDirectionOfABoundSocket(t *testing.T) {
	testkit.Root(t)
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }), err)
	}}
	c, err := d.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	local, remote := ends(c.(*net.TCPConn))
	if got, err := p.Direction(local, remote, uint32(lo.Index)); err != nil || got != Outbound {
		t.Errorf("%v, %v; want outbound", got, err)
	}
}
