package family

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Cut is one step of normalised cuts.
type Cut struct {
	// Y is the second generalised eigenvector of (D - Pi) y = mu D y; its sign
	// is the side of each sample.
	Y []float64
	// Within and Across are the mean similarities of pairs on one side and of
	// pairs on both.
	Within, Across float64
}

// Split cuts the samples in members in two. It returns false if there are too
// few, or the eigenvector does not exist.
func Split(similarity [][]float64, members []int) (Cut, bool) {
	n := len(members)
	if n < 2 {
		return Cut{}, false
	}
	// The same vector from the symmetric D^-1/2 (D - Pi) D^-1/2.
	root := make([]float64, n)
	for i, a := range members {
		for _, b := range members {
			root[i] += similarity[a][b]
		}
		root[i] = math.Sqrt(max(root[i], 1e-12))
	}
	sym := mat.NewSymDense(n, nil)
	for i, a := range members {
		for j := i; j < n; j++ {
			v := -similarity[a][members[j]] / root[i] / root[j]
			if i == j {
				v++
			}
			sym.SetSym(i, j, v)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(sym, true) {
		return Cut{}, false
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	c := Cut{Y: make([]float64, n)}
	for i := range c.Y {
		c.Y[i] = vectors.At(i, 1) / root[i]
	}
	if c.Y[0] > 0 { // the sign is arbitrary; the first sample decides it
		for i := range c.Y {
			c.Y[i] = -c.Y[i]
		}
	}
	var within, across runningMean
	for i, a := range members {
		for j, b := range members[:i] {
			if c.Y[i] > 0 == (c.Y[j] > 0) {
				within.addValue(similarity[a][b])
			} else {
				across.addValue(similarity[a][b])
			}
		}
	}
	c.Within, c.Across = within.meanValue(), across.meanValue()
	return c, within.n > 0 && across.n > 0
}

type runningMean struct{ sum, n float64 }

func (m *runningMean) addValue(v float64) { m.sum += v; m.n++ }

func (m *runningMean) meanValue() float64 { return m.sum / max(m.n, 1) }

// A cut is kept if pairs across are at most this share as similar as pairs
// within: cutting one family along its own eigenvector leaves 0.9 and more.
const mostAcross = 0.8

// leastAlike is the least similarity within a family, as a share of that of the
// most similar family. Groups below are outliers.
const leastAlike = 0.3

// Cuts splits recursively until the similarity within and across no longer
// differs. Families come with the largest first; outliers belong to none.
func Cuts(similarity [][]float64) (families [][]int, outliers []int) {
	families, outliers, _ = cutAgainst(similarity, 0)
	return families, outliers
}

// cutAgainst also compares families with alike, the similarity within those of
// an earlier subset, and returns the larger of that and the highest here.
func cutAgainst(similarity [][]float64, alike float64) (families [][]int, outliers []int, most float64) {
	all := make([]int, len(similarity))
	for i := range all {
		all[i] = i
	}
	var visit func(members []int)
	visit = func(members []int) {
		cut, ok := Split(similarity, members)
		if ok && cut.Across <= mostAcross*cut.Within {
			var sides [2][]int
			for i, m := range members {
				side := 0
				if cut.Y[i] > 0 {
					side = 1
				}
				sides[side] = append(sides[side], m)
			}
			visit(sides[0])
			visit(sides[1])
			return
		}
		families = append(families, members)
	}
	if len(all) > 0 {
		visit(all)
	}
	families, outliers, most = dropLoose(similarity, families, alike)
	slices.SortStableFunc(families, func(a, b []int) int { return len(b) - len(a) })
	slices.Sort(outliers)
	return families, outliers, most
}

func dropLoose(similarity [][]float64, groups [][]int, most float64) (families [][]int, outliers []int, _ float64) {
	alike := make([]float64, len(groups))
	for g, members := range groups {
		var m runningMean
		for i, a := range members {
			for _, b := range members[:i] {
				m.addValue(similarity[a][b])
			}
		}
		alike[g] = m.meanValue()
		most = max(most, alike[g])
	}
	for g, members := range groups {
		if len(members) < 2 || alike[g] < leastAlike*most {
			outliers = append(outliers, members...)
			continue
		}
		var kept []int
		for _, a := range members {
			var m runningMean
			for _, b := range members {
				if a != b {
					m.addValue(similarity[a][b])
				}
			}
			if m.meanValue() < leastAlike*alike[g] {
				outliers = append(outliers, a)
			} else {
				kept = append(kept, a)
			}
		}
		families = append(families, kept)
	}
	return families, outliers, most
}
