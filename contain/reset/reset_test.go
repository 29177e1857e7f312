//go:build linux

package reset

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

type sent struct {
	segments []Segment
	err      error
}

func (s *sent) Send(g Segment) error { s.segments = append(s.segments, g); return s.err }

const now = flow.Time(1_900_000_000_000_000_000)

func decision(change func(*dossier.Decision)) dossier.Decision {
	d := dossier.Decision{ID: "D1", Target: netip.MustParsePrefix("0.0.0.0/0"), Verdict: dossier.Active, Until: now + flow.Time(24*time.Hour),
		Standing: &dossier.Standing{Rule: dossier.RuleReset, Most: 2, Signature: "worm"}}
	if change != nil {
		change(&d)
	}
	return d
}

func sighting(from string) *dossier.Sighting {
	return &dossier.Sighting{Signature: "worm", Orig: netip.MustParseAddrPort(from), Resp: netip.MustParseAddrPort("192.0.2.10:80"), Proto: flow.TCP, Confirmed: true}
}

func resetter(x dossier.Resets) (*Resetter, *sent) {
	out := &sent{}
	r := New(Dependencies{Sender: out, Log: slog.New(slog.DiscardHandler)})
	r.again = 0
	r.Use(x)
	return r, out
}

// TestOnlyUnderADecision: each way in which a connection must be left alone leaves
// it alone.
func TestOnlyUnderADecision(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, c := range map[string]struct {
		change func(*dossier.Decision)
		seen   func(*dossier.Sighting)
		allow  []netip.Prefix
		want   dossier.ResetAction
		sent   int
	}{
		"in force":              {want: dossier.ResetDone, sent: 2},
		"dry run":               {change: func(d *dossier.Decision) { d.Verdict = dossier.DryRun }, want: dossier.ResetDryRun},
		"not approved":          {change: func(d *dossier.Decision) { d.Verdict = dossier.Proposed }},
		"undone":                {change: func(d *dossier.Decision) { d.Verdict = dossier.Undone }},
		"over":                  {change: func(d *dossier.Decision) { d.Until = now }},
		"another signature":     {seen: func(s *dossier.Sighting) { s.Signature = "worm2" }},
		"others' connections":   {change: func(d *dossier.Decision) { d.Target = prefix("198.51.100.0/24") }},
		"beginning not seen":    {seen: func(s *dossier.Sighting) { s.Confirmed = false }},
		"a datagram":            {seen: func(s *dossier.Sighting) { s.Proto = flow.UDP }},
		"the sender is allowed": {allow: []netip.Prefix{prefix("203.0.113.2/32")}, want: dossier.ResetAllowed},
		"the other is allowed":  {allow: []netip.Prefix{prefix("192.0.2.0/24")}, want: dossier.ResetAllowed},
	} {
		x := dossier.Resets{Decisions: []dossier.Decision{decision(c.change)}, Allow: c.allow}
		if err := x.Check(); err != nil {
			t.Fatal(name, err)
		}
		r, out := resetter(x)
		s := sighting("203.0.113.2:4000")
		if c.seen != nil {
			c.seen(s)
		}
		r.Take(now, s, 111, 222)
		if s.Action != c.want || len(out.segments) != c.sent || (s.Decision != "") != (c.want != "") {
			t.Errorf("%s: %q under %q, %d sent", name, s.Action, s.Decision, len(out.segments))
		}
	}
}

// TestBounds: no more senders than the decision says have connections reset in an
// hour, however many there are; and a resetter without a socket is a dry run.
func TestBounds(t *testing.T) {
	r, out := resetter(dossier.Resets{Decisions: []dossier.Decision{decision(nil)}})
	for i, c := range []struct {
		from string
		at   flow.Time
		want dossier.ResetAction
	}{
		{"203.0.113.2:1", now, dossier.ResetDone}, {"203.0.113.3:1", now, dossier.ResetDone}, {"203.0.113.4:1", now, dossier.ResetBounded},
		{"203.0.113.3:2", now + 1, dossier.ResetDone}, {"203.0.113.4:2", now + window + 1, dossier.ResetDone}, {"203.0.113.5:2", now + window + 1, dossier.ResetBounded},
	} {
		s := sighting(c.from)
		r.Take(c.at, s, 0, 0)
		if s.Action != c.want {
			t.Errorf("%d: %s: %q, want %q", i, c.from, s.Action, c.want)
		}
	}
	if len(out.segments) != 8 {
		t.Errorf("%d segments sent", len(out.segments))
	}
	out.err = errors.New("no buffers")
	s := sighting("203.0.113.3:9")
	if r.Take(now+window+2, s, 0, 0); s.Action != dossier.ResetFailed {
		t.Errorf("a segment that was not sent counts as %q", s.Action)
	}
	dry := New(Dependencies{Log: slog.New(slog.DiscardHandler)})
	dry.Use(dossier.Resets{Decisions: []dossier.Decision{decision(nil)}})
	if dry.Take(now, s, 0, 0); s.Action != dossier.ResetDryRun {
		t.Errorf("without a socket: %q", s.Action)
	}
}

// TestCheck refuses decisions that are not bounded.
func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*dossier.Decision){
		"not standing": func(d *dossier.Decision) { d.Standing = nil },
		"daw":          func(d *dossier.Decision) { d.Standing.Rule = "daw" },
		"no bound":     func(d *dossier.Decision) { d.Standing.Most = 0 },
		"no signature": func(d *dossier.Decision) { d.Standing.Signature = "" },
		"no target":    func(d *dossier.Decision) { d.Target = netip.Prefix{} },
	} {
		x := dossier.Resets{Decisions: []dossier.Decision{decision(change)}}
		if x.Check() == nil {
			t.Error(name)
		}
	}
}

// TestEncode has the decoder read what is sent, and check its sums.
func TestEncode(t *testing.T) {
	for _, g := range []Segment{
		{From: netip.MustParseAddrPort("203.0.113.2:4000"), To: netip.MustParseAddrPort("192.0.2.10:80"), Seq: 0xfffffffe},
		{From: netip.MustParseAddrPort("[2001:db8::2]:4000"), To: netip.MustParseAddrPort("[2001:db8:1::10]:80"), Seq: 7},
		{From: netip.MustParseAddrPort("203.0.113.2:4000"), To: netip.MustParseAddrPort("192.0.2.10:80"), Ack: 0xfffffffe, HasAck: true},
	} {
		b := encode(g)
		var p packet.Packet
		if err := p.Decode(packet.LinkRaw, b, len(b)); err != nil {
			t.Fatal(err)
		}
		flags := flow.RST
		if g.HasAck {
			flags |= flow.ACK
		}
		if p.Src != g.From.Addr() || p.DstPort != g.To.Port() || p.Seq != g.Seq || p.Ack != g.Ack || p.Flags != flags || p.Checksum() != packet.ChecksumGood {
			t.Errorf("%+v: %+v", g, p)
		}
	}
}

// TestAnswerTo: a segment with ACK is answered by its number, another one by
// acknowledging all of it.
func TestAnswerTo(t *testing.T) {
	p := packet.Packet{Src: netip.MustParseAddr("192.0.2.10"), Dst: netip.MustParseAddr("203.0.113.2"), SrcPort: 80, DstPort: 4000, Seq: 10, Ack: 20, PayloadLen: 3}
	from, to := netip.MustParseAddrPort("203.0.113.2:4000"), netip.MustParseAddrPort("192.0.2.10:80")
	for flags, want := range map[flow.TCPFlags]Segment{
		flow.ACK | flow.FIN: {From: from, To: to, Seq: 20}, flow.SYN: {From: from, To: to, Ack: 14, HasAck: true},
		flow.FIN: {From: from, To: to, Ack: 14, HasAck: true}, 0: {From: from, To: to, Ack: 13, HasAck: true},
	} {
		p.Flags = flags
		if got := AnswerTo(&p); got != want {
			t.Errorf("%s: %+v, want %+v", flags, got, want)
		}
	}
}
