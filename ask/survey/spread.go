package survey

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"dragnet/flow/key"
)

// keyed is one tuple of the log under one hash.
type keyed struct {
	key   key.K
	flows uint32
}

// group is all tuples that share a key.
type group struct{ tuples, flows uint64 }

// groups sorts all by key and calls fn for each key in ascending order.
func groups(all []keyed, fn func(key.K, group)) {
	slices.SortFunc(all, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	for i := 0; i < len(all); {
		k, g := all[i].key, group{}
		for ; i < len(all) && all[i].key == k; i++ {
			g.tuples++
			g.flows += uint64(all[i].flows)
		}
		fn(k, g)
	}
}

// Sizes says how many keys stand for how many tuples, in ascending order of
// tuples: the paper's Figure 1, not yet cumulated.
type Sizes []Size

// Size counts the keys that stand for the same number of tuples.
type Size struct{ Tuples, Keys uint64 }

func newSizes(count map[uint64]uint64) Sizes {
	var s Sizes
	for _, tuples := range slices.Sorted(maps.Keys(count)) {
		s = append(s, Size{tuples, count[tuples]})
	}
	return s
}

// Keys is the number of distinct keys.
func (s Sizes) Keys() (n uint64) {
	for _, at := range s {
		n += at.Keys
	}
	return n
}

// Tuples is the number of distinct tuples.
func (s Sizes) Tuples() (n uint64) {
	for _, at := range s {
		n += at.Keys * at.Tuples
	}
	return n
}

// UpTo is the share of keys that represent at most this number of tuples.
func (s Sizes) UpTo(tuples uint64) float64 {
	var n uint64
	for _, at := range s {
		if at.Tuples <= tuples {
			n += at.Keys
		}
	}
	return share(n, s.Keys())
}

// Curve is the cumulative distribution over keys of tuples per key.
func (s Sizes) Curve() (x, y []float64) {
	total, n := s.Keys(), uint64(0)
	for _, at := range s {
		n += at.Keys
		x, y = append(x, float64(at.Tuples)), append(y, share(n, total))
	}
	return x, y
}

// Answers is how many answers a question gets: for a tuple drawn at random
// from those of the log, the number that share its key. A key of t tuples is
// asked about t times as often as a key of one.
func (s Sizes) Answers() Spread {
	total := s.Tuples()
	at := func(q float64) float64 {
		var n uint64
		for _, size := range s {
			if n += size.Keys * size.Tuples; float64(n) >= q*float64(total) {
				return float64(size.Tuples)
			}
		}
		return 0
	}
	return Spread{Median: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

// Spread sums up what questions cost.
type Spread struct {
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) Spread {
	return Spread{quantile(values, 0.5), quantile(values, 0.95), quantile(values, 0.99), quantile(values, 1)}
}

// quantile is the least value that at least the share q of values do not
// exceed; 0 of none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
