package pattern

import (
	"cmp"
	"slices"

	"dragnet/flow"
)

// Match looks for events of one host that satisfy a branch (a tree without Or):
// events(clue) are the times of the host's flows that match that clue, in any
// order. It returns, for each of branch.Leaves(), the index of the event
// that the earliest match uses; ok is false if there is no match. Time is O(n
// log n). AtLeast is about values, not clues: it is the caller's to check.
func Match(branch *Node, events func(clue int) []flow.Time) (picks []int, ok bool) {
	plain, nots := splitAnd(branch)
	for _, n := range nots {
		if len(events(n.Left.Clue)) > 0 {
			return nil, false
		}
	}
	if plain == nil {
		return nil, true
	}
	all := findSpans(plain, events)
	if len(all) == 0 {
		return nil, false
	}
	return all[0].collectPicks(nil), true
}

// span is one way to satisfy a subtree: its first and its last event. For a
// leaf, event is the index; else left and right are the parts.
type span struct {
	first, last flow.Time
	event       int
	left, right *span
}

func (s *span) collectPicks(out []int) []int {
	if s.left == nil {
		return append(out, s.event)
	}
	return s.right.collectPicks(s.left.collectPicks(out))
}

// findSpans lists, in order of last, the ways to satisfy n: for each time of
// the last event the one that starts latest. No other is needed, since a parent
// only requires that the first event is late enough and the last is in a
// window.
func findSpans(n *Node, events func(int) []flow.Time) []span {
	switch n.Op {
	case Leaf:
		times := events(n.Clue)
		out := make([]span, len(times))
		for i, t := range times {
			out[i] = span{first: t, last: t, event: i}
		}
		return latestFirst(out)
	case Or, Not, AtLeast:
		panic("pattern: Match of a tree that is no branch; see Branches")
	}
	if n.Right.Op == Not || n.Left.Op == Not {
		if n.Op == Then {
			return restrictSpans(n, events)
		}
		plain, nots := splitAnd(n)
		if slices.ContainsFunc(nots, func(v *Node) bool { return len(events(v.Left.Clue)) > 0 }) {
			return nil
		}
		return findSpans(plain, events)
	}
	left := findSpans(n.Left, events)
	if len(left) == 0 {
		return nil
	}
	right := findSpans(n.Right, events)
	if n.Op == Then {
		return thenSpans(left, right, n)
	}
	return latestFirst(append(andSpans(left, right, false), andSpans(right, left, true)...))
}

// splitAnd separates what is joined by And alone: the operands that have events, nil if
// none, and what is negated at any time. AtLeast is left out.
func splitAnd(n *Node) (plain *Node, nots []*Node) {
	switch n.Op {
	case AtLeast:
		return nil, nil
	case Not:
		return nil, []*Node{n}
	case And:
	default:
		return n, nil
	}
	left, nots := splitAnd(n.Left)
	right, more := splitAnd(n.Right)
	nots = append(nots, more...)
	switch {
	case left == nil:
		return right, nots
	case right == nil:
		return left, nots
	}
	return &Node{Op: And, Left: left, Right: right}, nots
}

// restrictSpans drops the spans of one side of a Then that the other side, a Not,
// forbids. Of spans with one last event all but the one that starts latest were left
// out before, and no other is needed: "then not" looks at the last event alone, and
// "not before" has a single event after it.
func restrictSpans(n *Node, events func(int) []flow.Time) []span {
	side, negated, before := n.Left, n.Right.Left, false
	if n.Left.Op == Not {
		side, negated, before = n.Right, n.Left.Left, true
	}
	times := slices.Sorted(slices.Values(events(negated.Clue)))
	within := flow.Time(n.Within)
	return slices.DeleteFunc(findSpans(side, events), func(s span) bool {
		from, to := s.last+1, s.last+within // both ends are inside
		if to < s.last {
			to = flow.MaxTime // the sum wrapped
		}
		if before {
			if from, to = s.first-within, s.first-1; from > s.first {
				from = flow.MinTime
			}
		}
		at, _ := slices.BinarySearch(times, from)
		return at < len(times) && times[at] <= to
	})
}

// latestFirst sorts by last and keeps, of equal last, the greatest first.
func latestFirst(s []span) []span {
	slices.SortStableFunc(s, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(b.first, a.first))
	})
	return slices.CompactFunc(s, func(a, b span) bool { return a.last == b.last })
}

// andSpans pairs each span of ends, which supplies the last event, with the
// span of others that starts latest among those that end no later.
func andSpans(ends, others []span, swapped bool) []span {
	var out []span
	var best *span
	j := 0
	for i := range ends {
		for ; j < len(others) && others[j].last <= ends[i].last; j++ {
			if best == nil || others[j].first > best.first {
				best = &others[j]
			}
		}
		if best == nil {
			continue
		}
		s := span{first: min(ends[i].first, best.first), last: ends[i].last, left: &ends[i], right: best}
		if swapped {
			s.left, s.right = s.right, s.left
		}
		out = append(out, s)
	}
	return out
}

// thenSpans pairs each span on the right with the span on the left that starts
// latest among those whose last event lies before all of right, and no more
// than Within before its end.
func thenSpans(left, right []span, n *Node) []span {
	best := newRangeMax(left)
	var out []span
	for i := range right {
		r := &right[i]
		earliest := r.last - flow.Time(n.Within)
		if earliest > r.last {
			earliest = flow.MinTime // the subtraction wrapped
		}
		from, _ := slices.BinarySearchFunc(left, earliest, func(s span, t flow.Time) int { return cmp.Compare(s.last, t) })
		to, _ := slices.BinarySearchFunc(left, r.first, func(s span, t flow.Time) int { return cmp.Compare(s.last, t) })
		if from >= to {
			continue
		}
		l := &left[best.maxIn(from, to)]
		out = append(out, span{first: l.first, last: r.last, left: l, right: r})
	}
	return out
}

// rangeMax answers "which span of [from, to) starts latest" from a sparse
// table: row k holds the winner of each run of 2^k spans.
type rangeMax struct {
	spans []span
	rows  [][]int32
}

func newRangeMax(s []span) *rangeMax {
	r := &rangeMax{spans: s, rows: [][]int32{make([]int32, len(s))}}
	for i := range s {
		r.rows[0][i] = int32(i)
	}
	for half := 1; 2*half <= len(s); half *= 2 {
		below := r.rows[len(r.rows)-1]
		row := make([]int32, len(s)-2*half+1)
		for i := range row {
			row[i] = r.laterOf(below[i], below[i+half])
		}
		r.rows = append(r.rows, row)
	}
	return r
}

func (r *rangeMax) laterOf(a, b int32) int32 {
	if r.spans[b].first > r.spans[a].first {
		return b
	}
	return a
}

func (r *rangeMax) maxIn(from, to int) int {
	k := 0
	for 2<<k <= to-from {
		k++
	}
	return int(r.laterOf(r.rows[k][from], r.rows[k][to-1<<k]))
}
