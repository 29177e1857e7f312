package coresidence

import (
	"math"
	"slices"
)

// smallestSplit is the number of machines from which on two of them may take turns
// with two others.
const smallestSplit = 4

// splitTenant looks for the masters and the flooders of a tenant together. Where several
// masters measure in turn, and floods come late by a random time, each pair meets
// too rarely to show, and each machine beside all others of its tenant drowns in
// those that have no part in its tests. So every split of the members in two is
// tried; from the best one, machines are left out as long as that makes it better.
// The p-value counts every way to choose two sets of which neither is empty, whether
// tried or not, so it holds for any search among them.
func (d *detection) splitTenant(members []int) candidate {
	best := candidate{}
	n := len(members)
	for mask := 1; mask < 1<<(n-1); mask++ { // the last member stays among the others
		var some, others []int
		for k, i := range members {
			if mask>>k&1 != 0 {
				some = append(some, i)
			} else {
				others = append(others, i)
			}
		}
		if x := d.compareSets(some, others); best.some == nil || x.test.P < best.test.P {
			best = x
		}
	}
	for {
		less := best
		for _, i := range slices.Concat(best.some, best.others) {
			some, others := leaveOut(best.some, i), leaveOut(best.others, i)
			if len(some) == 0 || len(others) == 0 {
				continue
			}
			if x := d.compareSets(some, others); x.test.P < less.test.P {
				less = x
			}
		}
		if less.test.P >= best.test.P {
			break
		}
		best = less
	}
	best.test.P = min(1, best.test.P*countChoices(n))
	return best
}

// countChoices returns the number of ways to choose two sets among n, of which neither is
// empty, and whose order does not matter (Stirling numbers of the second kind).
func countChoices(n int) float64 {
	return (math.Pow(3, float64(n)) - math.Pow(2, float64(n)+1) + 1) / 2
}

func leaveOut(vms []int, i int) []int {
	return slices.DeleteFunc(slices.Clone(vms), func(j int) bool { return j == i })
}
