package detective

import (
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

	tuple key.Tuple
	clue  int // index into Inquiry.clues
}

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
	return q.metered
}

// Joint is, for each alternative of the pattern, the number of combinations of
// tuples a reader must deem possible: the product over its clues of their
// least ambiguous keys.
func (q *Inquiry) Joint() []float64 {
	least := make([]float64, len(q.clues))
	for _, a := range q.Meter() {
		if least[a.clue] == 0 || a.Candidates < least[a.clue] {
			least[a.clue] = a.Candidates
		}
	}
	out := make([]float64, len(q.branches))
	for i, b := range q.branches {
		out[i] = 1
		for _, leaf := range b.Leaves() {
			out[i] *= least[leaf]
		}
	}
	return out
}

// Masks lists the masks a pattern needs: DefaultBits asks for them.
func Masks(p *pattern.Pattern) []key.Mask {
	var out []key.Mask
	for i := range p.Clues {
		for _, t := range p.Clues[i].Tuples() {
			out = append(out, t.Mask)
		}
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
	}
	return out
}

// Hidden is the number the floor is held against: where an address is fixed,
// for a reader who guesses the service, since services are few.
func (a *MeteredKey) Hidden() float64 {
	if a.tuple.Mask.Family != key.NoAddr {
		return a.KnowingService
	}
	return a.Candidates
}
