package nft

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"dragnet/internal/netlab"
	"dragnet/packet"
	"dragnet/packet/capture"
	"dragnet/packet/live"
)

// wire sends frames from the client, and reads what arrives at the server.
type wire struct {
	t      *testing.T
	sender *netlab.FrameSender
	router net.HardwareAddr
	reader *live.Reader
}

func newWire(t *testing.T, s *street) *wire {
	t.Helper()
	w := &wire{t: t}
	c := live.DefaultConfiguration()
	c.Interface = "eth0"
	var err error
	w.sender, err = s.client.OpenFrames("eth0")
	err = errors.Join(err,
		s.router.Do(func() error {
			dev, err := net.InterfaceByName("left")
			if err == nil {
				w.router = dev.HardwareAddr
			}
			return err
		}),
		s.server.Do(func() (err error) { w.reader, err = live.Open(c); return err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.sender.Close(); w.reader.Close() })
	return w
}

// segment is an IP packet with a TCP segment, without its link header.
func segment(t *testing.T, v6 bool, flags string, payload int) []byte {
	t.Helper()
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 7, Seq: 1, SYN: flags == "S", ACK: flags == "A", Window: 1000}
	var ip gopacket.SerializableLayer
	if v6 {
		l := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, HopLimit: 64, SrcIP: net.ParseIP(client6), DstIP: net.ParseIP(server6)}
		tcp.SetNetworkLayerForChecksum(l)
		ip = l
	} else {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(client4).To4(), DstIP: net.ParseIP(server4).To4()}
		tcp.SetNetworkLayerForChecksum(l)
		ip = l
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload(make([]byte, payload))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var fragmentID uint32 = 77

// fragments cuts an IP packet into two, the first of which has n octets of payload.
func fragments(v6 bool, whole []byte, n int) [][]byte {
	fragmentID++
	id := byte(fragmentID)
	if v6 {
		head, body := whole[:40], whole[40:]
		cut := func(offset int, more byte, part []byte) []byte {
			f := append([]byte{}, head...)
			f[6] = 44
			f[4], f[5] = byte((len(part)+8)>>8), byte(len(part)+8)
			f = append(f, head[6], 0, byte(offset>>8), byte(offset)|more, 0, 0, 0, id)
			return append(f, part...)
		}
		return [][]byte{cut(0, 1, body[:n]), cut(n, 0, body[n:])}
	}
	cut := func(offset int, more byte, part []byte) []byte {
		f := append(append([]byte{}, whole[:20]...), part...)
		f[2], f[3], f[5], f[6], f[7] = byte(len(f)>>8), byte(len(f)), id, more|byte(offset>>11), byte(offset>>3)
		f[10], f[11] = 0, 0
		sum := uint32(0)
		for i := 0; i < 20; i += 2 {
			sum += uint32(f[i])<<8 | uint32(f[i+1])
		}
		sum = sum&0xffff + sum>>16
		sum = sum&0xffff + sum>>16
		f[10], f[11] = ^byte(sum>>8), ^byte(sum)
		return f
	}
	body := whole[20:]
	return [][]byte{cut(0, 0x20, body[:n]), cut(n, 0, body[n:])}
}

// send sends IP packets to the router, from a station.
func (w *wire) send(from net.HardwareAddr, v6 bool, all ...[]byte) {
	w.t.Helper()
	kind := []byte{0x08, 0x00}
	if v6 {
		kind = []byte{0x86, 0xdd}
	}
	for _, p := range all {
		frame := append(append(append(append([]byte{}, w.router...), from...), kind...), p...)
		if err := w.sender.Send(frame); err != nil {
			w.t.Fatal(err)
		}
	}
}

// arrives reports whether TCP from the client reaches the server soon.
func (w *wire) arrives(within time.Duration) bool {
	w.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); {
		rec, err := w.reader.Next(50 * time.Millisecond)
		if errors.Is(err, live.ErrIdle) {
			continue
		} else if err != nil {
			w.t.Fatal(err)
		}
		var p packet.Packet
		if p.Decode(rec.Link, rec.Data, rec.Wire) == nil && rec.Direction == capture.Received && p.Proto == 6 && (p.Src.String() == client4 || p.Src.String() == client6) {
			return true
		}
	}
	return false
}

// A SYN in fragments does not pass, however it is cut; other fragments do.
func TestFragmentsThatHideASYN(t *testing.T) {
	s := newStreet(t)
	w := newWire(t, s)
	if _, err := dial(t, s.client, server4); err != nil { // neighbours are known from here on
		t.Fatal(err)
	}
	if _, err := dial(t, s.client, server6); err != nil {
		t.Fatal(err)
	}
	for w.arrives(300 * time.Millisecond) {
	}
	pass := func(name string, v6, want bool, frames ...[]byte) {
		t.Helper()
		w.send(w.sender.MAC, v6, frames...)
		within := 300 * time.Millisecond
		if want {
			within = 5 * time.Second
		}
		if got := w.arrives(within); got != want {
			t.Errorf("%s, IPv6 %v: arrives %v, want %v", name, v6, got, want)
		}
		for w.arrives(100 * time.Millisecond) {
		}
	}
	for _, acting := range []bool{false, true} {
		in := &Ingress{Interface: "left"}
		if !acting {
			in = nil
		}
		if err := s.r.SetIngress(in); err != nil {
			t.Fatal(err)
		}
		for _, v6 := range []bool{false, true} {
			syn, data := segment(t, v6, "S", 100), segment(t, v6, "A", 100)
			pass("a whole SYN", v6, true, syn)
			pass("SYN, cut behind the flags", v6, !acting, fragments(v6, syn, 24)...)
			pass("SYN, cut before the flags", v6, !acting, fragments(v6, syn, 8)...)
			pass("SYN, cut at octet 16", v6, !acting, fragments(v6, syn, 16)...)
			pass("data in fragments", v6, true, fragments(v6, data, 24)...)
		}
	}
	if _, err := dial(t, s.client, server4); err != nil {
		t.Errorf("a connection does not open: %v", err)
	}
}

// A source that is bound to a station cannot be used by another.
func TestBoundSources(t *testing.T) {
	s := newStreet(t)
	w := newWire(t, s)
	for _, to := range []string{server4, server6} {
		if _, err := dial(t, s.client, to); err != nil {
			t.Fatal(err)
		}
	}
	other := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	bind := func(mac net.HardwareAddr) {
		t.Helper()
		in := Ingress{Interface: "left"}
		for _, p := range []string{"10.1.0.0/30", "fd00:1::/64"} {
			in.Bindings = append(in.Bindings, Binding{netip.MustParsePrefix(p), mac}, Binding{netip.MustParsePrefix(p), net.HardwareAddr{2, 0, 0, 0, 0, 7}})
		}
		for i := range 1000 { // more than one message holds
			in.Bindings = append(in.Bindings, Binding{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 32), mac})
		}
		if err := s.r.SetIngress(&in); err != nil {
			t.Fatal(err)
		}
	}
	opens := func(to string) bool { _, err := dial(t, s.client, to); return err == nil }
	bind(w.sender.MAC)
	if !opens(server4) || !opens(server6) {
		t.Error("a host at its own station is hindered")
	}
	for w.arrives(300 * time.Millisecond) {
	}
	w.send(other, false, segment(t, false, "S", 0))
	w.send(other, true, segment(t, true, "S", 0))
	if w.arrives(500 * time.Millisecond) {
		t.Error("another station sends in a bound name")
	}
	bind(other)
	if opens(server4) || opens(server6) {
		t.Error("sources bound to another station open connections")
	}
	if err := s.r.SetIngress(nil); err != nil {
		t.Fatal(err)
	}
	if !opens(server4) || !opens(server6) {
		t.Error("still bound after SetIngress(nil)")
	}
	if err := s.r.Remove(); err != nil {
		t.Error(err)
	}
}
