package witness

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// joiner finds, for one branch, every host and every combination of values under
// which the host's events satisfy the branch: a value for each leaf, and as many as
// the branch's AtLeast requires.
type joiner struct {
	branch *pattern.Node
	number int
	limit  int  // of groups
	work   *int // the rest of maxJoinWork
	groups map[string]*group

	g          *gatherer
	leaves     []int
	count      int   // values required by AtLeast, 0 without
	of         []int // its clues
	negated    []pattern.Negated
	tuplesOf   []map[netip.Addr][]key.Tuple // by clue, of those in the branch
	timed, all []int                        // indices into negated
}

// value is a clue and a tuple of it.
type value struct {
	clue  int
	tuple key.Tuple
}

// maxJoinWork bounds the joins of one question, over all its branches: the sum,
// over hosts and combinations of values, of the events looked at and perLeaf
// for each leaf. Busy hosts and a very short key could otherwise make it
// explode. It is a second or two.
const (
	maxJoinWork = 1 << 26
	perLeaf     = 16
)

func newJoiner(g *gatherer, number, limit int, work *int) *joiner {
	b := g.q.Branches[number]
	j := &joiner{branch: b, number: number, limit: limit, work: work, groups: map[string]*group{}, g: g, leaves: b.Leaves(), negated: b.Negations()}
	j.count, j.of = b.Quorum()
	j.tuplesOf = make([]map[netip.Addr][]key.Tuple, len(g.clues))
	add := func(clue int) {
		j.tuplesOf[clue] = map[netip.Addr][]key.Tuple{}
		for h := range g.clues[clue].found {
			j.tuplesOf[clue][h.x] = append(j.tuplesOf[clue][h.x], h.tuple)
		}
	}
	for _, clue := range b.Clues() {
		add(clue)
	}
	for i, v := range j.negated {
		if v.Timed {
			j.timed = append(j.timed, i)
		} else {
			j.all = append(j.all, i)
		}
	}
	return j
}

// joinBranches reports false if the answer would exceed the bounds.
func (j *joiner) joinBranches(ctx context.Context) (bool, error) {
	for x := range j.candidates() {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := 1
		for _, clue := range j.leaves {
			if n *= len(j.tuplesOf[clue][x]); n > *j.work {
				return false, nil
			}
		}
		values := j.valuesOf(x)
		if n == 0 || len(values) < j.count {
			continue
		}
		if !j.tryCombination(x, nil, values) {
			return false, nil
		}
	}
	return true, nil
}

// candidates are hosts among which are all that can match.
func (j *joiner) candidates() map[netip.Addr]bool {
	from := j.of
	if len(j.leaves) > 0 {
		from = j.leaves[:1]
	}
	out := map[netip.Addr]bool{}
	for _, clue := range from {
		for x := range j.tuplesOf[clue] {
			out[x] = true
		}
	}
	return out
}

// tryCombination extends a combination leaf by leaf, then by as many of the values as
// the branch counts, and files x under those that match.
func (j *joiner) tryCombination(x netip.Addr, combination, values []value) bool {
	if len(combination) == len(j.leaves) {
		return j.trySubsets(x, combination, values, j.count)
	}
	clue := j.leaves[len(combination)]
	for _, t := range j.tuplesOf[clue][x] {
		if !j.tryCombination(x, append(combination, value{clue, t}), values) {
			return false
		}
	}
	return true
}

// valuesOf are those of AtLeast that x fits, in the order in which they are sealed: by
// clue, then tuple.
func (j *joiner) valuesOf(x netip.Addr) (out []value) {
	for _, clue := range j.of {
		for _, t := range j.tuplesOf[clue][x] {
			out = append(out, value{clue, t})
		}
	}
	slices.SortFunc(out, func(a, b value) int { return cmp.Or(cmp.Compare(a.clue, b.clue), a.tuple.Compare(b.tuple)) })
	return out
}

// trySubsets adds every choice of more of the values to the combination.
func (j *joiner) trySubsets(x netip.Addr, combination, values []value, more int) bool {
	if more == 0 {
		return j.addHost(x, combination)
	}
	for i := range len(values) - more + 1 {
		if *j.work -= perLeaf; *j.work < 0 || !j.trySubsets(x, append(combination, values[i]), values[i+1:], more-1) {
			return false
		}
	}
	return true
}

// addHost files x under a combination if it matches, and says what becomes of that for
// who asked to leave out a value that x has, too.
func (j *joiner) addHost(x netip.Addr, combination []value) bool {
	host, ok := j.match(x, combination, nil)
	if !ok {
		return *j.work >= 0
	}
	if !j.file(0, combination, nil, host) {
		return false
	}
	for _, i := range j.all {
		for _, t := range j.tuplesOf[j.negated[i].Clue][x] {
			if !j.file(dossier.NegatedKind(i), combination, []value{{j.negated[i].Clue, t}}, dossier.StatedHost{Addr: x}) {
				return false
			}
		}
	}
	for subset := 1; subset < 1<<len(j.timed); subset++ {
		if !j.addWithout(x, combination, nil, subset, 0) {
			return false
		}
	}
	return true
}

// addWithout files what is left of x if the flows of a subset of the values negated in
// time count: a host without clues if nothing is.
func (j *joiner) addWithout(x netip.Addr, combination, denied []value, subset, at int) bool {
	if at == len(j.timed) {
		host, ok := j.match(x, combination, denied)
		if *j.work < 0 {
			return false
		}
		if !ok {
			host = dossier.StatedHost{Addr: x}
		}
		return j.file(uint16(subset), combination, denied, host)
	}
	if subset>>at&1 == 0 {
		return j.addWithout(x, combination, denied, subset, at+1)
	}
	clue := j.negated[j.timed[at]].Clue
	for _, t := range j.tuplesOf[clue][x] {
		if !j.addWithout(x, combination, append(denied, value{clue, t}), subset, at+1) {
			return false
		}
	}
	return true
}

// match is how x matches under a combination, given the flows of the values denied.
func (j *joiner) match(x netip.Addr, combination, denied []value) (dossier.StatedHost, bool) {
	events := map[int][]dossier.FlowEvent{}
	for _, v := range slices.Concat(combination[:len(j.leaves)], denied) {
		events[v.clue] = j.g.clues[v.clue].matching(hit{v.tuple, x})
		*j.work -= perLeaf + len(events[v.clue])
	}
	if *j.work < 0 {
		return dossier.StatedHost{}, false
	}
	picks, ok := pattern.Match(j.branch, func(clue int) []flow.Time { return dossier.Times(events[clue]) })
	if !ok {
		return dossier.StatedHost{}, false
	}
	host := dossier.StatedHost{Addr: x}
	for i, v := range combination {
		c := &j.g.clues[v.clue]
		shown := c.matching(hit{v.tuple, x})
		pick := 0 // of AtLeast, the first will do
		if i < len(picks) {
			pick = picks[i]
		}
		host.Clues = append(host.Clues, stateClue(c.found[hit{v.tuple, x}], shown[pick:pick+1]))
	}
	return host, true
}

// file adds the host to the group of a combination and the values denied.
func (j *joiner) file(kind uint16, combination, denied []value, host dossier.StatedHost) bool {
	if *j.work -= perLeaf * (len(combination) + len(denied)); *j.work < 0 {
		return false
	}
	name := []byte{byte(kind >> 8), byte(kind)}
	var tuples []key.Tuple
	var chosen []int
	for _, v := range combination[len(j.leaves):] {
		chosen = append(chosen, v.clue)
	}
	for _, v := range slices.Concat(combination, denied) {
		name = append(name, byte(v.clue)) // of at most dossier.MaxAskedClues
		name, _ = v.tuple.AppendBinary(name)
		tuples = append(tuples, v.tuple)
	}
	filed := j.groups[string(name)]
	if filed == nil {
		if len(j.groups) == j.limit {
			return false
		}
		filed = &group{branch: int(dossier.AnswerNumber(j.number, kind)), tuples: tuples, first: len(combination), chosen: chosen}
		j.groups[string(name)] = filed
	}
	filed.hosts = append(filed.hosts, host)
	return true
}
