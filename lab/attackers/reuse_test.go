package attackers_test

import (
	"testing"

	"dragnet/ask/seal"
	"dragnet/ask/witness"
	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

var service4 = key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}

func serviceOf(a uint32, port uint16) key.Tuple {
	return key.Tuple{Mask: service4, Addr: address(a), DPort: port, Proto: flow.TCP}
}

// craft is a question whose keys are those of some tuples and whose blinded elements
// are those of others: what a member can write who does not use this program.
type craft struct {
	question []byte
	parsed   dossier.Question
	blinded  []*seal.Blinded
}

func newCraft(t *testing.T, keys, elements []key.Tuple) craft {
	t.Helper()
	reply, err := seal.NewReplyKey()
	if err != nil {
		t.Fatal(err)
	}
	h := key.Hash{Kind: key.Linear, Bits: 19}
	salt := key.OneShotSalt(service4, "2026-11-22")
	keyer, err := key.NewKeyer(service4, key.Out, h, salt)
	if err != nil {
		t.Fatal(err)
	}
	out := craft{}
	clue := dossier.AskedClue{End: key.Out, Mask: service4, Salt: salt}
	for i := range keys {
		b, err := seal.Blind(elements[i])
		if err != nil {
			t.Fatal(err)
		}
		out.blinded = append(out.blinded, b)
		clue.Keys = append(clue.Keys, dossier.AskedKey{K: keyer.Tuple(keys[i]), Blinded: b.Element})
	}
	out.parsed = dossier.Question{
		Mode: dossier.OPRF, Hash: h, Epoch: "2026-11-22", Window: flow.AllTime, Reply: reply.Public(),
		Clues: []dossier.AskedClue{clue}, Branches: []*pattern.Node{{Op: pattern.Leaf}},
	}
	if out.question, err = out.parsed.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	return out
}

// testify has the witness answer, and returns the testimony as the asker opens it.
func (c craft) testify(t *testing.T, w *witness.Witness) *dossier.Testimony {
	t.Helper()
	_, testimony, err := w.Testify(t.Context(), c.question, nil)
	if err != nil || testimony.Refusal != dossier.Answered {
		t.Fatal(testimony, err)
	}
	return testimony
}

func (c craft) secret(t *testing.T, i int, from *dossier.Testimony) []byte {
	t.Helper()
	s, err := c.blinded[i].Secret(from.Evaluations[0][i])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opens counts the answers to this question that a secret opens.
func (c craft) opens(t *testing.T, w *witness.Witness, testimony *dossier.Testimony, secret []byte) (n int) {
	t.Helper()
	k, err := seal.NewKey([][]byte{secret}, seal.Context{Question: dossier.IDOf(c.question), Witness: w.Name(), Detective: c.parsed.Reply})
	if err != nil {
		t.Fatal(err)
	}
	for i := range testimony.Answers {
		if _, ok, err := k.Open(&testimony.Answers[i]); err != nil {
			t.Fatal(err)
		} else if ok {
			n++
		}
	}
	return n
}

// TestEvaluationsServeOneQuestion: what the witness evaluates for one question opens
// answers to it, under the keys that it asked for, and nothing else: not the answers to
// another question, of the same or of another detective, nor under a key that was not
// asked.
func TestEvaluationsServeOneQuestion(t *testing.T) {
	a, b := serviceOf(0xcb007105, 23), serviceOf(0xcb007109, 445)
	log := memory{}
	for _, tuple := range []key.Tuple{a, b} {
		log = append(log, flow.Flow{Start: 1, Orig: address(0xc0000207), Resp: tuple.Addr, RespPort: tuple.DPort, Proto: tuple.Proto, State: flow.SF})
	}
	w, err := witness.New(witness.DefaultConfiguration(), "victim", log, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, second := newCraft(t, []key.Tuple{a}, []key.Tuple{a}), newCraft(t, []key.Tuple{a}, []key.Tuple{a})
	heard, again := first.testify(t, w), second.testify(t, w)
	if n := first.opens(t, w, heard, first.secret(t, 0, heard)); n != 1 {
		t.Fatalf("its own evaluation opens %d answers, want 1", n)
	}
	if n := second.opens(t, w, again, first.secret(t, 0, heard)); n != 0 {
		t.Errorf("the evaluation of one question opens %d answers to another", n)
	}

	// The key of a with the element of b: the evaluation of b is obtained, and useless.
	mixed := newCraft(t, []key.Tuple{a}, []key.Tuple{b})
	got := mixed.testify(t, w)
	if n := mixed.opens(t, w, got, mixed.secret(t, 0, got)); n != 0 {
		t.Errorf("an element under another key opens %d answers", n)
	}
	honest := newCraft(t, []key.Tuple{b}, []key.Tuple{b})
	if n := honest.opens(t, w, honest.testify(t, w), mixed.secret(t, 0, got)); n != 0 {
		t.Errorf("it opens %d answers to a later question", n)
	}
}

// TestCopiedKeysAreOtherQuestions: a question that repeats another's key, each time
// with one more element, is charged for each and is not the same as the other.
func TestCopiedKeysAreOtherQuestions(t *testing.T) {
	a := serviceOf(0xcb007105, 23)
	honest := newCraft(t, []key.Tuple{a}, []key.Tuple{a})
	copies, elements := make([]key.Tuple, 50), make([]key.Tuple, 50)
	for i := range copies {
		copies[i], elements[i] = a, serviceOf(0xcb007100+uint32(i), 23)
	}
	rogue := newCraft(t, copies, elements)
	if n := policy.Keys(&rogue.parsed); n != 50 {
		t.Errorf("%d keys are charged, want 50", n)
	}
	rules := policy.Default()
	if rules.DescribeAsked(&rogue.parsed).Within(rules.DescribeAsked(&honest.parsed)) {
		t.Error("fifty guesses count as the question that made one")
	}
	if mine := rules.DescribeAsked(&honest.parsed); !mine.Within(mine) {
		t.Error("a question is not the same as itself")
	}
}
