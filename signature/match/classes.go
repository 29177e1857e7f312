package match

import "math"

// buildClasses puts the 256 byte values into n classes such that replacing each
// term by the least of its class loses little: pairs of classes merge, those
// first whose merging costs least in the given traffic (agglomerative
// clustering with nearest neighbours kept).
func buildClasses(terms [][256]uint8, traffic *[256]float64, n int) (class [256]byte) {
	type group struct {
		least   []uint8
		weight  float64
		near    int
		cost    float64
		dropped bool
	}
	groups := make([]group, 256)
	parent := [256]int{}
	for x := range groups {
		groups[x].least = make([]uint8, len(terms))
		for j := range terms {
			groups[x].least[j] = terms[j][x]
		}
		groups[x].weight = traffic[x]
		parent[x] = x
	}
	// price stops adding once it is no longer the least.
	price := func(a, b *group, least float64) float64 {
		over, under := 0, 0
		other := b.least[:len(a.least)]
		for j, v := range a.least {
			d := int(v) - int(other[j])
			up := d &^ (d >> 63) // max(d, 0) without a branch
			over += up
			under += up - d
			if j%16 == 15 && a.weight*float64(over)+b.weight*float64(under) >= least {
				break
			}
		}
		return a.weight*float64(over) + b.weight*float64(under)
	}
	nearest := func(i int) {
		groups[i].cost = math.Inf(1)
		for j := range groups {
			if j != i && !groups[j].dropped {
				if c := price(&groups[i], &groups[j], groups[i].cost); c < groups[i].cost {
					groups[i].near, groups[i].cost = j, c
				}
			}
		}
	}
	for i := range groups {
		nearest(i)
	}
	for range 256 - n {
		a := -1
		for i := range groups {
			if !groups[i].dropped && (a < 0 || groups[i].cost < groups[a].cost) {
				a = i
			}
		}
		b := groups[a].near
		groups[b].dropped = true
		parent[b] = a
		groups[a].weight += groups[b].weight
		for j, v := range groups[b].least {
			groups[a].least[j] = min(groups[a].least[j], v)
		}
		for i := range groups {
			if !groups[i].dropped && (i == a || groups[i].near == a || groups[i].near == b) {
				nearest(i)
			}
		}
	}
	number := map[int]byte{}
	for x := range class {
		root := x
		for parent[root] != root {
			root = parent[root]
		}
		if _, ok := number[root]; !ok {
			number[root] = byte(len(number))
		}
		class[x] = number[root]
	}
	return class
}
