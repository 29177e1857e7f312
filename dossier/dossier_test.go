package dossier

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

func exampleQuestion() *Question {
	m := key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}
	leaf := func(i int) *pattern.Node { return &pattern.Node{Clue: i} }
	return &Question{
		Mode: OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Epoch: "2026-11-22", Window: flow.Window{From: 5, To: 9}, Reply: []byte("public key"),
		Clues: []AskedClue{
			{End: key.In, Mask: m, Standard: 3, Salt: key.Salt{1}, Keys: []AskedKey{{K: 4, Blinded: []byte("b1")}, {K: 7, Blinded: []byte("b2")}}},
			{End: key.Out, Mask: key.Mask{Proto: true}, State: pattern.Failed, Keys: []AskedKey{{K: 9, Blinded: []byte("b3")}}},
			{End: key.Out, Mask: key.Mask{DPort: true}, Keys: []AskedKey{{K: 9, Blinded: []byte("b4")}}},
		},
		Branches: []*pattern.Node{{Op: pattern.Then, Within: time.Hour, Left: leaf(0), Right: &pattern.Node{Op: pattern.And, Left: leaf(1), Right: leaf(2)}}},
	}
}

func TestQuestionRoundTrip(t *testing.T) {
	want := exampleQuestion()
	roundTrip(t, want, 1)
	want.Clues[1].Bounds = pattern.Bounds{{Measure: pattern.Sent, Least: 4, Most: 9}, {Measure: pattern.Peers, Least: 5}}
	want.Clues[0].State = pattern.Established | pattern.InState(flow.OTH)
	roundTrip(t, want, 2)
	restricted := exampleQuestion()
	restricted.Branches = append(restricted.Branches, of(2), &pattern.Node{Op: pattern.And, Left: &pattern.Node{Clue: 1}, Right: not(0)},
		&pattern.Node{Op: pattern.Then, Within: time.Hour, Left: &pattern.Node{Clue: 0}, Right: not(1)}, &pattern.Node{Op: pattern.Then, Left: not(2), Right: &pattern.Node{Clue: 0}})
	roundTrip(t, restricted, 2)
	// The older version serves whatever it can express, so that a question has one ID.
	b, _ := exampleQuestion().MarshalBinary()
	b[0] = 2
	if err := new(Question).UnmarshalBinary(b); err == nil {
		t.Error("a question of version 1 was accepted as one of version 2")
	}
}

func roundTrip(t *testing.T, want *Question, version byte) {
	b, err := want.MarshalBinary()
	if err != nil || b[0] != version {
		t.Fatal(b[0], err)
	}
	var got Question
	if err := got.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Error(diff)
	}
	for n := range b {
		if err := new(Question).UnmarshalBinary(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(b))
		}
	}
	if err := new(Question).UnmarshalBinary(append(b, 0)); err == nil {
		t.Error("a byte too many was accepted")
	}
}

func not(clue int) *pattern.Node {
	return &pattern.Node{Op: pattern.Not, Left: &pattern.Node{Clue: clue}}
}

// of counts the values of clues 1 and 2 of exampleQuestion.
func of(k int) *pattern.Node {
	return &pattern.Node{Op: pattern.AtLeast, Count: k, Left: &pattern.Node{Op: pattern.Or, Left: &pattern.Node{Clue: 1}, Right: &pattern.Node{Clue: 2}}}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	for name, spoil := range map[string]func(*Question){
		"mode":              func(q *Question) { q.Mode = 9 },
		"hash":              func(q *Question) { q.Hash.Bits = 0 },
		"kdf in oprf mode":  func(q *Question) { q.KDFMemory = 64 },
		"huge kdf":          func(q *Question) { q.Mode, q.KDFMemory = Paper, MaxKDFMemory+1 },
		"no clue":           func(q *Question) { q.Clues, q.Branches = nil, nil },
		"wrong standard":    func(q *Question) { q.Clues[0].Standard = 1 },
		"keys out of order": func(q *Question) { q.Clues[0].Keys[1].K = 1 },
		"or in a branch":    func(q *Question) { q.Branches[0].Op = pattern.Or },
		"clue too high":     func(q *Question) { q.Branches[0].Left.Clue = 3 },
		"clue twice":        func(q *Question) { q.Branches[0].Left.Clue = 2 },
		"missing element":   func(q *Question) { q.Clues[1].Keys[0].Blinded = nil },
		"unknown state":     func(q *Question) { q.Clues[0].State = pattern.InState(flow.StateUnknown) },
		"unknown bound":     func(q *Question) { q.Clues[0].Bounds = pattern.Bounds{{Measure: 99, Least: 1}} },
		"bound of nothing":  func(q *Question) { q.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Bytes}} },
		"bounds twice": func(q *Question) {
			q.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Bytes, Least: 1}, {Measure: pattern.Bytes, Most: 9}}
		},
		"no such step":      func(q *Question) { q.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Duration, Most: 40}} },
		"at most peers":     func(q *Question) { q.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Peers, Most: 4}} },
		"only a not":        func(q *Question) { q.Branches[0] = not(0) },
		"two nots":          func(q *Question) { q.Branches[0].Left, q.Branches[0].Right = not(0), not(1) },
		"not before many":   func(q *Question) { q.Branches[0].Left = not(0) },
		"not of two keys":   func(q *Question) { q.Branches[0].Left, q.Branches[0].Right = &pattern.Node{Clue: 1}, not(0) },
		"clue denied twice": func(q *Question) { q.Branches[0].Right = not(0) },
		"1 of":              func(q *Question) { q.Branches[0] = of(1) },
		"3 of 2":            func(q *Question) { q.Branches[0] = of(3) },
		"129 of": func(q *Question) {
			q.Branches[0] = of(pattern.MaxAtLeast + 1)
			many := make([]AskedKey, 200)
			for i := range many {
				many[i] = AskedKey{K: key.K(i), Blinded: []byte("b")}
			}
			q.Clues[1].Keys = many
		},
		"2 of, in time":    func(q *Question) { q.Branches[0].Right = of(2) },
		"within a century": func(q *Question) { q.Branches[0].Within = 1 << 62 },
	} {
		q := exampleQuestion()
		spoil(q)
		b, err := q.MarshalBinary()
		if err != nil {
			continue
		}
		if err := new(Question).UnmarshalBinary(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTestimonyRoundTrip(t *testing.T) {
	want := &Testimony{
		Question: QuestionID{1}, Witness: "north", Coverage: flow.Coverage{Flows: 7, From: -1, To: 8, Sampling: 2, Skipped: 3},
		Evaluations: [][][]byte{{[]byte("e1"), []byte("e2")}, {}},
		Answers:     []SealedAnswer{{Branch: 1, Salt: [16]byte{2}, Commitment: [32]byte{3}, Ciphertext: []byte("secret")}},
	}
	b, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Testimony
	if err := got.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Error(diff)
	}
	for n := range b {
		if err := new(Testimony).UnmarshalBinary(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(b))
		}
	}
}

func exampleStatement() *Statement {
	return &Statement{
		First: [][]byte{{192, 0, 2, 1}, {0, 80}},
		Hosts: []StatedHost{
			{Addr: netip.MustParseAddr("198.51.100.3"), Clues: []StatedClue{
				{Flows: 2, First: 10, Last: 30, Events: []FlowEvent{{10, flow.SF}, {30, flow.REJ}}}, {Flows: 9, First: -4, Last: 5, Events: []FlowEvent{}},
			}},
			{Addr: netip.MustParseAddr("2001:db8::1"), Clues: []StatedClue{}},
		},
	}
}

func TestStatementRoundTrip(t *testing.T) {
	want := exampleStatement()
	b, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Statement
	if err := got.UnmarshalBinary(append(bytes.Clone(b), 0, 0, 0)); err != nil { // padded
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	for n := range b {
		if err := new(Statement).UnmarshalBinary(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(b))
		}
	}
}

func TestNewEventsOrder(t *testing.T) {
	a, b := FlowEvent{1, flow.SF}, FlowEvent{2, flow.S0}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 || (FlowEvent{1, flow.S0}).Compare(a) >= 0 {
		t.Error("events are not ordered by time, then state")
	}
}

func FuzzQuestion(f *testing.F) {
	b, _ := exampleQuestion().MarshalBinary()
	f.Add(b)
	bounded := exampleQuestion()
	bounded.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Sent, Least: 4, Most: 9}, {Measure: pattern.Peers, Least: 5}}
	bounded.Branches = append(bounded.Branches, of(2), &pattern.Node{Op: pattern.And, Left: &pattern.Node{Clue: 1}, Right: not(0)})
	b, _ = bounded.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		var q Question
		if q.UnmarshalBinary(data) != nil {
			return
		}
		// What was accepted is canonical: it writes back to the same bytes.
		again, err := q.MarshalBinary()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x\nwrites back as\n%x (%v)", data, again, err)
		}
	})
}

func FuzzTestimony(f *testing.F) {
	t := Testimony{Witness: "w", Evaluations: [][][]byte{{{1}}}, Answers: []SealedAnswer{{Ciphertext: []byte("x")}}}
	b, _ := t.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		var got Testimony
		if got.UnmarshalBinary(data) != nil {
			return
		}
		again, err := got.MarshalBinary()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x\nwrites back as\n%x (%v)", data, again, err)
		}
	})
}

func FuzzStatement(f *testing.F) {
	b, _ := exampleStatement().MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Statement
		if s.UnmarshalBinary(data) != nil {
			return
		}
		b, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again Statement
		if err := again.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	})
}
