package packet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"dragnet/flow"
	"dragnet/packet"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// piece is a part of a datagram's payload.
type piece struct {
	at   int
	more bool
	data string
}

// fragment4 and fragment6 are a piece as a packet.
func fragment4(t testing.TB, id uint16, p piece) []byte {
	ip := ipv4(17)
	ip.Id, ip.FragOffset = id, uint16(p.at/8)
	if p.more {
		ip.Flags = layers.IPv4MoreFragments
	}
	return build(t, ip, gopacket.Payload(p.data))
}

func fragment6(t testing.TB, id uint16, p piece) []byte {
	h := binary.BigEndian.AppendUint16([]byte{17, 0}, uint16(p.at))
	if p.more {
		h[3] |= 1
	}
	h = binary.BigEndian.AppendUint32(h, uint32(id))
	return build(t, ipv6(44), gopacket.Payload(h), gopacket.Payload(p.data))
}

// join adds fragments and returns the payload of the datagram that came out,
// and the last error.
func join(t testing.TB, d *packet.Defragmenter, frames ...[]byte) (out []byte, err error) {
	for _, f := range frames {
		var p packet.Packet
		if e := p.DecodeIP(f, 0); e != nil || !p.Fragment {
			t.Fatalf("not a fragment: %v, %+v", e, p)
		}
		whole, e := d.Add(0, &p)
		if e != nil {
			err = e
		}
		if whole {
			if p.Fragment || !p.Reassembled || !p.Decoded || p.SrcPort != 0x6162 || p.DstPort != 0x6364 {
				t.Fatalf("got %+v", p)
			}
			out = append(out, p.Payload...)
		}
	}
	return out, err
}

// head is a UDP header with ports "ab" and "cd" and the length of "head" and n
// more octets.
func head(n int) string { return "abcd\x00" + string(rune(8+n)) + "\x00\x00" }

func TestFragments(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []piece
		want4  string
		err6   error // for IPv6 where it differs
	}{
		{"in order", []piece{{0, true, head(16)}, {8, true, "ABCDEFGH"}, {16, false, "IJKLMNOP"}}, "ABCDEFGHIJKLMNOP", nil},
		{"backwards", []piece{{16, false, "IJKLMNOP"}, {8, true, "ABCDEFGH"}, {0, true, head(16)}}, "ABCDEFGHIJKLMNOP", nil},
		{"twice", []piece{{0, true, head(8)}, {0, true, head(8)}, {8, false, "ABCDEFGH"}}, "ABCDEFGH", nil},
		{"overlap: the first wins", []piece{{0, true, head(16)}, {16, false, "IJKLMNOP"}, {8, true, "ABCDEFGHxxxxxxxx"}}, "ABCDEFGHIJKLMNOP", packet.ErrOverlap},
		{"teardrop", []piece{{0, true, head(16) + "ABCDEFGH"}, {8, true, "xxxxxxxx"}, {16, false, "IJKLMNOP"}}, "ABCDEFGHIJKLMNOP", packet.ErrOverlap},
		{"header overwritten", []piece{{0, true, head(8)}, {0, true, "xxxxxxxx"}, {8, false, "ABCDEFGH"}}, "ABCDEFGH", packet.ErrOverlap},
		{"hole", []piece{{0, true, head(16)}, {16, false, "IJKLMNOP"}}, "", nil},
		{"no end", []piece{{0, true, head(16)}, {8, true, "ABCDEFGH"}}, "", nil},
		{"beyond the end", []piece{{0, true, head(16)}, {8, false, "ABCDEFGH"}, {16, true, "x"}}, "ABCDEFGH", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var four, six [][]byte
			for _, p := range c.pieces {
				four, six = append(four, fragment4(t, 77, p)), append(six, fragment6(t, 77, p))
			}
			got, _ := join(t, packet.NewDefragmenter(), four...)
			if string(got) != c.want4 {
				t.Errorf("IPv4: got %q, want %q", got, c.want4)
			}
			got, err := join(t, packet.NewDefragmenter(), six...)
			if err != c.err6 {
				t.Errorf("IPv6: error %v, want %v", err, c.err6)
			}
			if c.err6 == nil && string(got) != c.want4 || c.err6 != nil && got != nil {
				t.Errorf("IPv6: got %q, want %q", got, c.want4)
			}
		})
	}
}

func TestImpossibleFragments(t *testing.T) {
	for name, pieces := range map[string][]piece{
		"two ends":             {{8, false, "ABCDEFGH"}, {16, false, "ABCDEFGH"}},
		"data behind the end":  {{16, true, "ABCDEFGH"}, {8, false, "ABCDEFGH"}},
		"longer than IP bears": {{65528, false, "ABCDEFGH"}},
		"empty":                {{8, true, ""}},
	} {
		var four, six [][]byte
		for _, p := range pieces {
			four, six = append(four, fragment4(t, 1, p)), append(six, fragment6(t, 1, p))
		}
		if _, err := join(t, packet.NewDefragmenter(), four...); err != packet.ErrFragment {
			t.Errorf("%s: IPv4: %v", name, err)
		}
		if _, err := join(t, packet.NewDefragmenter(), six...); err != packet.ErrFragment {
			t.Errorf("%s: IPv6: %v", name, err)
		}
	}
}

// TestShuffledFragmentsComeOutWhole cuts a datagram at random, repeats and
// shuffles the pieces, and mixes in another.
func TestShuffledFragmentsComeOutWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fragment := rapid.SampledFrom([]func(testing.TB, uint16, piece) []byte{fragment4, fragment6}).Draw(rt, "version")
		body := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(rt, "body")
		all := append(binary.BigEndian.AppendUint16([]byte("abcd"), uint16(8+len(body))), 0, 0)
		all = append(all, body...)
		var frames [][]byte
		for at := 0; at < len(all); {
			// The first piece is never all: that would be no fragment.
			n := min(len(all)-at, 8*rapid.IntRange(1, 60).Draw(rt, "length"), max(8, at+(len(all)-1)/8*8))
			p := piece{at, at+n < len(all), string(all[at : at+n])}
			frames = append(frames, fragment(t, 5, p))
			if rapid.Bool().Draw(rt, "other datagram, never whole") && at > 0 {
				frames = append(frames, fragment(t, 6, p))
			}
			at += n
		}
		got, err := join(t, packet.NewDefragmenter(), rapid.Permutation(frames).Draw(rt, "order")...)
		if err != nil || !bytes.Equal(got, body) {
			rt.Fatalf("%d octets of %d, %v", len(got), len(body), err)
		}
	})
}

// TestFragmentMemoryIsBounded floods with first pieces only.
func TestFragmentMemoryIsBounded(t *testing.T) {
	d := packet.NewDefragmenter()
	b := fragment4(t, 0, piece{0, true, string(make([]byte, 1400))})
	var p packet.Packet
	const flood = 100_000
	for i := range flood {
		binary.BigEndian.PutUint16(b[4:], uint16(i))
		binary.BigEndian.PutUint16(b[12:], uint16(i>>16))
		if err := p.DecodeIP(b, 0); err != nil {
			t.Fatal(err)
		}
		if whole, err := d.Add(flow.Time(i), &p); whole || err != nil {
			t.Fatal(whole, err)
		}
	}
	if d.Held() > 16<<20 || d.Lost < flood-16<<20/1400 {
		t.Errorf("%d bytes held, %d lost", d.Held(), d.Lost)
	}
	// A minute later all are forgotten.
	if err := p.DecodeIP(b, 0); err != nil {
		t.Fatal(err)
	}
	d.Add(120e9, &p)
	if d.Held() > 2000 {
		t.Errorf("%d bytes held a minute later", d.Held())
	}
}

func TestQuoted(t *testing.T) {
	syn := &layers.TCP{SrcPort: 40000, DstPort: 445, Seq: 0xdeadbeef, SYN: true}
	tcp4 := build(t, ipv4(6), syn)[:28] // RFC 792: the header and eight octets
	tcp6 := build(t, ipv6(6), syn)
	echo := build(t, ipv4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)})
	options := build(t, ipv6(0), gopacket.Payload("\x06\x00\x01\x04\x00\x00\x00\x00"), gopacket.Payload(tcp6[40:]))
	late := fragment4(t, 9, piece{80, true, "abcdefgh"})
	unreachable4 := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}
	unreachable6 := func(b []byte) []byte {
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(1, 3)}
		return build(t, ipv6(58), icmp, gopacket.Payload("\x00\x00\x00\x00"), gopacket.Payload(b))
	}
	for _, c := range []struct {
		name string
		b    []byte
		want packet.Quote
		ok   bool
	}{
		{"TCP", build(t, ipv4(1), unreachable4, gopacket.Payload(tcp4)),
			packet.Quote{Src: addr("198.51.100.7"), Dst: addr("203.0.113.9"), Proto: flow.TCP, SrcPort: 40000, DstPort: 445, Seq: 0xdeadbeef}, true},
		{"echo", build(t, ipv4(1), unreachable4, gopacket.Payload(echo)),
			packet.Quote{Src: addr("198.51.100.7"), Dst: addr("203.0.113.9"), Proto: flow.ICMP, SrcPort: 8, DstPort: 0}, true},
		{"IPv6", unreachable6(tcp6),
			packet.Quote{Src: addr("2001:db8::7"), Dst: addr("2001:db8::9"), Proto: flow.TCP, SrcPort: 40000, DstPort: 445, Seq: 0xdeadbeef}, true},
		{"IPv6 with options", unreachable6(options),
			packet.Quote{Src: addr("2001:db8::7"), Dst: addr("2001:db8::9"), Proto: flow.TCP, SrcPort: 40000, DstPort: 445, Seq: 0xdeadbeef}, true},
		{"quote without ports", build(t, ipv4(1), unreachable4, gopacket.Payload(tcp4[:22])), packet.Quote{}, false},
		{"IPv6 quote without ports", unreachable6(tcp6[:42]), packet.Quote{}, false},
		{"IPv6 quote cut in its options", unreachable6(options[:44]), packet.Quote{}, false},
		{"later fragment", build(t, ipv4(1), unreachable4, gopacket.Payload(late)), packet.Quote{}, false},
		{"no quote", build(t, ipv4(1), unreachable4), packet.Quote{}, false},
		{"not an error", build(t, ipv4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0)}, gopacket.Payload(tcp4)), packet.Quote{}, false},
		{"not ICMP", tcp6, packet.Quote{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p packet.Packet
			if err := p.DecodeIP(c.b, 0); err != nil {
				t.Fatal(err)
			}
			if got, ok := p.Quoted(); got != c.want || ok != c.ok {
				t.Errorf("got %+v, %v", got, ok)
			}
		})
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
