package ask_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// contactLog is the log of a witness that saw the given hosts contacted, one after another, and
// then go on to a server.
func contactLog(hosts ...netip.Addr) memory {
	var out memory
	for i, h := range hosts {
		out = append(out,
			flow.Flow{Start: flow.Time(10 * i), Orig: addr(200), Resp: h, RespPort: 1, Proto: flow.TCP, State: flow.SF},
			flow.Flow{Start: flow.Time(10*i + 5), Orig: h, Resp: addr(201), RespPort: 2, Proto: flow.UDP, State: flow.SF})
	}
	return out
}

const contactPattern = "in src=198.51.100.200 dport=1 then out dst=198.51.100.201 dport=2"

// askEach asks each source, over its log.
func askEach(t testing.TB, c detective.Configuration, sources []detective.KnownWitness, logs []memory) detective.Result {
	t.Helper()
	q, err := detective.New(c, parse(t, contactPattern))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sources {
		sealed, _, err := newWitness(t, s.Name, logs[i], nil).Answer(context.Background(), q.Question())
		if err == nil {
			_, err = q.OpenTestimonyFrom(context.Background(), s, sealed)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return q.Result()
}

func TestClasses(t *testing.T) {
	x, y := addr(7), addr(8)
	net := []netip.Prefix{netip.PrefixFrom(x, 32)}
	private := netip.MustParseAddr("10.0.0.5")
	for _, test := range []struct {
		name    string
		change  func(*detective.Configuration)
		sources []detective.KnownWitness
		logs    []memory
		want    []string
	}{
		{"two organisations", nil, []detective.KnownWitness{{Name: "a", Verified: true}, {Name: "b", Verified: true}}, []memory{contactLog(x, y), contactLog(x)}, []string{x.String()}},
		{"one organisation twice", nil, []detective.KnownWitness{{Name: "a", Class: "o", Verified: true}, {Name: "b", Class: "o", Verified: true}}, []memory{contactLog(x), contactLog(x)}, nil},
		{"strangers are one class", nil, []detective.KnownWitness{{Name: "a"}, {Name: "b"}, {Name: "c"}}, []memory{contactLog(x), contactLog(x), contactLog(x)}, nil},
		{"a stranger beside one we know", nil, []detective.KnownWitness{{Name: "a"}, {Name: "b"}, {Name: "c", Verified: true}}, []memory{contactLog(x), contactLog(x, y), contactLog(x)}, []string{x.String()}},
		{"the owner alone", own, []detective.KnownWitness{{Name: "a", Verified: true, Networks: net}, {Name: "b", Verified: true}}, []memory{contactLog(x, y), nil}, []string{x.String()}},
		{"not the owner", own, []detective.KnownWitness{{Name: "a", Verified: true}, {Name: "b", Verified: true, Networks: net}}, []memory{contactLog(x, y), nil}, nil},
		{"a stranger that calls them its own", own, []detective.KnownWitness{{Name: "a", Networks: net}}, []memory{contactLog(x, private)}, nil},
		{"a private host is its witness's own", own, []detective.KnownWitness{{Name: "a", Verified: true}}, []memory{contactLog(private)}, []string{private.String()}},
		{"the owner and another", func(c *detective.Configuration) { c.OwnWord = false }, []detective.KnownWitness{{Name: "a", Verified: true, Networks: net}, {Name: "b", Verified: true}}, []memory{contactLog(x), contactLog(x)}, []string{x.String()}},
		{"a share of those asked", func(c *detective.Configuration) { c.Fraction = 0.75 }, []detective.KnownWitness{
			{Name: "a", Verified: true}, {Name: "b", Verified: true}, {Name: "c", Verified: true}, {Name: "d", Verified: true},
		}, []memory{contactLog(x, y), contactLog(x, y), contactLog(x), nil}, []string{x.String()}},
	} {
		for _, here := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/join here %t", test.name, here), func(t *testing.T) {
				c := config(func(c *detective.Configuration) {
					c.Quorum, c.JoinHere = 2, here
					if test.change != nil {
						test.change(c)
					}
				})
				got := askEach(t, c, test.sources, test.logs)
				if diff := cmp.Diff(test.want, hosts(got)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				reason := detective.ByQuorum
				if c.OwnWord {
					reason = detective.ByOwnWord // in these cases one witness alone names the host
				}
				for _, h := range got.Hosts {
					if h.Believed != reason {
						t.Errorf("%s is believed by %q, want %q", h.Addr, h.Believed, reason)
					}
				}
			})
		}
	}
}

func own(c *detective.Configuration) { c.OwnWord = true }

// TestLiarsBelowTheQuorum: with fewer lying classes than the quorum, however
// many names they use, no host is named that no honest witness saw, and none is
// lost that a quorum of honest classes saw.
func TestLiarsBelowTheQuorum(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		k := rapid.IntRange(1, 3).Draw(r, "quorum")
		c := config(func(c *detective.Configuration) { c.Quorum, c.JoinHere = k, rapid.Bool().Draw(r, "join here") })
		var sources []detective.KnownWitness
		var logs []memory
		seen := map[netip.Addr]map[string]bool{}
		for i := range rapid.IntRange(0, 4).Draw(r, "honest") {
			s := detective.KnownWitness{Name: fmt.Sprint("h", i), Verified: true}
			var saw []netip.Addr
			for h := 1; h <= 3; h++ {
				if rapid.Bool().Draw(r, "saw") {
					saw = append(saw, addr(h))
					if seen[addr(h)] == nil {
						seen[addr(h)] = map[string]bool{}
					}
					seen[addr(h)][s.Name] = true
				}
			}
			sources, logs = append(sources, s), append(logs, contactLog(saw...))
		}
		names := rapid.IntRange(0, 3).Draw(r, "names of liars")
		if k == 1 {
			names = 0 // as many liars as the quorum are another matter
		}
		for i := range names {
			class := rapid.IntRange(0, k-2).Draw(r, "class")
			invented := []netip.Addr{addr(1), addr(9)}
			sources = append(sources, detective.KnownWitness{Name: fmt.Sprint("l", i), Class: fmt.Sprint("liar", class), Verified: true})
			logs = append(logs, contactLog(invented...))
		}
		got := askEach(t, c, sources, logs)
		for _, h := range got.Hosts {
			if len(seen[h.Addr]) == 0 {
				r.Fatalf("%s is named and nobody honest saw it", h.Addr)
			}
		}
		for h, by := range seen {
			if len(by) >= k && !slices.Contains(hosts(got), h.String()) {
				r.Fatalf("%s was seen by %d and is not named", h, len(by))
			}
		}
	})
}

// TestDecoysLookAlike: a decoy's question differs from the true one in keys and
// random parts only, and opens nothing at an honest witness.
func TestDecoysLookAlike(t *testing.T) {
	p := parse(t, contactPattern)
	decoy, err := detective.Decoy(p, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(p.Clues[0].Other, decoy.Clues[0].Other) || p.Clues[0].Text == decoy.Clues[0].Text {
		t.Error("the decoy asks about the same host, or shows its pattern")
	}
	shape := func(q *detective.Inquiry) (out dossier.Question) {
		if err := out.UnmarshalBinary(q.Question()); err != nil {
			t.Fatal(err)
		}
		for i := range out.Clues {
			for j := range out.Clues[i].Keys {
				out.Clues[i].Keys[j] = dossier.AskedKey{}
			}
		}
		out.Reply = nil
		return out
	}
	truth, err := detective.New(config(nil), p)
	if err != nil {
		t.Fatal(err)
	}
	lie, err := detective.New(config(nil), decoy)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shape(truth), shape(lie)); diff != "" {
		t.Errorf("a witness can tell them apart:\n%s", diff)
	}
	sealed, _, err := newWitness(t, "a", contactLog(addr(7)), nil).Answer(t.Context(), lie.Question())
	if err != nil {
		t.Fatal(err)
	}
	if h, err := lie.OpenTestimony(t.Context(), "a", sealed); err != nil || h.Opened != 0 {
		t.Errorf("opened %d answers to a decoy, %v", h.Opened, err)
	}
	if _, err := detective.Decoy(parse(t, "in dport=22"), rand.New(rand.NewPCG(1, 2))); err == nil {
		t.Error("a decoy without an address")
	}
}

// TestSprays: an honest witness's answers are explained by its flows; a witness
// that answers under a great many tuples is not.
func TestSprays(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		bits := uint8(rapid.IntRange(1, 12).Draw(r, "bits"))
		c := config(func(c *detective.Configuration) { c.Hash = key.Hash{Kind: key.Linear, Bits: bits} })
		q, err := detective.New(c, parse(t, contactPattern))
		if err != nil {
			r.Fatal(err)
		}
		var saw []netip.Addr
		for range rapid.IntRange(0, 60).Draw(r, "hosts") {
			saw = append(saw, addr(rapid.IntRange(1, 199).Draw(r, "host")))
		}
		sealed, _, err := newWitness(t, "a", contactLog(saw...), nil).Answer(context.Background(), q.Question())
		if err != nil {
			r.Fatal(err)
		}
		h, err := q.OpenTestimony(context.Background(), "a", sealed)
		if err != nil {
			r.Fatal(err)
		}
		if q.Sprays(&h) {
			r.Fatalf("%d answers of %d flows look like a spray", h.Answers, h.Flows)
		}
		h.Answers = 16*int(h.Flows) + 1000
		if !q.Sprays(&h) {
			r.Fatalf("%d answers of %d flows pass", h.Answers, h.Flows)
		}
	})
}
