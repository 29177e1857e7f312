package detective

import (
	"maps"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
)

// attested is an event and who stated it.
type attested struct {
	dossier.FlowEvent
	witness, class string
}

// poolStatements gathers what all witnesses said of one host: by asked clue, in order of
// time.
func (q *Inquiry) poolStatements(s *suspect) map[int][]attested {
	events := map[int][]attested{}
	for k, c := range s.said {
		for _, e := range c.Events {
			events[k.clue] = append(events[k.clue], attested{e, k.witness, q.classOf(k.witness)})
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
		for i, leaf := range q.branches[b].Leaves() {
			m.events = append(m.events, picked[i].FlowEvent)
			for _, e := range events[leaf] {
				names[e.witness] = true
			}
		}
		matches = append(matches, m)
	}
	return matches, names
}

// matchBranch is the earliest match of a branch, one event per leaf.
func (q *Inquiry) matchBranch(branch int, events map[int][]attested) (picked []attested, ok bool) {
	n := q.branches[branch]
	picks, ok := pattern.Match(n, func(clue int) []flow.Time {
		times := make([]flow.Time, len(events[clue]))
		for i, e := range events[clue] {
			times[i] = e.Time
		}
		return times
	})
	for i, leaf := range n.Leaves() {
		if ok {
			picked = append(picked, events[leaf][picks[i]])
		}
	}
	return picked, ok
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
