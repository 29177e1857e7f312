package detective

import (
	"cmp"
	"slices"

	"dragnet/dossier"
	"dragnet/flow/key"
)

// answerKind is a kind of answers that witnesses seal: what its key is made of.
type answerKind struct {
	number uint16 // dossier.AnswerNumber, or the clue if we join
	branch int
	leaves []int
	// count values of the clues in of follow the leaves, where the branch has an AtLeast.
	count int
	of    []int
	// negated are the clues that restrict the branch and are known to this kind.
	negated []int
}

// positions is how many clues a host of such an answer speaks to.
func (k *answerKind) positions() int { return len(k.leaves) + k.count }

// answerKinds lists all kinds: if we join, every clue is one.
func (q *Inquiry) answerKinds() (out []answerKind) {
	if q.config.JoinHere {
		for i := range q.clues {
			out = append(out, answerKind{number: uint16(i), leaves: []int{i}})
		}
		return out
	}
	for b, n := range q.branches {
		base := answerKind{branch: b, leaves: n.Leaves()}
		base.count, base.of = n.Quorum()
		var timed []int
		add := func(kind uint16, negated ...int) {
			k := base
			k.number, k.negated = dossier.AnswerNumber(b, kind), negated
			out = append(out, k)
		}
		add(0)
		for i, v := range n.Negations() {
			if v.Timed {
				timed = append(timed, v.Clue)
			} else {
				add(dossier.NegatedKind(i), v.Clue)
			}
		}
		for subset := 1; subset < 1<<len(timed); subset++ {
			var negated []int
			for i, clue := range timed {
				if subset>>i&1 != 0 {
					negated = append(negated, clue)
				}
			}
			add(uint16(subset), negated...)
		}
	}
	return out
}

// asked is one of our values: a clue, and an index into its tuples.
type asked struct{ clue, tuple int }

// combine calls use with every choice of values that a kind's key can be made of: one of
// each leaf, count of the clues in of, and one of each negated clue.
func (q *Inquiry) combine(k *answerKind, use func([]asked) error) error {
	values := q.valuesOf(k.of)
	var choose func(chosen []asked, from, more int) error
	extend := func(chosen []asked, clue int, next func([]asked) error) error {
		for t := range q.clues[clue].tuples {
			if err := next(append(chosen, asked{clue, t})); err != nil {
				return err
			}
		}
		return nil
	}
	var each func(chosen []asked, clues []int, then func([]asked) error) error
	each = func(chosen []asked, clues []int, then func([]asked) error) error {
		if len(clues) == 0 {
			return then(chosen)
		}
		return extend(chosen, clues[0], func(c []asked) error { return each(c, clues[1:], then) })
	}
	choose = func(chosen []asked, from, more int) error {
		if more == 0 {
			return each(chosen, k.negated, use)
		}
		for i := from; i+more <= len(values); i++ {
			if err := choose(append(chosen, values[i]), i+1, more-1); err != nil {
				return err
			}
		}
		return nil
	}
	return each(nil, k.leaves, func(c []asked) error { return choose(c, 0, k.count) })
}

// valuesOf lists the values of clues in the order in which witnesses seal them: by
// clue, then tuple.
func (q *Inquiry) valuesOf(clues []int) (out []asked) {
	for _, c := range clues {
		for t := range q.clues[c].tuples {
			out = append(out, asked{c, t})
		}
	}
	tuple := func(v asked) key.Tuple { return q.clues[v.clue].tuples[v.tuple] }
	slices.SortFunc(out, func(a, b asked) int { return cmp.Or(cmp.Compare(a.clue, b.clue), tuple(a).Compare(tuple(b))) })
	return out
}

// combinations is how many choices combine has, or maxCombinations+1 if more.
func (q *Inquiry) combinations(k *answerKind) int {
	n := 1
	times := func(m int) { n = min(n*m, maxCombinations+1) }
	for _, c := range slices.Concat(k.leaves, k.negated) {
		times(len(q.clues[c].tuples))
	}
	values, subsets := 0, 1
	for _, c := range k.of {
		values += len(q.clues[c].tuples)
	}
	for i := range k.count {
		if subsets = subsets * (values - i) / (i + 1); subsets > maxCombinations {
			return maxCombinations + 1
		}
	}
	times(subsets)
	return n
}
