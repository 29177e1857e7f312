package coresidencefigures

import (
	"slices"
	"sort"
)

// roc is a curve: the shares of the attacker's and of the others whose score is
// at least each threshold, from the highest on.
type roc struct{ fpr, tpr []float64 }

func rocOf(s scores) roc {
	attack, normal := slices.Sorted(slices.Values(s.attack)), slices.Sorted(slices.Values(s.normal))
	thresholds := slices.Compact(slices.Sorted(slices.Values(slices.Concat(attack, normal))))
	slices.Reverse(thresholds)
	c := roc{fpr: []float64{0}, tpr: []float64{0}}
	for _, t := range thresholds {
		c.fpr = append(c.fpr, shareFrom(normal, t))
		c.tpr = append(c.tpr, shareFrom(attack, t))
	}
	return c
}

// shareFrom is the share of ascending v that is at least t.
func shareFrom(v []float64, t float64) float64 {
	return float64(len(v)-sort.SearchFloat64s(v, t)) / float64(len(v))
}

// accuracy is the lowest and the highest share judged rightly, given the numbers
// of the attacker's and of the others, among the thresholds whose FPR is at most limit.
func (c roc) accuracy(limit float64, attack, normal int) (low, high float64) {
	low = 1
	for i, f := range c.fpr {
		if f <= limit {
			a := (c.tpr[i]*float64(attack) + (1-f)*float64(normal)) / float64(attack+normal)
			low, high = min(low, a), max(high, a)
		}
	}
	return low, high
}

// tprAt is the highest TPR whose FPR is at most limit.
func (c roc) tprAt(limit float64) (best float64) {
	for i, f := range c.fpr {
		if f <= limit {
			best = max(best, c.tpr[i])
		}
	}
	return best
}

// area is that under the curve: the chance that the attacker's score is higher
// than another's, where equal counts half.
func (c roc) area() (sum float64) {
	for i := 1; i < len(c.fpr); i++ {
		sum += (c.fpr[i] - c.fpr[i-1]) * (c.tpr[i] + c.tpr[i-1]) / 2
	}
	return sum
}

// tprOn is the TPR at each of fpr, so that curves can be averaged.
func (c roc) tprOn(fpr []float64) []float64 {
	out := make([]float64, len(fpr))
	for k, f := range fpr {
		out[k] = c.tprAt(f)
	}
	return out
}
