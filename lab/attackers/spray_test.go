package attackers_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/lab/attackers"
)

// community asks an attacker and honest witnesses about one address, and says what
// became of the attacker's answers.
type community struct {
	t *testing.T
	q *detective.Inquiry
}

func newCommunity(t *testing.T, bits uint8) community {
	p, err := pattern.Parse("out dst=203.0.113.5 proto=tcp dport=23", pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	q, err := detective.New(detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: bits}, Style: detective.SelfDescribing,
		Window: flow.AllTime, Epoch: "2026-11-22", Quorum: 1,
	}, p)
	if err != nil {
		t.Fatal(err)
	}
	return community{t, q}
}

func (c community) testify(name string, earlier detective.Earlier, log flow.Log) detective.TestimonySummary {
	c.t.Helper()
	bounds := witness.DefaultConfiguration()
	w, err := witness.New(bounds, name, log, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	sealed, _, err := w.Answer(c.t.Context(), c.q.Question())
	if err != nil {
		c.t.Fatal(err)
	}
	h, err := c.q.OpenTestimonyFrom(c.t.Context(), detective.KnownWitness{Name: name, Class: name, Verified: true, Earlier: earlier}, sealed)
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

func (c community) lie(claim uint64, most int, earlier detective.Earlier) detective.TestimonySummary {
	c.t.Helper()
	return c.testify("liar", earlier, &attackers.Spray{
		Question: c.q.Question(), Service: key.Tuple{DPort: 23, Proto: flow.TCP}, Framed: netip.MustParseAddr("192.0.2.66"), Claim: claim, Most: most,
	})
}

// newHonest is a log of n flows to random services, and one to the address asked
// about.
func newHonest(seed uint64, n int, saw netip.Addr) memory {
	random := rand.New(rand.NewPCG(seed, 1))
	out := memory{{Start: 1, Orig: saw, Resp: netip.MustParseAddr("203.0.113.5"), RespPort: 23, Proto: flow.TCP, State: flow.SF}}
	for range n {
		out = append(out, flow.Flow{Start: 1, Orig: address(0xc0000200 | random.Uint32N(256)), Resp: address(random.Uint32N(224 << 24)), RespPort: uint16(random.Uint32()), Proto: flow.TCP, State: flow.SF})
	}
	return out
}

func (c community) names(host string) bool {
	for _, h := range c.q.Result().Hosts {
		if h.Addr == netip.MustParseAddr(host) {
			return true
		}
	}
	return false
}

// TestSprayIsNotBelieved: 7,141 invented answers framed a host where one witness
// suffices (k = 1), if only the liar claimed a billion flows.
func TestSprayIsNotBelieved(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	for _, claim := range []uint64{0, 1e6, 1e8, 1e9, 1e15} {
		c := newCommunity(t, 19)
		h := c.lie(claim, 1<<17, detective.Earlier{})
		if h.Opened == 0 || h.Answers < 7000 {
			t.Fatalf("claiming %d: %d answers, %d opened: the attack should reach the asker, or this test shows nothing", claim, h.Answers, h.Opened)
		}
		if c.names("192.0.2.66") {
			t.Errorf("claiming %d flows, %d invented answers frame a host", claim, h.Answers)
		}
	}
}

// TestSprayBesideOthers: honest witnesses of the same inquiry are believed, and what
// they answer, or what the liar said before, bounds a smaller spray.
func TestSprayBesideOthers(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	c := newCommunity(t, 14)
	for i, name := range []string{"a", "b", "c"} {
		c.testify(name, detective.Earlier{}, newHonest(uint64(i), 60_000*(1+3*i), netip.MustParseAddr("192.0.2.7")))
	}
	h := c.lie(200_000, 5000, detective.Earlier{})
	r := c.q.Result()
	for _, w := range r.Witnesses {
		if w.Sprays != (w.Name == "liar") {
			t.Errorf("%s with %d answers: sprays %v", w.Name, w.Answers, w.Sprays)
		}
	}
	if !c.names("192.0.2.7") || c.names("192.0.2.66") {
		t.Errorf("hosts are %v; want the one that all saw, and not the one framed by %d answers", r.Hosts, h.Answers)
	}

	// As many answers as 3 * 10^8 / 2^19 + 64 would pass alone, but not of one that
	// had a thousand flows until now.
	for _, test := range []struct {
		earlier detective.Earlier
		sprays  bool
	}{
		{detective.Earlier{}, false},
		{detective.Earlier{Inquiries: 1, Flows: 1000}, false},
		{detective.Earlier{Inquiries: 5, Flows: 1000}, true},
		{detective.Earlier{Inquiries: 5, Flows: 5e7}, false},
	} {
		c := newCommunity(t, 19)
		h := c.lie(1e9, 500, test.earlier)
		if got := c.q.Result().Witnesses[0].Sprays; got != test.sprays {
			t.Errorf("%d answers after %+v: sprays %v", h.Answers, test.earlier, got)
		}
	}
}

// TestHonestWitnessesDoNotSpray: of random sizes, beside each other, none is taken for
// a liar.
func TestHonestWitnessesDoNotSpray(t *testing.T) {
	random := rand.New(rand.NewPCG(99, 3))
	for round := range 6 {
		c := newCommunity(t, uint8(4+random.IntN(12)))
		for i := range 5 {
			c.testify(string(rune('a'+i)), detective.Earlier{}, newHonest(random.Uint64(), 1<<(4+random.IntN(10)), netip.MustParseAddr("192.0.2.7")))
		}
		for _, w := range c.q.Result().Witnesses {
			if w.Sprays {
				t.Errorf("round %d: %s with %d flows and %d answers is taken for a liar", round, w.Name, w.Flows, w.Answers)
			}
		}
	}
}
