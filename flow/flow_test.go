package flow

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestTimeReachesItsEnds(t *testing.T) {
	for in, want := range map[time.Time]Time{
		time.Unix(0, 5): 5,
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC):  MaxTime,
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC):     MinTime,
		time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC): Time(time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC).UnixNano()),
	} {
		if got := FromTime(in); got != want {
			t.Errorf("%v is %d, want %d", in, got, want)
		}
	}
	var back Time
	text, _ := Time(1700000000123456789).MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != 1700000000123456789 || string(text) != "2023-11-14T22:13:20.123456789Z" {
		t.Errorf("%s read back as %d (%v)", text, back, err)
	}
	if err := back.UnmarshalText([]byte("yesterday")); err == nil || !strings.Contains(err.Error(), "RFC 3339") {
		t.Errorf("a bad time: %v", err)
	}
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		w    Window
		t    Time
		want bool
	}{
		{Window{From: 5, To: 9}, 5, true}, {Window{From: 5, To: 9}, 9, false}, {Window{From: 5}, MaxTime, true},
		{Window{}, -1, false}, {AllTime, MinTime, true},
	} {
		if got := c.w.Contains(c.t); got != c.want {
			t.Errorf("%v contains %d: %v", c.w, c.t, got)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		f                   Flow
		established, failed bool
	}{
		{Flow{Proto: TCP, State: SF}, true, false}, {Flow{Proto: TCP, State: RSTO}, true, false},
		{Flow{Proto: TCP, State: REJ}, false, true}, {Flow{Proto: TCP, State: S0}, false, true},
		{Flow{Proto: TCP, State: OTH}, false, false}, {Flow{Proto: TCP}, false, false},
		{Flow{Proto: UDP, State: S0}, false, false}, {Flow{Proto: UDP, State: SF}, true, false},
		{Flow{Proto: UDP, State: S0, ICMPError: 3<<8 | 3}, false, true},
	} {
		if c.f.Established() != c.established || c.f.Failed() != c.failed {
			t.Errorf("%v %v error %#x: established %v, failed %v", c.f.Proto, c.f.State, c.f.ICMPError, c.f.Established(), c.f.Failed())
		}
	}
}

func TestNamesReadBack(t *testing.T) {
	for s := StateUnknown; s < numStates; s++ {
		if got, ok := ParseState([]byte(s.String())); !ok || got != s {
			t.Errorf("state %v read back as %v", s, got)
		}
	}
	if _, ok := ParseState([]byte("S9")); ok {
		t.Error("S9 is not a state")
	}
	for p := range 256 {
		if got, err := ParseProto(Proto(p).String()); err != nil || got != Proto(p) {
			t.Errorf("protocol %d read back as %d (%v)", p, got, err)
		}
	}
	if got := (SYN | ACK | CWR).String(); got != "SAC" || TCPFlags(0).String() != "-" {
		t.Errorf("flags print as %q", got)
	}
}

func TestHostScope(t *testing.T) {
	for addr, global := range map[string]bool{
		"198.51.100.7": true, "2001:db8::1": true, "::ffff:198.51.100.7": true,
		"10.0.0.5": false, "172.16.0.1": false, "192.168.1.1": false, "100.64.0.1": false, "fd00::1": false,
		"fe80::1%eth0": false, "127.0.0.1": false, "224.0.0.1": false,
	} {
		h := HostAt(netip.MustParseAddr(addr), "north")
		if (h.Scope == "") != global {
			t.Errorf("%s has scope %q", addr, h.Scope)
		}
	}
	a, b := HostAt(netip.MustParseAddr("10.0.0.5"), "a"), HostAt(netip.MustParseAddr("10.0.0.5"), "b")
	if a.Compare(b) >= 0 || a.String() != "10.0.0.5%a" {
		t.Errorf("%v and %v are one host", a, b)
	}
}

func TestSite(t *testing.T) {
	p := netip.MustParsePrefix
	for want, s := range map[string]Site{
		"":                           {Networks: []netip.Prefix{p("192.0.2.0/24")}, Unused: []netip.Prefix{p("192.0.2.128/25")}},
		"networks[0]: 192.0.2.1/24":  {Networks: []netip.Prefix{p("192.0.2.1/24")}},
		"silent[0]: is not a prefix": {Silent: []netip.Prefix{{}}},
		"lies outside networks":      {Unused: []netip.Prefix{p("192.0.2.128/25")}},
	} {
		err := s.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}

func TestCoverage(t *testing.T) {
	var a, b Coverage
	a.Saw([]Flow{{Start: 9, Sampling: 1}, {Start: 5}})
	b.Saw([]Flow{{Start: 20, Sampling: 100}})
	for i := range 40 {
		b.Skip("b:1", "reason %d", i)
	}
	a.Merge(b)
	a.Merge(Coverage{})
	if a.Flows != 3 || a.From != 5 || a.To != 20 || a.Sampling != 100 || a.Skipped != 40 || len(a.Problems) != maxProblems {
		t.Errorf("merged to %+v", a)
	}
	if got := a.Problems[0].String(); got != "b:1: reason 0" {
		t.Errorf("problem prints as %q", got)
	}
}

func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := NetworkOf(netip.MustParseAddr(address), 24, 64); got.String() != want {
			t.Errorf("network of %s: %s, want %s", address, got, want)
		}
	}
}
