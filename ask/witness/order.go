package witness

import (
	"net/netip"
	"slices"

	"dragnet/dossier/pattern"
	"dragnet/flow/key"
)

// planOrder chooses which clues to look up first: of each alternative the one that fixes
// most of an address, since a host must fit it. Others are the rest; of a
// question without alternatives all come first.
func (g *gatherer) planOrder() (first, others []int) {
	isFirst := map[int]bool{}
	for _, b := range g.q.Branches {
		for _, i := range g.required(b) {
			isFirst[i] = true
		}
	}
	for i := range g.clues {
		if len(g.q.Branches) == 0 || isFirst[i] {
			first = append(first, i)
		} else {
			others = append(others, i)
		}
	}
	return first, others
}

// required are clues of which a host that fits the branch must fit one.
func (g *gatherer) required(b *pattern.Node) []int {
	leaves := b.Leaves()
	if len(leaves) == 0 {
		_, leaves = b.Quorum()
		return leaves
	}
	return []int{slices.MinFunc(leaves, func(a, b int) int { return g.openBits(a) - g.openBits(b) })}
}

// openBits is how much of an address a clue leaves open, more for many keys.
func (g *gatherer) openBits(i int) int {
	m := g.clues[i].Mask
	open := 0
	switch {
	case m.Family == key.NoAddr:
		open = 1 << 20
	default:
		open = 1024 * (m.Family.Bits() - int(m.Prefix))
	}
	return open + min(len(g.clues[i].Keys), 1023)
}

// restrict leaves to the other clues only the hosts that fit what is required of an
// alternative that has them.
func (g *gatherer) restrict(others []int) {
	for _, i := range others {
		g.clues[i].among = map[netip.Addr]bool{}
	}
	for _, b := range g.q.Branches {
		hosts := map[netip.Addr]bool{}
		for _, i := range g.required(b) {
			for h := range g.clues[i].found {
				hosts[h.x] = true
			}
		}
		for _, i := range b.Clues() {
			if slices.Contains(others, i) {
				for x := range hosts {
					g.clues[i].among[x] = true
				}
			}
		}
	}
}
