//go:build linux

package live

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/packet"
)

// street is two hosts on one wire; the second is watched.
func street(t *testing.T, c Configuration) (client, server *netlab.Node, r *Reader) {
	t.Helper()
	lab := netlab.For(t)
	nodes, err := lab.Nodes("client", "server")
	if err != nil {
		t.Fatal(err)
	}
	client, server = nodes[0], nodes[1]
	c.Interface = "eth0"
	err = errors.Join(
		lab.Wire(client, "eth0", server, "eth0"),
		client.Address("eth0", netip.MustParsePrefix("10.0.0.1/24")), server.Address("eth0", netip.MustParsePrefix("10.0.0.2/24")),
		server.Do(func() (err error) { r, err = Open(c); return err }),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return client, server, r
}

// send sends n datagrams of size bytes that carry their number.
func send(t *testing.T, from *netlab.Node, to string, n, size int) {
	t.Helper()
	var c net.Conn
	if err := from.Do(func() (err error) { c, err = net.Dial("udp4", to); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, size)
	for i := range n {
		binary.BigEndian.PutUint32(b, uint32(i))
		// Nothing listens there, which a later call reports instead of sending.
		_, err := c.Write(b)
		for errors.Is(err, unix.ECONNREFUSED) {
			_, err = c.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// collect reads until want datagrams to port were seen or nothing comes any more.
func collect(t *testing.T, r *Reader, port uint16, want int) (got []packet.Packet, numbers []uint32) {
	t.Helper()
	for idle := 0; len(got) < want && idle < 20; {
		rec, err := r.Next(100 * time.Millisecond)
		if errors.Is(err, ErrIdle) {
			idle++
			continue
		} else if err != nil {
			t.Error(err)
			return got, numbers
		}
		var p packet.Packet
		if p.Decode(rec.Link, rec.Data, rec.Wire) != nil || p.Proto != flow.UDP || p.DstPort != port {
			continue
		}
		if since := time.Since(rec.Time.Time()); since < 0 || since > time.Minute {
			t.Errorf("a packet of just now is %v old", since)
		}
		numbers = append(numbers, binary.BigEndian.Uint32(p.Payload))
		p.Payload, p.Options = nil, nil
		got = append(got, p)
	}
	return got, numbers
}

func TestEveryPacketInOrder(t *testing.T) {
	client, _, r := street(t, DefaultConfiguration())
	const n = 20_000
	// What waits for the neighbour's address may be lost.
	send(t, client, "10.0.0.2:9998", 1, 10)
	collect(t, r, 9998, 1)
	var numbers []uint32
	var got []packet.Packet
	read := make(chan struct{})
	go func() {
		defer close(read)
		got, numbers = collect(t, r, 9999, n)
	}()
	send(t, client, "10.0.0.2:9999", n, 1000)
	<-read
	if len(got) != n {
		t.Fatalf("%d of %d packets", len(got), n)
	}
	for i, p := range got {
		if numbers[i] != uint32(i) || p.Src.String() != "10.0.0.1" || p.PayloadLen != 1000 {
			t.Fatalf("packet %d is %+v with number %d", i, p, numbers[i])
		}
	}
	if s, err := r.Stats(); err != nil || s.Dropped != 0 || s.Read < n {
		t.Errorf("%+v, %v", s, err)
	}
}

// The kernel removes VLAN tags and reports them separately.
func TestVLANTagsAreBack(t *testing.T) {
	client, _, r := street(t, DefaultConfiguration())
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x81, 0, 0x60, 7, 8, 0}
	frame = append(frame, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2) // IPv4, UDP
	frame = append(frame, 0, 1, 0x27, 0x0f, 0, 12, 0, 0, 0, 0, 0, 9)                          // to port 9999, with number 9
	err := client.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, numbers := collect(t, r, 9999, 1)
	if len(got) != 1 || got[0].VLAN != 7 || got[0].Dst.String() != "10.7.0.2" || got[0].IPLen != 32 || numbers[0] != 9 {
		t.Errorf("%+v %v: want one packet, in VLAN 7", got, numbers)
	}
}

// A reader that does not keep up learns how much it missed.
func TestDropsAreCounted(t *testing.T) {
	c := DefaultConfiguration()
	c.Buffer, c.Snap = 2*blockSize, 1024
	client, _, r := street(t, c)
	const n = 5000
	send(t, client, "10.0.0.2:9999", n, 1000)
	got, _ := collect(t, r, 9999, n)
	s, err := r.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if s.Dropped == 0 || len(got) == 0 {
		t.Errorf("%+v after %d packets of 1000 bytes for a ring of %d; %d were read", s, n, c.Buffer, len(got))
	}
	// The server's complaints about its closed port are counted beside.
	if all := s.Read + s.Dropped; all < n || uint64(len(got)) > s.Read {
		t.Errorf("%d read and %d dropped are not all %d", s.Read, s.Dropped, n)
	}
}

func TestInterfaceThatGoesAway(t *testing.T) {
	client, server, r := street(t, DefaultConfiguration())
	run := func(args ...string) {
		t.Helper()
		if _, err := server.Run(context.Background(), "ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	run("link", "set", "eth0", "down")
	for range 3 {
		for {
			_, err := r.Next(50 * time.Millisecond)
			if errors.Is(err, ErrIdle) {
				break
			} else if err != nil {
				t.Fatalf("down is not the end: %v", err)
			}
		}
	}
	run("link", "set", "eth0", "up")
	send(t, client, "10.0.0.2:9999", 3, 100)
	if got, _ := collect(t, r, 9999, 1); len(got) == 0 {
		t.Error("nothing is read after the interface came back")
	}
}

func TestMistakes(t *testing.T) {
	good := DefaultConfiguration()
	good.Interface = "none0"
	for _, c := range []struct {
		change func(*Configuration)
		say    string
	}{
		{func(c *Configuration) { c.Interface = "" }, "name the one to watch"},
		{func(c *Configuration) { c.Snap = 20 }, "snap"},
		{func(c *Configuration) { c.Buffer = 1 }, "buffer"},
		{func(c *Configuration) {}, "none0"},
	} {
		bad := good
		c.change(&bad)
		if _, err := Open(bad); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%+v: %v, want %q", bad, err, c.say)
		}
	}
}

// TestPromiscuous: the card passes packets between others while the reader is open,
// and only if that is asked for.
func TestPromiscuous(t *testing.T) {
	for _, want := range []bool{false, true} {
		c := DefaultConfiguration()
		c.Promiscuous = want
		_, server, _ := street(t, c)
		if err := server.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err == nil && (link.Attrs().Promisc > 0) != want {
				t.Errorf("promiscuous: %v, want %v", !want, want)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// TestExamine: what is in the way of a capture is named, and opening it leaves
// nothing behind.
func TestExamine(t *testing.T) {
	lab := netlab.For(t)
	nodes, err := lab.Nodes("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Wire(nodes[0], "eth0", nodes[1], "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		link, open string
	}{{"eth0", "", ""}, {"none0", "no such network interface", "no such network interface"}, {"lo", "is down", ""}} {
		config := DefaultConfiguration()
		config.Interface = c.name
		if err := nodes[1].Do(func() error {
			if c.name == "lo" {
				link, err := netlink.LinkByName("lo")
				if err := errors.Join(err, netlink.LinkSetDown(link)); err != nil {
					return err
				}
			}
			for deadline := time.Now().Add(5 * time.Second); c.link == "" && checkLink(c.name) != nil && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond) // the kernel reports the carrier a moment later
			}
			for i, got := range Examine(config) {
				if want := []string{c.link, c.open}[i]; (got.Err == nil) != (want == "") || got.Err != nil && !strings.Contains(got.Err.Error(), want) {
					t.Errorf("%s, %s: %v; want %q", c.name, got.Name, got.Err, want)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}
