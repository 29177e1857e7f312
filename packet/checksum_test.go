package packet_test

import (
	"encoding/binary"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestChecksums(t *testing.T) {
	payload := gopacket.Payload("an odd number of octets, and more than 32 of them")
	icmp4 := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}
	icmp6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	tcp := &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}
	for _, c := range []struct {
		name string
		b    []byte
		at   int // of the checksum
	}{
		{"TCP", build(t, ipv4(6), tcp, payload), 20 + 16},
		{"TCP, IPv6", build(t, ipv6(6), tcp, payload), 40 + 16},
		{"UDP", build(t, ipv4(17), udp(), payload), 20 + 6},
		{"UDP, IPv6", build(t, ipv6(17), udp(), payload), 40 + 6},
		{"ICMP", build(t, ipv4(1), icmp4, payload), 20 + 2},
		{"ICMPv6", build(t, ipv6(58), icmp6, gopacket.Payload("\x00\x01\x00\x01odd")), 40 + 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p packet.Packet
			check := func(what string, want packet.Checksum) {
				t.Helper()
				if err := p.DecodeIP(c.b, 0); err != nil {
					t.Fatal(err)
				}
				if got := p.Checksum(); got != want {
					t.Errorf("%s: got %v, want %v", what, got, want)
				}
			}
			check("right", packet.ChecksumGood)
			for i := c.at; i < len(c.b); i++ {
				c.b[i] ^= 0x40
				check("one bit wrong", packet.ChecksumBad)
				c.b[i] ^= 0x40
			}
			if p.Proto == flow.ICMP {
				return // has no pseudo header to be offloaded
			}
			// What Linux leaves to the network card: the sum of the pseudo
			// header, not inverted.
			binary.BigEndian.PutUint16(c.b[c.at:], pseudo(p))
			check("offloaded", packet.ChecksumOffloaded)
		})
	}
}

// pseudo sums addresses, protocol and length the plain way.
func pseudo(p packet.Packet) uint16 {
	sum := uint32(p.Proto) + uint32(p.IPLen-20)
	src, dst := p.Src.AsSlice(), p.Dst.AsSlice()
	if p.Version() == 6 {
		sum = uint32(p.Proto) + uint32(p.IPLen-40)
	}
	for i := 0; i < len(src); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(src[i:])) + uint32(binary.BigEndian.Uint16(dst[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestIPv4HeaderChecksum(t *testing.T) {
	b := build(t, ipv4(17), udp(), gopacket.Payload("x"))
	var p packet.Packet
	for i := range 20 {
		b[i] ^= 1
		if err := p.DecodeIP(b, 64); err == nil && !p.Fragment && p.HeaderChecksum() != packet.ChecksumBad {
			t.Errorf("octet %d changed and not noticed", i)
		}
		b[i] ^= 1
	}
	b[10], b[11] = 0, 0
	if err := p.DecodeIP(b, 0); err != nil || p.HeaderChecksum() != packet.ChecksumOffloaded {
		t.Errorf("no checksum: %v, %v", err, p.HeaderChecksum())
	}
}

// TestChecksumsOfRealTraffic reads a capture made on one of the hosts: what
// came from the other is right, what the host sent was left to its card.
func TestChecksumsOfRealTraffic(t *testing.T) {
	f, err := capture.Open(testkit.Data(t, "zeek-traces", "Traces", "ssh", "sshguess.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var n [3]int
	var p packet.Packet
	for {
		rec, err := f.Next()
		if err != nil {
			break
		}
		if p.Decode(rec.Link, rec.Data, rec.Wire) == nil && p.Decoded {
			n[p.Checksum()]++
		}
	}
	if n[packet.ChecksumGood] < 200 || n[packet.ChecksumOffloaded] < 100 || n[packet.ChecksumBad] > 0 {
		t.Errorf("good, offloaded, bad: %v", n)
	}
}
