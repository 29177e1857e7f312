package packets

import (
	"net"
	"net/netip"
	"testing"

	"dragnet/flow"
	"dragnet/packet"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// wire serialises layers below IPv4 between two addresses and decodes the
// result.
func wire(t testing.TB, from, to netip.Addr, ls ...gopacket.SerializableLayer) *packet.Packet {
	t.Helper()
	protos := map[gopacket.LayerType]layers.IPProtocol{layers.LayerTypeTCP: 6, layers.LayerTypeUDP: 17, layers.LayerTypeICMPv4: 1}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: protos[ls[0].LayerType()], SrcIP: net.IP(from.AsSlice()), DstIP: net.IP(to.AsSlice())}
	switch l := ls[0].(type) {
	case *layers.TCP:
		l.SetNetworkLayerForChecksum(ip)
	case *layers.UDP:
		l.SetNetworkLayerForChecksum(ip)
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append([]gopacket.SerializableLayer{ip}, ls...)...); err != nil {
		t.Fatal(err)
	}
	return decoded(t, b.Bytes())
}

func decoded(t testing.TB, b []byte) *packet.Packet {
	t.Helper()
	p := new(packet.Packet)
	if err := p.DecodeIP(b, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// head serialises an IPv4 packet and cuts it as an ICMP error does.
func head(t testing.TB, from, to netip.Addr, l gopacket.SerializableLayer) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 1, SrcIP: net.IP(from.AsSlice()), DstIP: net.IP(to.AsSlice())}
	switch l := l.(type) {
	case *layers.TCP:
		ip.Protocol = 6
		l.SetNetworkLayerForChecksum(ip)
	case *layers.UDP:
		ip.Protocol = 17
		l.SetNetworkLayerForChecksum(ip)
	case *layers.ICMPv4:
		ip.Protocol = 1
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[:28]
}

func TestICMPErrorsAreNotedAtTheirFlow(t *testing.T) {
	router := netip.MustParseAddr("192.0.2.1")
	syn := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 100, SYN: true}
	forged := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 123456, SYN: true}
	datagram := &layers.UDP{SrcPort: 40000, DstPort: 80}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}
	for _, c := range []struct {
		name       string
		sent       gopacket.SerializableLayer
		quoted     gopacket.SerializableLayer
		kind, code uint8
		want       uint16
		failed     bool
	}{
		{"host unreachable", syn, syn, 3, 1, 0x0301, true},
		{"port unreachable", datagram, datagram, 3, 3, 0x0303, true},
		{"time exceeded", echo, echo, 11, 0, 0x0b00, true},
		{"a smaller path MTU is not a failure", datagram, datagram, 3, 4, 0, false},
		{"a redirect is none", datagram, datagram, 5, 1, 0, false},
		{"a quote that was never sent is not believed", syn, forged, 3, 1, 0, true},
		{"of another flow", datagram, syn, 3, 3, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(c.kind, c.code)}
			a := play(t, DefaultConfiguration(),
				step{0, wire(t, alice.Addr(), bob.Addr(), c.sent)},
				step{0.1, wire(t, router, alice.Addr(), icmp, gopacket.Payload(head(t, alice.Addr(), bob.Addr(), c.quoted)))})
			a.Flush()
			if len(a.flows) != 2 {
				t.Fatalf("%d flows", len(a.flows))
			}
			var about, itself flow.Flow
			for _, f := range a.flows {
				if f.Orig == router {
					itself = f
				} else {
					about = f
				}
			}
			if about.ICMPError != c.want || about.Failed() != c.failed || !about.Known.Has(flow.Failures) {
				t.Errorf("the flow says %#x, failed %v", about.ICMPError, about.Failed())
			}
			// As Zeek logs it: type and code for ports.
			if itself.OrigPort != uint16(c.kind) || itself.RespPort != uint16(c.code) || itself.State != flow.OTH || itself.OrigPkts != 1 {
				t.Errorf("the error is %+v", itself)
			}
		})
	}
}

func TestEchoAndItsReplyAreOneFlow(t *testing.T) {
	request := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 1}
	reply := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: 7, Seq: 1}
	a := play(t, DefaultConfiguration(),
		step{0, wire(t, alice.Addr(), bob.Addr(), request, gopacket.Payload("12345678"))},
		step{1, wire(t, bob.Addr(), alice.Addr(), reply, gopacket.Payload("12345678"))},
		step{2, wire(t, alice.Addr(), bob.Addr(), request, gopacket.Payload("12345678"))})
	a.Flush()
	if len(a.flows) != 1 {
		t.Fatalf("%d flows", len(a.flows))
	}
	if f := a.flows[0]; f.OrigPort != 8 || f.RespPort != 0 || f.OrigPkts != 2 || f.RespPkts != 1 || f.OrigBytes != 16 || f.RespBytes != 8 {
		t.Errorf("got %+v", f)
	}
}

func TestPortsTellWhoBegan(t *testing.T) {
	dns := netip.AddrPortFrom(bob.Addr(), 53)
	other := netip.AddrPortFrom(bob.Addr(), 50000)
	everybody := netip.MustParseAddrPort("255.255.255.255:68")
	for _, c := range []struct {
		name string
		p    *packet.Packet
		want string
	}{
		{"an answer of a name server", udpPacket(dns, alice, 9), "SHR ^d 40000>53 0/1"},
		{"two unknown ports", udpPacket(other, alice, 9), "S0 D 50000>40000 1/0"},
		{"to everybody", udpPacket(netip.AddrPortFrom(bob.Addr(), 67), everybody, 9), "S0 D 67>68 1/0"},
		{"data of a web server", tcpPacket(bob, alice, 1, 1, flow.ACK, 10), "OTH ^d 40000>80 0/1"},
		{"data to a web server", tcpPacket(alice, bob, 1, 1, flow.ACK, 10), "OTH D 40000>80 1/0"},
		{"a SYN of a web server", tcpPacket(bob, alice, 1, 0, flow.SYN, 0), "S0 S 80>40000 1/0"},
		{"a SYN-ACK of a web server", tcpPacket(bob, alice, 1, 1, flow.SYN|flow.ACK, 0), "OTH ^h 40000>80 0/1"},
	} {
		a := play(t, DefaultConfiguration(), step{0, c.p})
		a.Flush()
		if got := brief(a.flows); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestChecksumsDecide: a wrong one is a C and nothing else; one that was left
// to the network card is good.
func TestChecksumsDecide(t *testing.T) {
	l := &layers.UDP{SrcPort: 40000, DstPort: 4444}
	good := wire(t, alice.Addr(), bob.Addr(), l, gopacket.Payload("hello"))
	bad := wire(t, alice.Addr(), bob.Addr(), l, gopacket.Payload("hello"))
	bad.Payload[0] ^= 1
	for _, c := range []struct {
		p      *packet.Packet
		ignore bool
		err    error
		want   string
	}{
		{good, false, nil, "S0 D 40000>4444 1/0"},
		{bad, false, ErrChecksum, "OTH C 40000>4444 0/0"},
		{bad, true, nil, "S0 D 40000>4444 1/0"},
	} {
		config := DefaultConfiguration()
		config.IgnoreChecksums = c.ignore
		a := play(t, config)
		if err := a.Packet(0, c.p); err != c.err {
			t.Errorf("got error %v, want %v", err, c.err)
		}
		a.Flush()
		if got := brief(a.flows); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
