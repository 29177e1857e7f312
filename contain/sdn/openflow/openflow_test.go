package openflow

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// statsOf turns rules into a reply, as a switch would: match and instructions
// have the form they have in AddRule.
func statsOf(rules ...Rule) (b []byte) {
	for _, r := range rules {
		rest := AddRule(r)[40:]
		one := make([]byte, 48)
		binary.BigEndian.PutUint16(one, uint16(48+len(rest)))
		one[2] = r.Table
		binary.BigEndian.PutUint16(one[12:], r.Priority)
		binary.BigEndian.PutUint16(one[16:], r.Hard)
		binary.BigEndian.PutUint64(one[24:], r.Cookie)
		b = append(append(b, one...), rest...)
	}
	return b
}

func TestRulesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rules []Rule
		for range rapid.IntRange(0, 5).Draw(t, "rules") {
			bytes := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")
			if rapid.Bool().Draw(t, "six") {
				bytes = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
			}
			a, _ := netip.AddrFromSlice(bytes)
			p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
			if err != nil {
				t.Fatal(err)
			}
			m := Match{Source: p, InPort: rapid.Uint32().Draw(t, "in port")}
			if rapid.Bool().Draw(t, "destined") {
				if m.Destination, err = a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits of the destination")); err != nil {
					t.Fatal(err)
				}
			}
			rules = append(rules, Rule{
				Table: rapid.Byte().Draw(t, "table"), Priority: rapid.Uint16().Draw(t, "priority"), Cookie: rapid.Uint64().Draw(t, "cookie"), Hard: rapid.Uint16().Draw(t, "hard"),
				Match:  m,
				Action: Action{Meter: rapid.Uint32().Draw(t, "meter"), EtherSource: [6]byte(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "Ethernet source")), Ports: rapid.SliceOfN(rapid.Uint32(), 0, 3).Draw(t, "ports")},
			})
		}
		got, err := ParseRules(statsOf(rules...))
		if err != nil || len(got) != len(rules) {
			t.Fatalf("%d of %d rules, %v", len(got), len(rules), err)
		}
		for i, r := range rules {
			if len(r.Action.Ports) == 0 {
				r.Action.Ports = nil
			}
			if !reflect.DeepEqual(got[i].Rule, r) {
				t.Errorf("%+v came back as %+v", r, got[i].Rule)
			}
		}
	})
}

func TestMessagesComeBack(t *testing.T) {
	m := Message{Version13, FlowMod, 7, AddRule(Rule{Match: Match{Source: netip.MustParsePrefix("10.0.0.0/8")}})}
	b := m.Append([]byte{1})[1:]
	got, err := ReadMessage(bytes.NewReader(b))
	if err != nil || !reflect.DeepEqual(got, m) || len(b)%8 != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range b {
		if _, err := ReadMessage(bytes.NewReader(b[:n])); err == nil {
			t.Errorf("%d of %d bytes are a message", n, len(b))
		}
	}
}

func TestMetersComeBack(t *testing.T) {
	m := Meter{5, 1000, 2000}
	b := AddMeter(m) // command, flags, number, band: the reply has its length first
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	if got, err := ParseMeters(append(b, b...)); err != nil || len(got) != 2 || got[0] != m {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestHelloNegotiates(t *testing.T) {
	for name, c := range map[string]struct {
		m    Message
		want bool
	}{
		"bitmap with 1.3":    {Message{Version: 6, Body: []byte{0, 1, 0, 8, 0, 0, 0, 0x72}}, true},
		"bitmap without":     {Message{Version: 6, Body: []byte{0, 1, 0, 8, 0, 0, 0, 0x62}}, false},
		"1.3 without bitmap": {Message{Version: 4}, true},
		"1.0 without bitmap": {Message{Version: 1}, false},
		"another element":    {Message{Version: 4, Body: []byte{0, 9, 0, 5, 1, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 2}}, false},
		"damaged element":    {Message{Version: 4, Body: []byte{0, 1, 0, 0}}, true},
	} {
		if got := Offers13(c.m); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzReplies parses what a switch may send as each kind of reply: none may panic
// or take more memory than bytes, and rules that are understood come back.
func FuzzReplies(f *testing.F) {
	f.Add(Message{Version13, Hello, 1, HelloBody()}.Append(nil))
	f.Add(Message{Version13, MultipartReply, 2, append([]byte{0, 1, 0, 1, 0, 0, 0, 0}, statsOf(Rule{Match: Match{Source: netip.MustParsePrefix("fd00::/8")}, Action: Action{Meter: 3, Ports: []uint32{PortNormal}}})...)}.Append(nil))
	f.Add(Message{Version13, MultipartReply, 2, append([]byte{0, 1, 0, 1, 0, 0, 0, 0}, statsOf(Rule{Match: Match{Source: netip.MustParsePrefix("10.0.0.1/32"), Destination: netip.MustParsePrefix("10.0.0.0/8"), InPort: 7}, Action: Action{EtherSource: [6]byte{2, 0, 0, 0, 0, 1}, Ports: []uint32{PortIn}}})...)}.Append(nil))
	f.Add(Message{Version13, MultipartReply, 2, append([]byte{0, 10, 0, 0, 0, 0, 0, 0}, AddMeter(Meter{1, 2, 3})...)}.Append(nil))
	f.Add(Message{Version13, MultipartReply, 2, append([]byte{0, 13, 0, 0, 0, 0, 0, 0}, make([]byte, 64)...)}.Append(nil))
	f.Add(Message{Version13, Error, 2, []byte{0, 5, 0, 1}}.Append(nil))
	f.Add(Message{Version13, Experimenter, 2, BundleBody(1, OpenBundle)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("%x came back as %x", b, again)
		}
		Offers13(m)
		_, _ = Datapath(m.Body)
		if failure, err := ParseFailure(m.Body); err == nil && failure.Error() == "" {
			t.Error("a failure without words")
		}
		_, _, _ = ParseBundle(m.Body)
		_, _, reply, err := ParseMultipart(m.Body)
		if err != nil {
			return
		}
		_, _ = ParseMeters(reply)
		_, _ = ParseMeterLimit(reply)
		_, _ = ParsePorts(reply)
		rules, err := ParseRules(reply)
		if len(rules) > len(reply)/48 {
			t.Fatalf("%d rules of %d bytes", len(rules), len(reply))
		}
		if err != nil {
			return
		}
		for _, r := range rules {
			_ = r.Left()
			if r.Match.Others > 0 || r.Action.Others > 0 || len(r.Action.Ports) > 1000 {
				continue
			}
			again, err := ParseRules(statsOf(r.Rule))
			if err != nil || len(again) != 1 || !again[0].Action.Equal(r.Action) || again[0].Match != r.Match {
				t.Errorf("%+v came back as %+v, %v", r, again, err)
			}
		}
	})
}
