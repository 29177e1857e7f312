//go:build linux

package diag

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// TestTracker looks up a connection whose source address a host translates.
func TestTracker(t *testing.T) {
	testkit.Tool(t, "nft")
	l := netlab.For(t)
	nodes, err := l.Nodes("inside", "host", "outside")
	if err == nil {
		err = errors.Join(l.Wire(nodes[0], "eth0", nodes[1], "in0"), l.Wire(nodes[2], "eth0", nodes[1], "out0"))
	}
	for _, a := range []struct {
		node           *netlab.Node
		device, prefix string
	}{{nodes[0], "eth0", "172.17.0.2/24"}, {nodes[1], "in0", "172.17.0.1/24"}, {nodes[1], "out0", "10.0.0.1/24"}, {nodes[2], "eth0", "10.0.0.100/24"}} {
		if err == nil {
			err = a.node.Address(a.device, netip.MustParsePrefix(a.prefix))
		}
	}
	if err == nil {
		err = nodes[0].Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("172.17.0.1"))
	}
	if err == nil {
		_, err = nodes[1].Run(t.Context(), "sh", "-c", "sysctl -qw net.ipv4.ip_forward=1 && nft add table ip nat && "+
			"nft 'add chain ip nat post { type nat hook postrouting priority 100; }' && nft add rule ip nat post oifname out0 masquerade")
	}
	if err != nil {
		t.Fatal(err)
	}
	var listener net.Listener
	if err := nodes[2].Do(func() (err error) { listener, err = net.Listen("tcp4", "10.0.0.100:9000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var client net.Conn
	if err := nodes[0].Do(func() (err error) { client, err = net.Dial("tcp4", "10.0.0.100:9000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var k *Tracker
	if err := nodes[1].Do(func() (err error) { k, err = OpenTracker(); return err }); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	inside := Tuple{client.LocalAddr().(*net.TCPAddr).AddrPort(), client.RemoteAddr().(*net.TCPAddr).AddrPort()}
	outside := Tuple{server.LocalAddr().(*net.TCPAddr).AddrPort(), server.RemoteAddr().(*net.TCPAddr).AddrPort()}
	for _, c := range []struct{ of, opposite Tuple }{{inside, outside}, {outside, inside}} {
		got, err := k.Find(c.of)
		if err != nil || got.Original != inside || got.Reply != outside || got.Opposite(c.of) != c.opposite {
			t.Errorf("%v: %+v, %v", c.of, got, err)
		}
	}
	if got, err := k.Find(Tuple{inside.Source, netip.MustParseAddrPort("10.0.0.100:9001")}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such connection: %+v, %v", got, err)
	}
}

func FuzzConntrack(f *testing.F) {
	tuple := conntrackRequest(Tuple{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")})
	reply := append([]byte{}, tuple[netfilterHeader:]...)
	binary.NativeEndian.PutUint16(reply[2:], nested|tupleReply)
	f.Add(append(tuple, reply...))
	f.Add(conntrackRequest(Tuple{netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:2")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseConntrack(b)
		if err == nil && (!got.Original.Source.IsValid() || !got.Reply.Source.IsValid()) {
			t.Fatalf("%+v", got)
		}
	})
}
