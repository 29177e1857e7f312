package pattern

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dragnet/flow"
	"dragnet/flow/key"
)

// TestListsEqualAlternatives: a clue with lists and ranges matches what the
// ports and addresses drawn say, asks for one tuple of each combination, and is
// the same pattern as its alternatives written out.
func TestListsEqualAlternatives(t *testing.T) {
	hosts := []string{"192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1"}
	rapid.Check(t, func(t *rapid.T) {
		addresses := rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 1, 2, rapid.ID[string]).Draw(t, "addresses")
		var ports []int
		var parts []string
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			first := rapid.IntRange(0, 12).Draw(t, "first")
			last := first + rapid.IntRange(0, 2).Draw(t, "more")
			part := fmt.Sprintf("%d-%d", first, last)
			if first == last {
				part = fmt.Sprint(first)
			}
			parts = append(parts, part)
			for v := first; v <= last; v++ {
				if !slices.Contains(ports, v) {
					ports = append(ports, v)
				}
			}
		}
		text := "out dst=" + strings.Join(addresses, ",") + " dport=" + strings.Join(parts, ",")
		p, err := Parse(text, NoFiles)
		if err != nil {
			t.Fatal(err)
		}
		var alternatives []string
		want := map[string]bool{}
		for _, a := range addresses {
			for _, v := range ports {
				alternatives = append(alternatives, fmt.Sprintf("out dst=%s dport=%d", a, v))
				want[fmt.Sprintf("%s %d", a, v)] = true
			}
		}
		if tuples := p.Clues[0].Tuples(); len(tuples) != len(want) {
			t.Fatalf("%s asks for %d tuples, want %d", text, len(tuples), len(want))
		} else {
			for _, v := range tuples {
				if !want[fmt.Sprintf("%s %d", v.Addr, v.DPort)] {
					t.Fatalf("%s asks for %s", text, v)
				}
			}
		}
		for _, a := range hosts {
			for v := range uint16(16) {
				f := flow.Flow{Orig: netip.MustParseAddr("192.0.2.9"), Resp: netip.MustParseAddr(a), RespPort: v, Proto: flow.TCP}
				if got := p.Clues[0].Matches(&f); got != want[fmt.Sprintf("%s %d", a, v)] {
					t.Fatalf("%s matches %s port %d: %v", text, a, v, got)
				}
			}
		}
		if len(alternatives) > MaxClues {
			return
		}
		written, err := Parse(strings.Join(alternatives, " or "), NoFiles)
		if err != nil {
			t.Fatal(err)
		}
		one, err := p.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if other, err := written.Canonical(); err != nil || other != one {
			t.Fatalf("%s is %s\nwritten out it is %s (%v)", text, one, other, err)
		}
	})
}

// TestICMPAsZeekWritesIt: Zeek logs ICMPv6 as icmp.
func TestICMPAsZeekWritesIt(t *testing.T) {
	for text, want := range map[string][]flow.Proto{
		"in src=2001:db8::1 proto=icmp":               {flow.ICMPv6},
		"in src=2001:db8::1 proto=icmp,icmp6":         {flow.ICMPv6},
		"in src=192.0.2.1 proto=icmp":                 {flow.ICMP},
		"in src=192.0.2.1,2001:db8::1 proto=icmp":     {flow.ICMP},
		"in proto=icmp":                               {flow.ICMP},
		"in proto=icmp,icmp6":                         {flow.ICMP, flow.ICMPv6},
		"in src=2001:db8::/32 proto=tcp,icmp dport=1": {flow.TCP, flow.ICMPv6},
	} {
		p, err := Parse(text, NoFiles)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Clues[0].Proto; !slices.Equal(got, want) {
			t.Errorf("%s: protocols %v, want %v", text, got, want)
		}
	}
	echo := flow.Flow{Orig: netip.MustParseAddr("2001:db8::1"), Resp: netip.MustParseAddr("2001:db8::2"), OrigPort: 128, RespPort: 129, Proto: flow.ICMPv6}
	for text, want := range map[string]bool{
		"host=2001:db8::2 proto=icmp": true, "src=2001:db8::/64 proto=icmp": true, "proto=icmp": false, "proto=icmp,icmp6 sport=128": true,
		"dst=2001:db8::2 proto=tcp,udp": false,
	} {
		f, err := ParseFilter(text, NoFiles)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Matches(&echo); got != want {
			t.Errorf("%s matches an IPv6 echo: %v, want %v", text, got, want)
		}
	}
	p, err := Parse("out dst=2001:db8::1 proto=icmp", NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Clues[0].Tuples(); len(got) != 1 || got[0].Proto != flow.ICMPv6 || got[0].Mask.Family != key.IPv6 {
		t.Errorf("asks for %v", got)
	}
}
