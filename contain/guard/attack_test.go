package guard

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

// What is held back is bounded by the router's table, and the end of that is told.
func TestFullTableOfHoldsIsTold(t *testing.T) {
	e := newEdge(t, func(c *Configuration) { c.Holds = 2 })
	for host := range 4 {
		e.scan(t, monday, addr(0, host))
	}
	if len(e.holds) != 2 || e.Stats().Refused == 0 || e.count("exhausted") == 0 || e.count("exhausted") > 40 {
		t.Errorf("%d held, %d refused, told %d times", len(e.holds), e.Stats().Refused, e.count("exhausted"))
	}
}

// A scanner that answers itself in its targets' names gains nothing: what comes
// from inside is no reply.
func TestOwnSYNACKIsNoSuccess(t *testing.T) {
	e := newEdge(t, nil)
	passed := 0
	for n := range 20_000 {
		now := monday + flow.Time(n)*second
		syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: addr(0, 1), SrcPort: uint16(n), DstPort: 80, Seq: uint32(n)}
		var dst [4]byte
		binary.BigEndian.PutUint32(dst[:], uint32(n)<<8|20<<24)
		syn.Dst = netip.AddrFrom4(dst)
		if e.Packet(now, &syn, Path{Inside: true}) {
			passed++
		}
		answer := packet.Packet{Decoded: true, Proto: flow.TCP, Src: syn.Dst, Dst: syn.Src, SrcPort: 80, DstPort: syn.SrcPort, Ack: syn.Seq + 1}
		answer.Flags = flow.SYN | flow.ACK
		e.Packet(now, &answer, Path{Inside: true})
		answer.Flags = flow.RST | flow.ACK
		e.Packet(now+second/10, &answer, Path{Outside: true})
	}
	if r := e.Edge().Report(monday + 20_000*second); passed > 600 || r.Successes != 0 {
		t.Errorf("%d of 20000 scans pass, %d successes", passed, r.Successes)
	}
}

// A neighbour is not framed by RSTs from inside, nor by SYNs in its name from
// another station.
func TestNeighbourIsNotFramed(t *testing.T) {
	e := newEdge(t, func(c *Configuration) {
		c.Validation = ValidationConfiguration{Bindings: []SourceBinding{{netip.MustParsePrefix("10.0.0.1/32"), "02:00:00:00:00:01"}, {netip.MustParsePrefix("10.0.0.2/32"), "02:00:00:00:00:02"}}}
	})
	victim, other, framed := Path{Inside: true, Station: 0x02_00_00_00_00_01}, Path{Inside: true, Station: 0x02_00_00_00_00_02}, 0
	for n := range 3000 {
		now := monday + flow.Time(n)*second
		syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: addr(0, 1), Dst: netip.AddrFrom4([4]byte{20, byte(n >> 8), byte(n), 1}), SrcPort: uint16(n), DstPort: 80, Seq: 7}
		if e.Packet(now, &syn, other) {
			framed++
		}
		e.Packet(now, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: syn.Dst, Dst: syn.Src, SrcPort: 80, DstPort: syn.SrcPort, Ack: 8}, Path{Outside: true})
		visit := syn
		visit.Dst, visit.Seq = netip.MustParseAddr("192.0.2.80"), uint32(n)
		if n%100 == 0 && !e.Packet(now, &visit, victim) {
			t.Fatalf("the victim is hindered after %d forged SYNs", n)
		}
	}
	if r := e.Edge().Report(monday + 3000*second); framed != 0 || r.Failed() > 30 || r.Verdicts[daw.Spoofed] != 3000 {
		t.Errorf("%d forged SYNs pass; %+v", framed, r.Counts)
	}
	// A third host, which is bound to nothing, is no evidence against anybody.
	for n := range 3000 {
		if !e.Packet(monday+flow.Time(4000+n)*second, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: addr(0, 3), Dst: addr(9, 9), SrcPort: uint16(n), DstPort: 80}, other) {
			t.Fatal("a source without a binding is limited")
		}
	}
}

// Without validation of sources, a decision to act has no effect here, and the
// receipt says so.
func TestNothingIsEnforcedWithoutValidation(t *testing.T) {
	e := newEdge(t, func(c *Configuration) {
		c.Station, c.Standing, c.Validation = true, StandingConfiguration{}, ValidationConfiguration{}
	})
	standing := dossier.Decision{ID: "S", Target: netip.MustParsePrefix("0.0.0.0/0"), Verdict: dossier.Active, Until: monday + 9*day, Standing: &dossier.Standing{Rule: "daw", Most: 5}}
	if err := e.ApplyPolicy(monday, e.MakeReport(monday), daw.AgentPolicy{Version: daw.MessageVersion, Days: 1, Decisions: []dossier.Decision{standing}}); err != nil {
		t.Fatal(err)
	}
	now := e.scan(t, monday, addr(0, 1))
	e.Tick(monday + day + second)
	b := e.MakeReport(monday + day + second)
	if p := e.Plan(now); len(p.Holds) != 0 || p.Acting || len(b.Persistent) != 0 || b.Validated {
		t.Errorf("plan %+v, persistent %+v, validated %v", p, b.Persistent, b.Validated)
	}
	if r := e.Receipts(now, "edge", nil); len(r) != 1 || r[0].Applied || r[0].Problem == "" {
		t.Errorf("receipts %+v", r)
	}
}

// IPv6 lets any sender name another host in an option (RFC 6275): that is not the
// source the router sees.
func TestHomeAddressIsNotTheSource(t *testing.T) {
	e := newEdge(t, nil)
	frame := make([]byte, 40+24+20)
	frame[0], frame[5], frame[6], frame[7] = 0x60, 44, 60, 64 // destination options
	src, dst := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db9::9").As16()
	copy(frame[8:], src[:])
	copy(frame[24:], dst[:])
	home := netip.MustParseAddr("2001:dead::1").As16()
	copy(frame[40:], []byte{6, 2, 1, 2, 0, 0, 201, 16})
	copy(frame[48:], home[:])
	tcp := frame[64:]
	tcp[1], tcp[3], tcp[12], tcp[13] = 1, 80, 5<<4, 2
	var p packet.Packet
	if err := p.DecodeIP(frame, len(frame)); err != nil || p.Src != netip.AddrFrom16(home) || !p.Decoded {
		t.Fatalf("%+v %v", p, err)
	}
	e.Packet(monday, &p, Path{Inside: true})
	if r := e.Edge().Report(monday); r.Requests != 1 {
		t.Errorf("%d requests: a scanner hides behind a home address", r.Requests)
	}
}

func TestValidationMistakes(t *testing.T) {
	bind := func(all ...SourceBinding) ValidationConfiguration { return ValidationConfiguration{Bindings: all} }
	prefix := netip.MustParsePrefix
	const mac = "02:00:00:00:00:01"
	for name, c := range map[string]struct {
		v  ValidationConfiguration
		ok bool
	}{
		"two stations":   {bind(SourceBinding{prefix("10.0.0.0/24"), mac}, SourceBinding{prefix("10.0.0.0/24"), "02:00:00:00:00:02"}), true},
		"beside":         {bind(SourceBinding{prefix("10.0.1.0/24"), mac}, SourceBinding{prefix("10.0.0.0/24"), mac}), true},
		"nested":         {bind(SourceBinding{prefix("10.0.0.7/32"), mac}, SourceBinding{prefix("10.0.0.0/24"), mac}), false},
		"no MAC":         {bind(SourceBinding{prefix("10.0.0.0/24"), "x"}), false},
		"a long MAC":     {bind(SourceBinding{prefix("10.0.0.0/24"), "02:00:00:00:00:00:00:01"}), false},
		"not masked":     {bind(SourceBinding{prefix("10.0.0.1/24"), mac}), false},
		"everything":     {bind(SourceBinding{prefix("0.0.0.0/0"), mac}), false},
		"IPv6 beside v4": {bind(SourceBinding{prefix("10.0.0.0/24"), mac}, SourceBinding{prefix("2001:db8::/56"), mac}), true},
	} {
		if err := c.v.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Where a network's limit drops most requests, the largest offenders are blocked,
// ever more until it no longer does, and no host that fails less.
func TestOverwhelmedNetwork(t *testing.T) {
	e := newEdge(t, func(c *Configuration) {
		c.Limits.Phi, c.Limits.Tau, c.Limits.Omega, c.Limits.Days, c.Standing.Most = 400, 5, 2000, 9, 30
		c.Limits.FirstBlock, c.Limits.Lambda = c.Standing.For, 20
	})
	worst, blocked := 0, 0
	for n := range 3600 {
		now := monday + flow.Time(n)*second
		for h := range 12 { // two hosts scan fast, ten a little
			for range 5 {
				if h < 2 || n%100 == 0 {
					e.probe(now, addr(0, h))
				}
			}
		}
	}
	for _, d := range e.own {
		if h := d.Target.Addr().As4()[3]; h < 2 {
			worst++
		} else {
			blocked++
		}
	}
	if worst != 2 || blocked > 0 {
		t.Errorf("%d of 2 scanners and %d others are blocked: %+v", worst, blocked, e.own)
	}
	if r := e.Edge().Report(monday + 3600*second); r.Overwhelmed {
		t.Error("still overwhelmed after the largest are blocked")
	}
}

// A guard lists the sources that fail most while its station asks for them, also
// those that stay below the limits.
func TestBusiestAreListedOnRequest(t *testing.T) {
	e := newEdge(t, func(c *Configuration) { c.Station, c.Standing = true, StandingConfiguration{} })
	for _, slow := range []bool{true, false} {
		if err := e.ApplyPolicy(monday, e.MakeReport(monday), daw.AgentPolicy{Version: daw.MessageVersion, Slow: slow}); err != nil {
			t.Fatal(err)
		}
		for n := range 20 {
			e.probe(monday+flow.Time(n)*60*second, addr(0, 1))
			e.probe(monday+flow.Time(n)*60*second, addr(0, 2+n))
		}
		b := e.MakeReport(monday + 1200*second)
		if len(b.Busiest) > 0 != slow || b.Validate() != nil || slow && (b.Busiest[0].Addr != addr(0, 1) || b.Busiest[0].Failures != 20 || len(b.Busiest) != daw.MaxBusiest) {
			t.Errorf("asked %v: %+v, %v", slow, b.Busiest, b.Validate())
		}
	}
}

// Under the limit of its network an IPv6 host that changes its address within its /64
// is held by its /48, with one hold.
func TestSpatialLimitHoldsThePrefix(t *testing.T) {
	e := newEdge(t, func(c *Configuration) {
		c.Limits.Phi, c.Limits.Tau, c.Limits.Omega = 300, 5, 300
		c.Scope.Sources = append(c.Scope.Sources, netip.MustParsePrefix("2001:db8::/32"))
	})
	for n := range 3000 {
		now := monday + flow.Time(n)*second
		src, dst := netip.MustParseAddr("2001:db8:1::").As16(), netip.MustParseAddr("2001:500::").As16()
		binary.BigEndian.PutUint32(src[12:], uint32(n))
		binary.BigEndian.PutUint32(dst[4:], uint32(n)) // each in another /48
		syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: netip.AddrFrom16(src), Dst: netip.AddrFrom16(dst), SrcPort: 9, DstPort: 80, Seq: 7}
		e.Packet(now, &syn, Path{Inside: true})
		e.Packet(now, &packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: syn.Dst, Dst: syn.Src, SrcPort: 80, DstPort: 9, Ack: 8}, Path{Outside: true})
	}
	if r := e.Edge().Report(monday + 3000*second); r.Verdicts[daw.Spatial] == 0 || e.Stats().Held > 20 {
		t.Errorf("%d dropped by the network's limit, %d holds", r.Verdicts[daw.Spatial], e.Stats().Held)
	}
}
