package ask_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/seal"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
)

func TestRefusals(t *testing.T) {
	log := make(memory, 100)
	for i := range log {
		log[i] = flow.Flow{Start: flow.Time(i), Orig: addr(i), Resp: addr(8), RespPort: 80, Proto: flow.TCP, State: flow.SF}
	}
	for want, change := range map[string]func(*witness.Configuration){
		"":              nil,
		"too common":    func(c *witness.Configuration) { c.TooCommon = 0.5 },
		"too ambiguous": func(c *witness.Configuration) { c.MaxEvents = 99 },
		"too costly":    func(c *witness.Configuration) { c.MaxKDFWork = 7 },
	} {
		c := config(func(c *detective.Configuration) {
			if want == "too costly" {
				c.Mode = dossier.Paper
			}
		})
		r := hunt(t, c, "out dst=198.51.100.8 dport=80", newWitness(t, "w", log, change))
		if got := r.Witnesses[0].Refused; got != want {
			t.Errorf("refused with %q, want %q", got, want)
		}
		if (want == "") != (len(r.Hosts) == 100) {
			t.Errorf("refusal %q with %d hosts", want, len(r.Hosts))
		}
	}
	if r := hunt(t, config(nil), "out dst=198.51.100.8", newWitness(t, "w", memory{}, nil)); r.Hosts == nil || r.Witnesses[0].From != nil {
		t.Error("an empty log must give an empty list and no span")
	}
}

// TestTooCommonCountsFlows: a flow that fits two clues is one flow.
func TestTooCommonCountsFlows(t *testing.T) {
	log := make(memory, 100)
	for i := range log {
		log[i] = flow.Flow{Start: flow.Time(i), Orig: addr(1), Resp: addr(i), RespPort: 80, Proto: flow.TCP, State: flow.SF}
		if i < 40 {
			log[i].Resp = addr(200)
		}
	}
	w := newWitness(t, "w", log, func(c *witness.Configuration) { c.TooCommon = 0.5 })
	r := hunt(t, config(nil), "out dst=198.51.100.200 and out dst=198.51.100.200 dport=80", w)
	if got := r.Witnesses[0].Refused; got != "" || len(r.Hosts) != 1 {
		t.Errorf("40 of 100 flows refused with %q at a bound of half", got)
	}
}

// TestOneHugeHost: a host with more events than an answer can carry makes a
// refusal, not an error.
func TestOneHugeHost(t *testing.T) {
	testkit.Long(t) // 4 million flows
	r := hunt(t, config(func(c *detective.Configuration) { c.JoinHere = true }), "out dst=198.51.100.8", newWitness(t, "w", hourly(4<<20), nil))
	if got := r.Witnesses[0].Refused; got != "too ambiguous" {
		t.Errorf("refused with %q, want too ambiguous", got)
	}
}

// hourly is a log of n flows of one host, hours apart, so that each time
// takes its full length in a statement.
type hourly int

func (n hourly) Scan(_ context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (cov flow.Coverage, err error) {
	batch := make(memory, 1<<10)
	for from := 0; from < int(n) && err == nil; from += len(batch) {
		for i := range batch {
			batch[i] = flow.Flow{Start: flow.Time(from+i-int(n)/2) * flow.Time(time.Hour), Orig: addr(1), Resp: addr(8), Proto: flow.TCP}
		}
		cov.Saw(batch)
		err = fn(batch)
	}
	return cov, err
}

func TestHostileWitnesses(t *testing.T) {
	q, err := detective.New(config(nil), parse(t, "out dst=198.51.100.8"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, "w", memory{{Orig: addr(1), Resp: addr(8)}}, nil)
	sealed, _, err := w.Answer(context.Background(), q.Question())
	if err != nil {
		t.Fatal(err)
	}
	for name, hear := range map[string]func() error{
		"under another name": func() error { _, err := q.OpenTestimony(context.Background(), "v", sealed); return err },
		"garbage":            func() error { _, err := q.OpenTestimony(context.Background(), "w", []byte("garbage")); return err },
		"twice": func() error {
			if _, err := q.OpenTestimony(context.Background(), "w", sealed); err != nil {
				t.Fatal(err)
			}
			_, err := q.OpenTestimony(context.Background(), "w", sealed)
			return err
		},
	} {
		if hear() == nil {
			t.Errorf("testimony %s was accepted", name)
		}
	}
	if _, _, err := w.Answer(context.Background(), []byte("not a question")); err == nil {
		t.Error("a witness answered garbage")
	}
}

// TestManyKeysAndManyAnswers: a list of addresses, and a witness that answers
// with a flood. Trying every key on every answer would be close to 10^9 trials.
func TestManyKeysAndManyAnswers(t *testing.T) {
	const n = 200_000
	p, err := pattern.Parse("out dst=@list", func(string) (io.ReadCloser, error) {
		var b strings.Builder
		for i := range 4000 {
			fmt.Fprintf(&b, "198.51.%d.%d\n", i/256, i%256)
		}
		return io.NopCloser(strings.NewReader(b.String())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	q, err := detective.New(config(func(c *detective.Configuration) { c.Mode = dossier.Paper }), p)
	if err != nil {
		t.Fatal(err)
	}
	var question dossier.Question
	if err := question.UnmarshalBinary(q.Question()); err != nil {
		t.Fatal(err)
	}
	flood := &dossier.Testimony{Question: dossier.IDOf(q.Question()), Witness: "w", Answers: make([]dossier.SealedAnswer, n)}
	sealed, err := seal.SealTestimony(flood, question.Reply)
	if err != nil {
		t.Fatal(err)
	}
	h, err := q.OpenTestimony(context.Background(), "w", sealed)
	if err != nil || h.Answers != n || h.Collisions != n {
		t.Errorf("%+v, %v; want %d collisions", h, err, n)
	}
}

// TestJoiningIsBounded: a hostile question makes every host match under many
// tuples of both clues, and asks for the same join again and again.
func TestJoiningIsBounded(t *testing.T) {
	testkit.Long(t) // millions of joins, none of them concurrent
	var log memory
	for host := range 300 {
		x := netip.AddrFrom4([4]byte{10, 0, byte(host >> 8), byte(host)})
		for port := range 400 {
			log = append(log,
				flow.Flow{Start: 9, Orig: addr(9), Resp: x, RespPort: uint16(port), Proto: flow.TCP},
				flow.Flow{Start: 1, Orig: x, Resp: addr(8), RespPort: uint16(port), Proto: flow.TCP})
		}
	}
	reply, err := seal.NewReplyKey()
	if err != nil {
		t.Fatal(err)
	}
	asked := func(end key.End) dossier.AskedClue {
		return dossier.AskedClue{End: end, Mask: key.Mask{DPort: true}, Keys: []dossier.AskedKey{{K: 1}}}
	}
	q := dossier.Question{
		Mode: dossier.Paper, KDFMemory: 8, Hash: key.Hash{Kind: key.Linear, Bits: 1}, Window: flow.AllTime, Reply: reply.Public(),
		Clues: []dossier.AskedClue{asked(key.In), asked(key.Out)},
	}
	for range pattern.MaxBranches {
		q.Branches = append(q.Branches, &pattern.Node{Op: pattern.Then, Within: 1, Left: &pattern.Node{Clue: 0}, Right: &pattern.Node{Clue: 1}})
	}
	question, err := q.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, "w", log, nil)
	sealed, _, err := w.Answer(context.Background(), question)
	if err != nil {
		t.Fatal(err)
	}
	testimony, err := reply.Open(sealed, dossier.IDOf(question), "w")
	if err != nil || testimony.Refusal != dossier.TooAmbiguous {
		t.Errorf("%v (%v), want a refusal as too ambiguous", testimony.Refusal, err)
	}
}

// TestForgedStatements: a witness that saw the tuple and states nonsense under
// the right key is counted, not believed.
func TestForgedStatements(t *testing.T) {
	p := parse(t, "in src=198.51.100.9 dport=1433 then[1h] out dst=198.51.100.8 dport=69")
	c := config(func(c *detective.Configuration) { c.Mode = dossier.Paper })
	tuple := func(i int) key.Tuple { return p.Clues[i].Tuples()[0] }
	at := func(times ...flow.Time) (out []dossier.StatedClue) {
		for _, v := range times {
			out = append(out, dossier.StatedClue{Flows: 1, First: v, Last: v, Events: []dossier.FlowEvent{{Time: v}}})
		}
		return out
	}
	first := [][]byte{tuple(0).FirstComponent(), tuple(1).FirstComponent()}
	hour := flow.Time(time.Hour)
	for name, s := range map[string]struct {
		state  dossier.Statement
		forged int
		hosts  int
	}{
		"honest":          {dossier.Statement{First: first, Hosts: []dossier.StatedHost{{Addr: addr(1), Clues: at(5, 6)}}}, 0, 1},
		"wrong component": {dossier.Statement{First: [][]byte{{1}, first[1]}, Hosts: []dossier.StatedHost{{Addr: addr(1), Clues: at(5, 6)}}}, 1, 0},
		"one clue only":   {dossier.Statement{First: first, Hosts: []dossier.StatedHost{{Addr: addr(1), Clues: at(5)}}}, 1, 0},
		"wrong order":     {dossier.Statement{First: first, Hosts: []dossier.StatedHost{{Addr: addr(1), Clues: at(6, 5)}}}, 0, 0},
		"too late":        {dossier.Statement{First: first, Hosts: []dossier.StatedHost{{Addr: addr(1), Clues: at(6, 7+hour)}}}, 0, 0},
	} {
		q, err := detective.New(c, p)
		if err != nil {
			t.Fatal(err)
		}
		var question dossier.Question
		if err := question.UnmarshalBinary(q.Question()); err != nil {
			t.Fatal(err)
		}
		id := dossier.IDOf(q.Question())
		var secrets [][]byte
		for i := range 2 {
			secret, err := seal.PaperSecret(tuple(i), id, "liar", 8)
			if err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, secret)
		}
		k, err := seal.NewKey(secrets, seal.Context{Question: id, Witness: "liar", Detective: question.Reply})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := s.state.MarshalBinary()
		answer, err := k.Seal(text, 0)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := seal.SealTestimony(&dossier.Testimony{Question: id, Witness: "liar", Answers: []dossier.SealedAnswer{answer}}, question.Reply)
		if err != nil {
			t.Fatal(err)
		}
		h, err := q.OpenTestimony(context.Background(), "liar", sealed)
		if err != nil {
			t.Fatal(err)
		}
		if h.Forged != s.forged || len(q.Result().Hosts) != s.hosts {
			t.Errorf("%s: %d forged, %d hosts; want %d and %d", name, h.Forged, len(q.Result().Hosts), s.forged, s.hosts)
		}
	}
}
