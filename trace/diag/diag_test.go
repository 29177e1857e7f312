//go:build linux

package diag

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/testkit"

	"golang.org/x/sys/unix"
)

func connect(t testing.TB, network, listen, dial string) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c, err := net.Dial("tcp", net.JoinHostPort(dial, port))
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

func ends(c net.Conn) (local, remote netip.AddrPort) {
	return unmapAddr(c.LocalAddr().(*net.TCPAddr).AddrPort()), unmapAddr(c.RemoteAddr().(*net.TCPAddr).AddrPort())
}

func inode(t testing.TB, c *net.TCPConn) uint64 {
	t.Helper()
	var st unix.Stat_t
	raw, err := c.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func open(t testing.TB) *Conn {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestTCP compares with fstat of our own descriptors and with ss.
func TestTCP(t *testing.T) {
	ss := testkit.Tool(t, "ss")
	d := open(t)
	for _, c := range []struct{ listen, dial string }{
		{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}, {"[::]:0", "127.0.0.1"}, // the last is IPv4 on an IPv6 socket
	} {
		client, server := connect(t, "tcp", c.listen, c.dial)
		for _, end := range []*net.TCPConn{client, server} {
			local, remote := ends(end)
			s, err := d.TCP(local, remote)
			if err != nil {
				t.Fatalf("%v to %v: %v", local, remote, err)
			}
			if s.Inode != inode(t, end) || s.UID != uint32(os.Getuid()) || s.State != Established {
				t.Errorf("%v to %v: %+v, descriptor has inode %d", local, remote, s, inode(t, end))
			}
			out, err := exec.Command(ss, "-tneH", "sport", "=", strconv.Itoa(int(local.Port())), "and", "dport", "=", strconv.Itoa(int(remote.Port()))).Output()
			if err != nil {
				t.Fatal(err)
			}
			m := regexp.MustCompile(`ino:(\d+) sk:([0-9a-f]+)`).FindStringSubmatch(string(out))
			if m == nil || m[1] != strconv.FormatUint(s.Inode, 10) || m[2] != strconv.FormatUint(s.Cookie, 16) {
				t.Errorf("ss says %s, we %+v", out, s)
			}
		}
	}
}

// TestBoundSocket looks for sockets that are bound to an interface, as those of
// curl --interface are.
func TestBoundSocket(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") }), err)
	}}
	client, err := d.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	local, remote := ends(client)
	c := open(t)
	for _, age := range []time.Duration{0, -time.Hour} { // a list that is read, and one that is not
		c.devicesRead = time.Now().Add(age)
		if age == 0 {
			c.devices = make([]uint32, maxDevices+1) // more interfaces than are asked for one by one
		}
		s, err := c.TCP(local, remote)
		if err != nil || s.Inode != inode(t, client.(*net.TCPConn)) || s.Device == 0 {
			t.Errorf("%+v, %v; want inode %d", s, err, inode(t, client.(*net.TCPConn)))
		}
	}
	if _, err := c.TCP(local, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such connection: %v", err)
	}
}

func TestTCPMisses(t *testing.T) {
	d := open(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if _, err := d.TCP(at, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a listening socket answered for a connection: %v", err)
	}
	if s, err := d.TCP(at, netip.MustParseAddrPort("127.0.0.1:0")); err != nil || s.State != Listen {
		t.Errorf("listening socket: %+v, %v", s, err)
	}
	client, server := connect(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	local, remote := ends(client)
	client.Close()
	server.Close()
	// The end that closed first stays in TIME_WAIT; pidentd and oidentd give
	// it to root.
	for range 100 {
		s, err := d.TCP(local, remote)
		if err == nil && s.State == TimeWait {
			if s.Inode != 0 {
				t.Errorf("closed socket has inode %d", s.Inode)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the closed connection was never seen in TIME_WAIT")
}

func TestEachTCPFindsOurs(t *testing.T) {
	client, server := connect(t, "tcp", "[::1]:0", "::1")
	want := map[uint64]bool{inode(t, client): true, inode(t, server): true}
	if err := open(t).EachTCP(func(s ListedSocket) { delete(want, s.Inode) }); err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

// TestEachConnected lists both ends of a connection, neither what listens nor what
// only waits (TIME_WAIT).
func TestEachConnected(t *testing.T) {
	client, server := connect(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	port := client.LocalAddr().(*net.TCPAddr).Port
	list := func() (states []uint8) {
		if err := open(t).EachConnected(func(s ListedSocket) {
			if int(s.Local.Port()) == port || int(s.Remote.Port()) == port {
				states = append(states, s.State)
			}
			if s.State == Listen || s.State == TimeWait {
				t.Errorf("%+v", s)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return states
	}
	if got := list(); len(got) != 2 {
		t.Errorf("open: %v", got)
	}
	client.Close()
	server.Close()
	for range 200 {
		if len(list()) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("closed: %v", list())
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	number := func(c net.Conn) uint64 {
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var st unix.Stat_t
		unix.Fstat(int(f.Fd()), &st)
		return st.Ino
	}
	d := open(t)
	got, err := d.UnixSocket(number(s))
	if err != nil || got.Peer != number(c) || got.Name != path {
		t.Errorf("accepted end: %+v, %v; want peer %d, name %s", got, err, number(c), path)
	}
	got, err = d.UnixSocket(number(c))
	if err != nil || got.Peer != number(s) || got.Name != "" {
		t.Errorf("connecting end: %+v, %v; want peer %d", got, err, number(s))
	}
	if _, err := d.UnixSocket(1); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such socket: %v", err)
	}
}

func TestAnswersOfTheWrongShape(t *testing.T) {
	for _, b := range []string{"", "x", strings.Repeat("\xff", 71)} {
		if _, err := parseInet([]byte(b)); err == nil {
			t.Errorf("inet_diag %q was read", b)
		}
	}
	long := make([]byte, unixMessageSize+4)
	long[unixMessageSize] = 200
	if _, err := parseUnix(long); err == nil {
		t.Error("an attribute longer than its message was read")
	}
}

func BenchmarkTCP(b *testing.B) {
	client, _ := connect(b, "tcp4", "127.0.0.1:0", "127.0.0.1")
	local, remote := ends(client)
	d := open(b)
	b.Run("hit", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.TCP(local, remote); err != nil {
				b.Fatal(err)
			}
		}
	})
	miss := netip.AddrPortFrom(remote.Addr(), 1)
	b.Run("miss", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.TCP(local, miss); !errors.Is(err, ErrNotFound) {
				b.Fatal(err)
			}
		}
	})
}
