package detective

import (
	"fmt"
	"slices"

	"dragnet/dossier/pattern"
	"dragnet/flow/key"
)

// MeteredKey describes one key of the question: what is sent, and how many tuples a
// reader who saw none of the traffic must deem possible for it.
type MeteredKey struct {
	Clue string `json:"clue"`
	Mask string `json:"mask"`
	Key  string `json:"key"`
	// Candidates is for a reader who knows nothing.
	Candidates float64 `json:"candidates"`
	// KnowingService is for a reader who guessed ports and protocol.
	KnowingService float64 `json:"candidates_knowing_service"`
	// Jointly is for a reader who knows the services and guesses which keys of the
	// question are about one address, or one small network (key.Hidden). Without
	// an address, nothing else is to be guessed: it is Candidates.
	Jointly float64 `json:"candidates_jointly"`
	// AmongSeen is how many addresses a witness that saw the traffic, and SeenAddresses
	// in all, must expect under the keys, the true one included; 0 without address.
	AmongSeen float64 `json:"candidates_among_seen"`
	// InClear is what of the clue is not hashed, in the language: empty if nothing. Of
	// what a witness saw under the key, only what meets it stays possible, so that
	// AmongSeen is then at most.
	InClear string `json:"in_clear,omitempty"`

	tuple key.Tuple
	clue  int // index into Inquiry.clues
}

// SeenAddresses is the size of the log that MeteredKey.AmongSeen assumes: different
// addresses, prefixes or services that a large witness has seen.
const SeenAddresses = 1e7

// Tuple is what the key hides. It never leaves the detective.
func (a *MeteredKey) Tuple() key.Tuple { return a.tuple }

// Meter is the ambiguity meter: what the question would give away, before it
// is sent.
func (q *Inquiry) Meter() []MeteredKey {
	if q.metered != nil {
		return q.metered
	}
	meter := key.NewMeter(q.config.Hash)
	for i := range q.clues {
		c := &q.clues[i]
		for j, t := range c.tuples {
			k := c.asked.Keys[j].K
			a := MeteredKey{
				Clue: q.pattern.Clues[c.of].Text, Mask: c.asked.Mask.String(), Key: k.String(), tuple: t, clue: i,
				InClear:        pattern.Clear(c.asked.State, c.asked.Bounds),
				KnowingService: meter.Candidates(key.Reader{Service: &t}, t.Mask, k),
			}
			if j > 0 && k == c.asked.Keys[j-1].K {
				a.Candidates = q.metered[len(q.metered)-1].Candidates
			} else {
				a.Candidates = meter.Candidates(key.Reader{}, t.Mask, k)
			}
			q.metered = append(q.metered, a)
		}
	}
	q.meterAddresses()
	return q.metered
}

// meterAddresses fills in what the keys of related addresses give away together.
func (q *Inquiry) meterAddresses() {
	tuples := make([]key.Tuple, len(q.metered))
	for i := range q.metered {
		tuples[i] = q.metered[i].tuple
		q.metered[i].Jointly = q.metered[i].Candidates
	}
	q.hidden = key.HiddenAddresses(q.config.Hash, q.config.Epoch, tuples)
	for g := range q.hidden {
		for _, i := range q.hidden[g].Tuples {
			q.metered[i].Jointly = q.hidden[g].Candidates
			q.metered[i].AmongSeen = 1 + SeenAddresses*q.hidden[g].Share
		}
	}
}

// Joint is, for each alternative of the pattern, the number of combinations of
// addresses that a reader who knows the services must deem possible: the product over
// the unrelated addresses of its clues. An alternative without any has 1, as services
// can be guessed.
func (q *Inquiry) Joint() []float64 {
	metered := q.Meter()
	out := make([]float64, len(q.branches))
	for i, b := range q.branches {
		clues := b.Clues() // a reader sees their keys together
		out[i] = 1
		for g := range q.hidden {
			if slices.ContainsFunc(q.hidden[g].Tuples, func(t int) bool { return slices.Contains(clues, metered[t].clue) }) {
				out[i] *= q.hidden[g].Candidates
			}
		}
	}
	return out
}

// Tuples lists the tuples of a pattern: FitBits asks for them.
func Tuples(p *pattern.Pattern) (out []key.Tuple) {
	for i := range p.Clues {
		out = append(out, p.Clues[i].Tuples()...)
	}
	return out
}

// Branches lists, for each alternative of the pattern, the texts of its clues.
func (q *Inquiry) Branches() [][]string {
	out := make([][]string, len(q.branches))
	for i, b := range q.branches {
		for _, leaf := range b.Leaves() {
			out[i] = append(out[i], q.pattern.Clues[q.clues[leaf].of].Text)
		}
		if k, of := b.Quorum(); k > 0 {
			for _, leaf := range of {
				out[i] = append(out[i], fmt.Sprintf("%d of: %s", k, q.pattern.Clues[q.clues[leaf].of].Text))
			}
		}
		for _, v := range b.Negations() {
			out[i] = append(out[i], "not "+q.pattern.Clues[q.clues[v.Clue].of].Text)
		}
	}
	return out
}

// Restrictions says what those parts of the pattern give away that only leave hosts out
// of the result, for the operator.
func (q *Inquiry) Restrictions() (notes []string) {
	var denied, counted, named bool
	for _, b := range q.branches {
		k, _ := b.Quorum()
		denied, counted = denied || len(b.Negations()) > 0, counted || k > 0
	}
	for i := range q.pattern.Clues {
		named = named || len(q.pattern.Clues[i].X) > 0
	}
	if denied && !q.config.JoinHere {
		notes = append(notes, "Not: a witness cannot tell which of the values under the key is meant, so it names\nall hosts that fit the rest, and seals beside it which of them fit each value.")
	}
	if counted {
		notes = append(notes, "Count of clues: its keys are seen to belong together. A witness at which one host\nfits several of them can be nearly sure which values were meant.")
	}
	if named {
		notes = append(notes, "X is named: that is not sent. A witness names all hosts that fit, and this\nprogram leaves out the others.")
	}
	return notes
}

// Hidden is the number the floor is held against.
func (a *MeteredKey) Hidden() float64 { return a.Jointly }
