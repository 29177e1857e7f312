package detective

import (
	"maps"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// attested is an event and who stated it.
type attested struct {
	dossier.FlowEvent
	witness, class string
	clue           int
	tuple          key.Tuple
}

// poolStatements gathers what all witnesses said of one host: by asked clue, in order of
// time.
func (q *Inquiry) poolStatements(s *suspect) map[int][]attested {
	events := map[int][]attested{}
	for k, c := range s.said {
		for _, e := range c.Events {
			events[k.clue] = append(events[k.clue], attested{e, k.witness, q.classOf(k.witness), k.clue, k.tuple})
		}
	}
	for _, e := range events {
		slices.SortFunc(e, func(a, b attested) int { return a.Compare(b.FlowEvent) })
	}
	return events
}

// joinEvents matches every branch over the events of all witnesses together, so
// that one witness's clue and another's may complete each other.
func (q *Inquiry) joinEvents(events map[int][]attested) (matches []joined, names map[string]bool) {
	names = map[string]bool{}
	for b := range q.branches {
		picked, ok := q.matchBranch(b, events)
		if !ok {
			continue
		}
		m := joined{branch: b}
		for _, e := range picked {
			m.clues, m.events = append(m.clues, e.clue), append(m.events, e.FlowEvent)
			for _, e := range events[e.clue] {
				names[e.witness] = true
			}
		}
		matches = append(matches, m)
	}
	return matches, names
}

// matchBranch is the earliest match of a branch: an event of each leaf, and of as many
// values as its AtLeast requires.
func (q *Inquiry) matchBranch(branch int, events map[int][]attested) (picked []attested, ok bool) {
	n := q.branches[branch]
	picks, ok := pattern.Match(n, func(clue int) []flow.Time {
		times := make([]flow.Time, len(events[clue]))
		for i, e := range events[clue] {
			times[i] = e.Time
		}
		return times
	})
	if !ok {
		return nil, false
	}
	for i, leaf := range n.Leaves() {
		picked = append(picked, events[leaf][picks[i]])
	}
	count, of := n.Quorum()
	if count == 0 {
		return picked, true
	}
	first := firstOfEach(of, events)
	if len(first) < count {
		return nil, false
	}
	return append(picked, first[:count]...), true
}

// firstOfEach is the first event of each value of some clues, in order of time.
func firstOfEach(clues []int, events map[int][]attested) (out []attested) {
	for _, c := range clues {
		seen := map[key.Tuple]bool{}
		for _, e := range events[c] {
			if !seen[e.tuple] {
				seen[e.tuple] = true
				out = append(out, e)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b attested) int { return a.Compare(b.FlowEvent) })
	return out
}

// survivesLiars reports whether a host still matches after removing any set of
// liars classes besides those in without: then at least one honest class confirms
// it.
// A choice that breaks every match breaks any one we find, so it suffices to
// try leaving out each class of that one.
func (q *Inquiry) survivesLiars(events map[int][]attested, without []string, liars int) bool {
	left := map[int][]attested{}
	for clue, all := range events {
		left[clue] = slices.DeleteFunc(slices.Clone(all), func(e attested) bool { return slices.Contains(without, e.class) })
	}
	for b := range q.branches {
		picked, ok := q.matchBranch(b, left)
		if !ok {
			continue
		}
		support := map[string]bool{}
		for _, e := range picked {
			support[e.class] = true
		}
		if liars > 0 {
			for class := range maps.Keys(support) {
				if !q.survivesLiars(events, append(slices.Clone(without), class), liars-1) {
					return false
				}
			}
		}
		return true
	}
	return false
}
