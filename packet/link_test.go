package packet_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/packet"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// build serialises layers with right lengths and checksums.
func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	for i, l := range ls {
		var network gopacket.NetworkLayer
		for _, before := range ls[:i] {
			if n, ok := before.(gopacket.NetworkLayer); ok {
				network = n
			}
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && network != nil {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ipv4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IP{198, 51, 100, 7}, DstIP: net.IP{203, 0, 113, 9}}
}

func ipv6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP("2001:db8::7"), DstIP: net.ParseIP("2001:db8::9")}
}

func udp() *layers.UDP { return &layers.UDP{SrcPort: 4000, DstPort: 53} }

func TestLinkLayers(t *testing.T) {
	inner4 := build(t, ipv4(17), udp(), gopacket.Payload("hello"))
	inner6 := build(t, ipv6(17), udp(), gopacket.Payload("hello"))
	mac := "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"
	for _, c := range []struct {
		name   string
		link   packet.LinkType
		header string
		inner  []byte
		vlan   string
		err    error
	}{
		{"Ethernet", packet.LinkEthernet, mac + "\x08\x00", inner4, "0 0", nil},
		{"Ethernet, IPv6", packet.LinkEthernet, mac + "\x86\xdd", inner6, "0 0", nil},
		{"VLAN", packet.LinkEthernet, mac + "\x81\x00\x20\x05\x08\x00", inner4, "5 0", nil},
		{"QinQ", packet.LinkEthernet, mac + "\x88\xa8\x00\x07\x81\x00\x00\x08\x86\xdd", inner6, "7 8", nil},
		{"LLC and SNAP", packet.LinkEthernet, mac + "\x00\x40\xaa\xaa\x03\x00\x00\x00\x08\x00", inner4, "0 0", nil},
		{"LLC", packet.LinkEthernet, mac + "\x00\x40\x42\x42\x03\x00\x00\x00\x00\x00", nil, "", packet.ErrNotIP},
		{"ARP", packet.LinkEthernet, mac + "\x08\x06\x00\x01", nil, "", packet.ErrNotIP},
		{"MPLS", packet.LinkEthernet, mac + "\x88\x47\x00\x01\x00\x40\x00\x02\x01\x40", inner4, "0 0", nil},
		{"MPLS pseudowire", packet.LinkEthernet, mac + "\x88\x47\x00\x01\x01\x40\x00\x00\x00\x00" + mac + "\x08\x00", inner4, "0 0", nil},
		{"MPLS, something else", packet.LinkEthernet, mac + "\x88\x47\x00\x01\x01\x40\xf0", nil, "", packet.ErrNotIP},
		{"PBB", packet.LinkEthernet, mac + "\x88\xe7\x00\x00\x00\x01" + mac + "\x86\xdd", inner6, "0 0", nil},
		{"VN-Tag", packet.LinkEthernet, mac + "\x89\x26\x00\x00\x00\x00\x08\x00", inner4, "0 0", nil},
		{"FabricPath", packet.LinkEthernet, mac + "\x89\x03\x00\x01" + mac + "\x08\x00", inner4, "0 0", nil},
		{"PPPoE", packet.LinkEthernet, mac + "\x88\x64\x11\x00\x00\x01\x00\x30\x00\x21", inner4, "0 0", nil},
		{"PPPoE in VLAN", packet.LinkEthernet, mac + "\x81\x00\x00\x09\x88\x64\x11\x00\x00\x01\x00\x30\x00\x57", inner6, "9 0", nil},
		{"PPPoE session", packet.LinkPPPoE, "\x11\x00\x00\x01\x00\x30\x00\x21", inner4, "0 0", nil},
		{"PPP", packet.LinkPPP, "\x00\x21", inner4, "0 0", nil},
		{"PPP, compressed protocol", packet.LinkPPP, "\x21", inner4, "0 0", nil},
		{"PPP in HDLC", packet.LinkPPPSerial, "\xff\x03\x00\x57", inner6, "0 0", nil},
		{"PPP control", packet.LinkPPP, "\xc0\x21\x01", nil, "", packet.ErrNotIP},
		{"Cisco HDLC", packet.LinkCiscoHDLC, "\x0f\x00\x08\x00", inner4, "0 0", nil},
		{"Linux cooked", packet.LinkLinuxSLL, "\x00\x00\x00\x01\x00\x06abcdef\x00\x00\x08\x00", inner4, "0 0", nil},
		{"Linux cooked, version 2", packet.LinkLinuxSLL2, "\x86\xdd\x00\x00\x00\x00\x00\x02\x00\x01\x00\x06abcdef\x00\x00", inner6, "0 0", nil},
		{"loopback, little-endian", packet.LinkNull, "\x02\x00\x00\x00", inner4, "0 0", nil},
		{"loopback, big-endian", packet.LinkNull, "\x00\x00\x00\x1e", inner6, "0 0", nil},
		{"loopback, OpenBSD", packet.LinkLoop, "\x00\x00\x00\x18", inner6, "0 0", nil},
		{"loopback, other", packet.LinkNull, "\x07\x00\x00\x00", nil, "", packet.ErrNotIP},
		{"raw", packet.LinkRaw, "", inner6, "0 0", nil},
		{"raw, BSD", packet.LinkRawBSD, "", inner4, "0 0", nil},
		{"too many tags", packet.LinkEthernet, mac + strings.Repeat("\x81\x00\x00\x01", 17) + "\x08\x00", inner4, "", packet.ErrNesting},
		{"802.11", 105, "\x08\x00", inner4, "", packet.ErrLinkType},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := append([]byte(c.header), c.inner...)
			var p packet.Packet
			err := p.Decode(c.link, append(frame, make([]byte, 6)...), 0) // with padding
			if !errors.Is(err, c.err) {
				t.Fatalf("got error %v, want %v", err, c.err)
			}
			if c.err != nil {
				return
			}
			if vlan := fmt.Sprint(p.VLAN, p.InnerVLAN); p.DstPort != 53 || string(p.Payload) != "hello" || p.IPLen != len(c.inner) || vlan != c.vlan {
				t.Errorf("got %+v", p)
			}
			if p.HeaderChecksum() != packet.ChecksumGood || p.Checksum() != packet.ChecksumGood {
				t.Errorf("checksums %v %v", p.HeaderChecksum(), p.Checksum())
			}
			for n := range len(frame) { // cut anywhere: an error or a packet marked as cut
				if err := p.Decode(c.link, frame[:n], len(frame)); err == nil && !p.Cut() {
					t.Errorf("cut at %d of %d: nothing is missing", n, len(frame))
				}
			}
		})
	}
}

func TestIPv6ExtensionHeaders(t *testing.T) {
	body := build(t, ipv6(17), udp(), gopacket.Payload("hello"))[40:]
	last := netip.MustParseAddr("2001:db8::ffff")
	home := netip.MustParseAddr("2001:db8::aaaa")
	a, h := last.As16(), home.As16()
	for _, c := range []struct {
		name     string
		first    uint8
		headers  string
		src, dst string
	}{
		{"hop by hop", 0, "\x11\x00\x01\x04\x00\x00\x00\x00", "2001:db8::7", "2001:db8::9"},
		{"hop by hop, destination options", 0, "\x3c\x00\x01\x04\x00\x00\x00\x00" + "\x11\x00\x00\x00\x00\x00\x00\x00", "2001:db8::7", "2001:db8::9"},
		{"authentication", 51, "\x11\x04\x00\x00" + strings.Repeat("x", 20), "2001:db8::7", "2001:db8::9"},
		{"atomic fragment", 44, "\x11\x00\x00\x00\x00\x00\x00\x01", "2001:db8::7", "2001:db8::9"},
		{"routing, type 0", 43, "\x11\x02\x00\x01\x00\x00\x00\x00" + string(a[:]), "2001:db8::7", "2001:db8::ffff"},
		{"routing, type 0, arrived", 43, "\x11\x02\x00\x00\x00\x00\x00\x00" + string(a[:]), "2001:db8::7", "2001:db8::9"},
		{"routing, type 2", 43, "\x11\x02\x02\x01\x00\x00\x00\x00" + string(a[:]), "2001:db8::7", "2001:db8::ffff"},
		{"routing, type 4 (segments)", 43, "\x11\x02\x04\x01\x00\x00\x00\x00" + string(a[:]), "2001:db8::7", "2001:db8::9"},
		{"home address", 60, "\x11\x02\x01\x02\x00\x00\xc9\x10" + string(h[:]), "2001:db8::aaaa", "2001:db8::9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := build(t, ipv6(layers.IPProtocol(c.first)), gopacket.Payload(c.headers), gopacket.Payload(body))
			var p packet.Packet
			if err := p.DecodeIP(b, 0); err != nil {
				t.Fatal(err)
			}
			if p.Proto != flow.UDP || p.DstPort != 53 || p.Src.String() != c.src || p.Dst.String() != c.dst || string(p.Payload) != "hello" || p.IPLen != len(b) {
				t.Errorf("got %+v", p)
			}
		})
	}
	var p packet.Packet
	long := strings.Repeat("\x00\x00\x01\x04\x00\x00\x00\x00", 17)
	if err := p.DecodeIP(build(t, ipv6(0), gopacket.Payload(long)), 0); err != packet.ErrNesting {
		t.Errorf("17 extension headers: %v", err)
	}
	if err := p.DecodeIP(build(t, ipv6(0), gopacket.Payload("\x11\x09\x01\x04\x00\x00\x00\x00")), 0); err != packet.ErrHeader {
		t.Errorf("extension header beyond the packet: %v", err)
	}
}
