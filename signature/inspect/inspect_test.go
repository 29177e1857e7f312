package inspect

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/signature"
	"dragnet/simulate/variants"
)

var (
	client = netip.MustParseAddrPort("198.51.100.7:40000")
	server = netip.MustParseAddrPort("203.0.113.80:80")
)

func send(from, to netip.AddrPort, seq, ack uint32, flags flow.TCPFlags, data []byte) *packet.Packet {
	return &packet.Packet{Proto: flow.TCP, Decoded: true, Src: from.Addr(), SrcPort: from.Port(), Dst: to.Addr(), DstPort: to.Port(),
		Seq: seq, Ack: ack, Flags: flags, Payload: data, PayloadLen: len(data)}
}

// carry are the packets of a connection in which the client sends data, in
// segments, and ends; with a wrong guess of the server's number if it is forged.
func carry(from, to netip.AddrPort, data []byte, forged bool) []*packet.Packet {
	ack := uint32(5000)
	if forged {
		ack += 77777
	}
	all := []*packet.Packet{send(from, to, 999, 0, flow.SYN, nil), send(to, from, 4999, 1000, flow.SYN|flow.ACK, nil), send(from, to, 1000, ack, flow.ACK, nil)}
	seq := uint32(1000)
	for len(data) > 0 {
		n := min(1400, len(data))
		all = append(all, send(from, to, seq, ack, flow.ACK, data[:n]))
		seq, data = seq+uint32(n), data[n:]
	}
	return append(all, send(from, to, seq, ack, flow.ACK|flow.FIN, nil), send(to, from, 5000, seq+1, flow.ACK|flow.FIN, nil))
}

func bounds() Configuration {
	return Configuration{Bytes: 1 << 20, Held: 64 << 20, Connections: 1 << 16, IgnoreChecksums: true}
}

func inspector(t testing.TB, c Configuration, all ...*dossier.Signature) *Inspector {
	t.Helper()
	s := new(Signatures)
	if err := s.Use(all); err != nil {
		t.Fatal(err)
	}
	return New(c, s)
}

var exact = &dossier.Signature{Name: "copy", Exact: []dossier.Exact{{Bytes: []byte("a whole captured copy of something")}}}

// learn learns the PADS of a family, and returns variants that it has not seen.
func learn(t testing.TB) (*dossier.Signature, [][]byte) {
	t.Helper()
	template, err := variants.Family("alder", 1)
	if err != nil {
		t.Fatal(err)
	}
	r := variants.Published()
	r.CarrierMax = 3 << 10
	var samples, unseen [][]byte
	for n := range uint64(40) {
		samples, unseen = append(samples, r.Make(template, 3, n).Bytes), append(unseen, r.Make(template, 3, 1<<40+n).Bytes)
	}
	s, err := signature.Learn(context.Background(), samples, signature.NewClean(nil, samples), signature.Options{Name: "alder"})
	if err != nil {
		t.Fatal(err)
	}
	return s, unseen
}

// TestVariantsOnTheWire: variants that were never captured are seen in
// connections, with who sent them; other payload is not.
func TestVariantsOnTheWire(t *testing.T) {
	testkit.Long(t) // learning takes a minute under the race detector
	s, unseen := learn(t)
	i := inspector(t, bounds(), s)
	random := rand.New(rand.NewPCG(1, 1))
	for n, payload := range unseen {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), 40000)
		other := make([]byte, len(payload))
		for k := range other {
			other[k] = byte(random.Uint32())
		}
		at := flow.Time(n) * 1e9
		for _, p := range append(carry(from, server, payload, false), carry(netip.MustParseAddrPort("192.0.2.1:7"), netip.AddrPortFrom(server.Addr(), uint16(1000+n)), other, false)...) {
			at++
			i.Packet(at, p)
		}
	}
	seen := i.Take()
	if len(seen.Sightings) < 36 || seen.Sequences != 80 || seen.Skipped != 0 {
		t.Fatalf("%d of 40 variants seen; %d sequences, %d bytes skipped", len(seen.Sightings), seen.Sequences, seen.Skipped)
	}
	for _, x := range seen.Sightings {
		if x.Signature != "alder" || x.Resp != server || x.FromResp || !x.Confirmed || x.Omega <= 0 {
			t.Errorf("%+v", x)
		}
	}
	if again := i.Take(); len(again.Sightings) > 0 || again.Bytes > 0 {
		t.Errorf("seen again: %+v", again)
	}
}

// TestWhoSentIt: the sender is named by direction, and confirmed only if it knows
// what the other end told it.
func TestWhoSentIt(t *testing.T) {
	payload := append([]byte("before "), exact.Exact[0].Bytes...)
	syn, synAck := send(client, server, 999, 0, flow.SYN, nil), send(server, client, 4999, 1000, flow.SYN|flow.ACK, nil)
	for name, x := range map[string]struct {
		packets             []*packet.Packet
		confirmed, fromResp bool
	}{
		"client":      {carry(client, server, payload, false), true, false},
		"forged":      {carry(client, server, payload, true), false, false},
		"no answer":   {[]*packet.Packet{syn, send(client, server, 1000, 5000, flow.ACK, payload)}, false, false},
		"data at SYN": {[]*packet.Packet{send(client, server, 999, 0, flow.SYN, payload)}, false, false},
		"middle":      {[]*packet.Packet{send(client, server, 1000, 5000, flow.ACK, payload), send(server, client, 5000, 1000, flow.ACK, nil)}, false, false},
		"server":      {[]*packet.Packet{syn, synAck, send(server, client, 5000, 1000, flow.ACK, payload)}, true, true},
		// Who does not see the client's packets does not know what to acknowledge.
		"forged server": {[]*packet.Packet{syn, send(server, client, 4999, 123456, flow.SYN|flow.ACK, nil), send(server, client, 5000, 123456, flow.ACK, payload)}, false, true},
		"datagram":      {[]*packet.Packet{{Proto: flow.UDP, Decoded: true, Src: client.Addr(), SrcPort: 1, Dst: server.Addr(), DstPort: 69, Payload: payload, PayloadLen: len(payload)}}, false, false},
	} {
		i := inspector(t, bounds(), exact)
		for n, p := range x.packets {
			i.Packet(flow.Time(n), p)
		}
		i.Flush()
		seen := i.Take()
		if len(seen.Sightings) != 1 || seen.Sightings[0].Confirmed != x.confirmed || seen.Sightings[0].FromResp != x.fromResp || !seen.Sightings[0].Exact {
			t.Errorf("%s: %+v", name, seen.Sightings)
		}
	}
}

// TestSeenBeforeTheEnd: a connection that stays open is judged a second later,
// also if the payload comes in pieces far apart.
func TestSeenBeforeTheEnd(t *testing.T) {
	i := inspector(t, bounds(), exact)
	at := flow.Time(0)
	for n, b := range exact.Exact[0].Bytes {
		at += flow.Time(20 * time.Second)
		i.Packet(at, send(client, server, 1000+uint32(n), 1, flow.ACK, []byte{b}))
		i.Advance(at + flow.Time(2*time.Second))
	}
	if seen := i.Take(); len(seen.Sightings) != 1 {
		t.Fatalf("%+v", seen)
	}
	i.Packet(at, send(client, server, 2000, 1, flow.ACK, []byte("more")))
	i.Flush()
	if seen := i.Take(); len(seen.Sightings) != 0 {
		t.Errorf("reported twice: %+v", seen.Sightings)
	}
}

// TestHeldIsBounded: many open connections that each send a lot are given up
// before they take more than was allowed, and what was not compared is counted.
func TestHeldIsBounded(t *testing.T) {
	long := &dossier.Signature{Name: "long", Exact: []dossier.Exact{{Bytes: bytes.Repeat([]byte("x"), 200<<10)}}}
	c := bounds()
	c.Held, c.Bytes = 2<<20, 300<<10
	i := inspector(t, c, long)
	chunk := make([]byte, 60<<10)
	sent := 0
	for round := range uint32(6) {
		for n := range 100 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), 40000)
			i.Packet(flow.Time(round), send(from, server, 1000+round*uint32(len(chunk)), 1, flow.ACK, chunk))
			sent += len(chunk)
			held := 0
			for s := range i.open {
				held += s.stream.Held()
			}
			if held != i.held || held > c.Held {
				t.Fatalf("%d bytes are held, counted as %d, allowed %d", held, i.held, c.Held)
			}
		}
	}
	i.Flush()
	seen := i.Take()
	if int(seen.Bytes+seen.Skipped) != sent || seen.Skipped == 0 || i.held != 0 || len(i.open)+len(i.fresh) != 0 {
		t.Errorf("%d bytes compared and %d skipped of %d; %d held in the end", seen.Bytes, seen.Skipped, sent, i.held)
	}
}

// TestManySightings: a flood of them is counted, within a bound.
func TestManySightings(t *testing.T) {
	i := inspector(t, bounds(), exact)
	for n := range 2000 {
		p := &packet.Packet{Proto: flow.UDP, Decoded: true, Src: netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), Dst: server.Addr(), DstPort: 69, Payload: exact.Exact[0].Bytes}
		p.PayloadLen = len(p.Payload)
		i.Packet(flow.Time(n), p)
		i.Packet(flow.Time(n), p)
	}
	seen := i.Take()
	total := seen.Lost
	for _, s := range seen.Sightings {
		total += s.Count
	}
	if len(seen.Sightings) != dossier.MaxSightings || total != 4000 {
		t.Errorf("%d sightings, %d in all, %d lost", len(seen.Sightings), total, seen.Lost)
	}
	body, err := seen.Encode()
	if err != nil || len(body) > 1<<20 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

// TestSignaturesChange: without any, nothing is kept; those that are put into use
// count for connections that begin afterwards.
func TestSignaturesChange(t *testing.T) {
	s := new(Signatures)
	i := New(bounds(), s)
	deliver := func() int {
		for _, p := range carry(client, server, exact.Exact[0].Bytes, false) {
			i.Packet(1, p)
		}
		return len(i.Take().Sightings)
	}
	for n, want := range []int{0, 1, 0} {
		var use []*dossier.Signature
		if want == 1 {
			use = append(use, exact)
		}
		if err := s.Use(use); err != nil {
			t.Fatal(err)
		}
		if got := deliver(); got != want || len(i.open) > 0 {
			t.Errorf("round %d: %d sightings, want %d", n, got, want)
		}
	}
}

func BenchmarkInspector(b *testing.B) {
	pads, _ := learn(b)
	payload := make([]byte, 64<<10)
	random := rand.New(rand.NewPCG(1, 1))
	for k := range payload {
		payload[k] = "etaoin shrdlu\r\n/:.0123"[random.IntN(22)]
	}
	packets := carry(client, server, payload, false)
	for _, n := range []int{1, 10, 100} {
		for kind, first := range map[string]*dossier.Signature{"pads": pads, "exact": exact} {
			b.Run(fmt.Sprintf("%s=%d", kind, n), func(b *testing.B) {
				var all []*dossier.Signature
				for k := range n {
					one := *first
					one.Name = fmt.Sprint(k)
					if kind == "exact" {
						one.Exact = []dossier.Exact{{Bytes: fmt.Appendf(nil, "POST /%d %s", k*7919, first.Exact[0].Bytes)}}
					}
					all = append(all, &one)
				}
				i := inspector(b, bounds(), all...)
				b.SetBytes(int64(len(payload)))
				for at := flow.Time(0); b.Loop(); at += 1e6 {
					for _, p := range packets {
						i.Packet(at, p)
					}
				}
			})
		}
	}
}

// TestLifecycle: what a signature on probation matches is marked, and no connection is
// reset for it; a retired signature is not looked for, and one that expires while it is in
// use is not reported from then on, by the packets' time or the clock's.
func TestLifecycle(t *testing.T) {
	now := time.Now()
	with := func(d dossier.Lifecycle) *dossier.Signature {
		s := *exact
		d.By, d.At = "alice", now
		if err := s.Decide(d); err != nil {
			t.Fatal(err)
		}
		return &s
	}
	for name, c := range map[string]struct {
		s         *dossier.Signature
		later     time.Duration
		sightings int
		probation bool
	}{
		"probation": {with(dossier.Lifecycle{Status: dossier.SignatureOnProbation}), 0, 1, true},
		"active":    {with(dossier.Lifecycle{Status: dossier.SignatureActive, Expires: now.Add(time.Hour)}), 0, 1, false},
		"expires":   {with(dossier.Lifecycle{Status: dossier.SignatureActive, Expires: now.Add(time.Hour)}), 2 * time.Hour, 0, false},
		"expired":   {with(dossier.Lifecycle{Status: dossier.SignatureActive, Expires: now.Add(-time.Hour)}), -2 * time.Hour, 0, false},
		"retired":   {with(dossier.Lifecycle{Status: dossier.SignatureRetired}), 0, 0, false},
	} {
		resets := 0
		bounded := bounds()
		bounded.Reset = func(flow.Time, *dossier.Sighting, uint32, uint32) { resets++ }
		i := inspector(t, bounded, c.s)
		i.signatures.JudgePromptly(true)
		at := flow.FromTime(now.Add(c.later))
		for _, p := range carry(client, server, exact.Exact[0].Bytes, false) {
			at++
			i.Packet(at, p)
		}
		i.Flush()
		seen := i.Take().Sightings
		if len(seen) != c.sightings || len(seen) > 0 && seen[0].Probation != c.probation {
			t.Errorf("%s: %+v", name, seen)
		}
		if want := c.sightings == 1 && !c.probation; (resets > 0) != want {
			t.Errorf("%s: %d resets", name, resets)
		}
	}
}
