package detective

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"dragnet/ask/seal"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// TestimonySummary is what one witness's testimony amounted to.
type TestimonySummary struct {
	Name string `json:"name"`
	// Flows, From, To, Sampling and Skipped are the coverage it claims; times
	// are null if it has no flow.
	Flows    uint64     `json:"flows"`
	From     *flow.Time `json:"from"`
	To       *flow.Time `json:"to"`
	Sampling uint32     `json:"sampling"`
	Skipped  uint64     `json:"skipped"`
	// Answers are all sealed answers; Opened those that concerned our tuples;
	// Collisions those that stay unreadable.
	Answers    int `json:"answers"`
	Opened     int `json:"opened"`
	Collisions int `json:"collisions"`
	// Forged answers committed to our key but held nothing valid.
	Forged int `json:"forged,omitempty"`
	// Sprays says that it returned far more answers than an honest witness would: it
	// is not believed.
	Sprays bool `json:"sprays,omitempty"`
	// Refused says why the witness did not answer; empty if it did.
	Refused string `json:"refused,omitempty"`
	// AnswerBytes is the size of the testimony as it travelled.
	AnswerBytes int `json:"answer_bytes"`
}

// OpenTestimony opens the testimony of a witness that testifies under its name and is
// independent of all others.
func (q *Inquiry) OpenTestimony(ctx context.Context, witness string, sealed []byte) (TestimonySummary, error) {
	return q.OpenTestimonyFrom(ctx, KnownWitness{Name: witness, Verified: true}, sealed)
}

// OpenTestimonyFrom opens the testimony of a witness and adds what it says. A testimony
// is taken once per witness, but for one that waited for others to ask the same. Time
// grows with the keys asked, plus the size of the testimony.
func (q *Inquiry) OpenTestimonyFrom(ctx context.Context, s KnownWitness, sealed []byte) (TestimonySummary, error) {
	before := slices.IndexFunc(q.witnesses, func(h TestimonySummary) bool { return h.Name == s.Name })
	if before >= 0 && q.witnesses[before].Refused != dossier.AwaitingOthers.String() {
		return TestimonySummary{}, fmt.Errorf("witness %s has testified already", s.Name)
	}
	t, err := q.reply.Open(sealed, q.id, s.testifiesAs())
	if err != nil {
		return TestimonySummary{}, err
	}
	q.AddSource(s)
	h := TestimonySummary{
		Name: s.Name, Flows: t.Coverage.Flows, Sampling: t.Coverage.Sampling, Skipped: t.Coverage.Skipped,
		Refused: t.Refusal.String(), Answers: len(t.Answers), AnswerBytes: len(sealed),
	}
	if t.Coverage.Flows > 0 {
		h.From, h.To = &t.Coverage.From, &t.Coverage.To
	}
	if t.Refusal == dossier.Answered {
		ring, err := q.makeKeyring(ctx, t)
		if err != nil {
			return TestimonySummary{}, fmt.Errorf("testimony of %s: %w", s.Name, err)
		}
		for i := range t.Answers {
			q.openAnswer(&h, ring, &t.Answers[i])
		}
	}
	if before >= 0 {
		q.witnesses = slices.Delete(q.witnesses, before, before+1)
	}
	q.witnesses = append(q.witnesses, h)
	return h, nil
}

// opener is one key of ours, and what its answers are about: for each position of the
// answer's kind the asked clue and the tuple.
type opener struct {
	key    seal.AnswerKey
	kind   *answerKind
	clues  []int
	tuples []key.Tuple
}

// keyring holds our keys for one witness, by the commitment that its answers
// carry.
type keyring map[[32]byte]*opener

func (q *Inquiry) makeKeyring(ctx context.Context, t *dossier.Testimony) (keyring, error) {
	if q.config.Mode == dossier.OPRF && len(t.Evaluations) != len(q.clues) {
		return nil, errors.New("number of evaluations differs from the clues asked")
	}
	secrets := make([][][]byte, len(q.clues))
	for i := range q.clues {
		var err error
		if secrets[i], err = q.clueSecrets(ctx, i, t); err != nil {
			return nil, err
		}
	}
	ring := keyring{}
	for n := range q.kinds {
		kind := &q.kinds[n]
		c := seal.Context{Question: q.id, Witness: t.Witness, Detective: q.reply.Public(), Branch: kind.number}
		err := q.combine(kind, func(values []asked) error {
			o := &opener{kind: kind}
			var parts [][]byte
			for _, v := range values {
				o.clues, o.tuples = append(o.clues, v.clue), append(o.tuples, q.clues[v.clue].tuples[v.tuple])
				parts = append(parts, secrets[v.clue][v.tuple])
			}
			k, err := seal.NewKey(seal.AppendChosen(parts, o.clues[len(kind.leaves):kind.positions()]), c)
			o.key = k
			ring[k.Commitment()] = o
			return cmp.Or(err, ctx.Err())
		})
		if err != nil {
			return nil, err
		}
	}
	return ring, nil
}

// clueSecrets computes the secret of each of a clue's tuples, on all cores:
// about 100 µs each in OPRF mode, and what KDFMemory costs in Paper mode.
func (q *Inquiry) clueSecrets(ctx context.Context, i int, t *dossier.Testimony) ([][]byte, error) {
	c := &q.clues[i]
	out := make([][]byte, len(c.tuples))
	if q.config.Mode == dossier.OPRF && len(t.Evaluations[i]) != len(c.tuples) {
		return nil, errors.New("number of evaluations differs from the keys asked")
	}
	g, failed := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for j, tuple := range c.tuples {
		if failed.Err() != nil {
			break
		}
		g.Go(func() (err error) {
			if q.config.Mode == dossier.OPRF {
				out[j], err = c.blinded[j].Secret(t.Evaluations[i][j])
			} else {
				out[j], err = seal.PaperSecret(tuple, q.id, t.Witness, q.config.KDFMemory)
			}
			return err
		})
	}
	return out, cmp.Or(g.Wait(), ctx.Err())
}

// openAnswer looks up our key for one answer and files what it states.
func (q *Inquiry) openAnswer(h *TestimonySummary, ring keyring, a *dossier.SealedAnswer) {
	o := ring[a.Commitment]
	if o == nil {
		h.Collisions++
		return
	}
	var s dossier.Statement
	text, ok, err := o.key.Open(a)
	if err != nil || !ok || a.Branch != o.kind.number || s.UnmarshalBinary(text) != nil || !q.isPlausible(o, &s) {
		h.Forged++
		return
	}
	h.Opened++
	for j := range s.Hosts {
		if q.config.JoinHere || len(s.Hosts[j].Clues) == 0 || q.fitsBranch(o.kind, &s.Hosts[j]) {
			q.addStatement(h.Name, o, &s.Hosts[j])
		}
	}
}

// isPlausible checks an opened statement against what we asked: its first
// components are ours (section 3.1), and each host speaks to every clue.
func (q *Inquiry) isPlausible(o *opener, s *dossier.Statement) bool {
	if len(s.First) != o.kind.positions() {
		return false
	}
	for i, t := range o.tuples[:len(s.First)] {
		if !bytes.Equal(s.First[i], t.FirstComponent()) {
			return false
		}
	}
	for i := range s.Hosts {
		if n := len(s.Hosts[i].Clues); n != o.kind.positions() && (n != 0 || len(o.kind.negated) == 0) {
			return false
		}
		for _, c := range s.Hosts[i].Clues {
			if !q.isPlausibleClue(&c) {
				return false
			}
		}
	}
	return true
}

func (q *Inquiry) isPlausibleClue(c *dossier.StatedClue) bool {
	if len(c.Events) == 0 || c.Flows < uint64(len(c.Events)) || c.First > c.Last {
		return false
	}
	for _, e := range c.Events {
		if e.Time < c.First || e.Time > c.Last || !q.config.Window.Contains(e.Time) {
			return false
		}
	}
	return true
}

// fitsBranch repeats the witness's join on the events it stated; it cannot check what
// the witness did not see.
func (q *Inquiry) fitsBranch(kind *answerKind, host *dossier.StatedHost) bool {
	_, ok := pattern.Match(q.branches[kind.branch], func(clue int) []flow.Time {
		for i, c := range kind.leaves {
			if c == clue {
				return []flow.Time{host.Clues[i].Events[0].Time}
			}
		}
		return nil
	})
	return ok
}
