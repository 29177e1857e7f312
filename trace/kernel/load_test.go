//go:build linux

package kernel

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"dragnet/internal/testkit"
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
		if got, err := p.Direction(local, remote); err != nil || got != want {
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
