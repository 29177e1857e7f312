package merge

import (
	"net/netip"
)

// crowded is the number of patterns above which a host says nothing about which
// of them belong together, and would cost the square of it: a scanner that
// everybody sees.
const crowded = 64

// forest is a union-find over patterns; the root of a set is its oldest.
type forest map[int]int

func (f forest) find(p int) int {
	for f[p] != p {
		f[p] = f[f[p]]
		p = f[p]
	}
	return p
}

func (f forest) union(a, b int) {
	a, b = f.find(a), f.find(b)
	f[max(a, b)] = min(a, b)
}

// linkPatterns joins patterns whose standing hosts overlap.
func (r *Thresholds) linkPatterns(standing map[int]map[netip.Addr]*tally) forest {
	roots := forest{}
	byHost := map[netip.Addr][]int{}
	for p, hosts := range standing {
		roots[p] = p
		for addr := range hosts {
			byHost[addr] = append(byHost[addr], p)
		}
	}
	shared := map[[2]int]int{}
	for _, patterns := range byHost {
		if len(patterns) > crowded {
			continue
		}
		for i, a := range patterns {
			for _, b := range patterns[i+1:] {
				shared[[2]int{min(a, b), max(a, b)}]++
			}
		}
	}
	for pair, n := range shared {
		smaller := min(len(standing[pair[0]]), len(standing[pair[1]]))
		if n >= r.Shared && float64(n) >= r.Overlap*float64(smaller) {
			roots.union(pair[0], pair[1])
		}
	}
	return roots
}
