package witness

import (
	"context"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// joiner finds, for one branch, every host and every combination of tuples
// (one per leaf) under which the host's events satisfy the branch.
type joiner struct {
	branch *pattern.Node
	number int
	leaves []int
	limit  int  // of groups
	work   *int // the rest of maxJoinWork
	groups map[string]*group
}

// maxJoinWork bounds the joins of one question, over all its branches: the sum,
// over hosts and combinations of tuples, of the events looked at and perLeaf
// for each leaf. Busy hosts and a very short key could otherwise make it
// explode. It is a second or two.
const (
	maxJoinWork = 1 << 26
	perLeaf     = 16
)

// joinBranches reports false if the answer would exceed the bounds.
func (j *joiner) joinBranches(ctx context.Context, g *gatherer) (bool, error) {
	byHost := make([]map[netip.Addr][]key.Tuple, len(j.leaves))
	for i, clue := range j.leaves {
		byHost[i] = map[netip.Addr][]key.Tuple{}
		for h := range g.clues[clue].found {
			byHost[i][h.x] = append(byHost[i][h.x], h.tuple)
		}
	}
	combination := make([]key.Tuple, len(j.leaves))
	for x := range byHost[0] {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := 1
		for _, tuples := range byHost {
			if n *= len(tuples[x]); n > *j.work {
				return false, nil
			}
		}
		if n > 0 && !j.tryCombination(g, x, byHost, combination, 0) {
			return false, nil
		}
	}
	return true, nil
}

// tryCombination extends a combination leaf by leaf and files x under those that match.
func (j *joiner) tryCombination(g *gatherer, x netip.Addr, byHost []map[netip.Addr][]key.Tuple, combination []key.Tuple, leaf int) bool {
	if leaf == len(j.leaves) {
		return j.addHost(g, x, combination)
	}
	for _, t := range byHost[leaf][x] {
		combination[leaf] = t
		if !j.tryCombination(g, x, byHost, combination, leaf+1) {
			return false
		}
	}
	return true
}

func (j *joiner) addHost(g *gatherer, x netip.Addr, combination []key.Tuple) bool {
	events := make([][]dossier.FlowEvent, len(j.leaves))
	for i, clue := range j.leaves {
		events[i] = g.clues[clue].matching(hit{combination[i], x})
		*j.work -= perLeaf + len(events[i])
	}
	if *j.work < 0 {
		return false
	}
	picks, ok := pattern.Match(j.branch, func(clue int) []flow.Time { return dossier.Times(events[slices.Index(j.leaves, clue)]) })
	if !ok {
		return true
	}
	host := dossier.StatedHost{Addr: x}
	for i, pick := range picks {
		all := g.clues[j.leaves[i]].found[hit{combination[i], x}]
		host.Clues = append(host.Clues, stateClue(all, events[i][pick:pick+1]))
	}
	var name []byte
	for _, t := range combination {
		name, _ = t.AppendBinary(name) // cannot fail
	}
	filed := j.groups[string(name)]
	if filed == nil {
		if len(j.groups) == j.limit {
			return false
		}
		filed = &group{branch: j.number, tuples: slices.Clone(combination)}
		j.groups[string(name)] = filed
	}
	filed.hosts = append(filed.hosts, host)
	return true
}
