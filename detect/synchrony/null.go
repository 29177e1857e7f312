package synchrony

import (
	"math/bits"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// Null says how the times of two hosts are compared with what they would be if
// the two did not know of each other.
type Null struct {
	// Lags is the largest delay in intervals, in either direction.
	Lags int
	// Window is how far an onset may be moved, in either direction: long beside
	// Lags, short beside anything that makes hosts busy at the same hour.
	Window int
	// Near and Far bound the distances at which a host is compared with itself,
	// to see whether a timer drives it.
	Near, Far int
}

// DefaultNull suits a matrix of that many intervals.
func DefaultNull(intervals int) Null {
	return Null{Lags: 3, Window: 24, Near: min(120, intervals/6), Far: min(360, intervals/3)}
}

// Test is the outcome for one pair or group.
type Test struct {
	// Onsets is the number of times that the host with fewer of them became
	// active, and Hits how often the other did too, Lag intervals later and at
	// most Tolerance away from that.
	Onsets, Hits, Lag, Tolerance int
	// Expected is the number of hits if each onset were moved at random within
	// the window around it.
	Expected float64
	// Timers says that hits come from timers, which agree for all time if they do
	// once. Stripped says that the onsets which a timer explains were left out; of what
	// is driven by timers beyond, P is at least the share of distances at which they
	// agree, too.
	Timers, Stripped bool
	// P is the chance of as many hits at any delay, if the two are not
	// synchronised; 1 if there was nothing to compare.
	P float64
}

// TestRows compares when x and y become active. Under the null hypothesis an
// onset could as well have been a little earlier or later (interval jitter:
// Amarasingham et al. 2012), so that the chance of each hit is the share of the
// window around it that would have been one, and the number of hits has a tail
// below that of a binomial with the mean chance (Hoeffding 1956). Neither the hour
// nor bursts matter, as both are in the window.
//
// Every fixed lag up to c.Lags is tried without tolerance, for a delay that is
// always the same, and a few ranges of lags, for one that varies.
// The smallest p-value is multiplied by the number of trials.
func (b *Bits) TestRows(x, y []uint64, c Null) Test {
	from, to := b.onsets(x), b.onsets(y)
	swapped := countBits(from) > countBits(to)
	if swapped {
		x, y, from, to = y, x, to, from
	}
	best := b.try(from, to, c)
	if best.P < promising {
		best = b.discountTimers(x, y, from, to, best, c)
	}
	if swapped {
		best.Lag = -best.Lag
	}
	return best
}

// discountTimers compares again without the onsets that a timer explains, and
// discounts what other timers are left among the hits.
func (b *Bits) discountTimers(x, y, from, to []uint64, best Test, c Null) Test {
	less, some := b.withoutTimers(x, from, c)
	other, more := b.withoutTimers(y, to, c)
	if some || more {
		from, to, best = less, other, b.try(less, other, c)
		best.Timers, best.Stripped = true, true
	}
	if b.timer(b.hits(from, to, best), c) {
		best.Timers = true
		best.P = max(best.P, b.shareAsGood(from, to, best, c))
	}
	if best.P < promising {
		if share := b.shareRepeated(from, to, best, c); share > 0 {
			best.Timers = true
			best.P = max(best.P, share)
		}
	}
	return best
}

// try compares at every lag and range of lags.
func (b *Bits) try(from, to []uint64, c Null) Test {
	best, trials := Test{P: 1, Onsets: countBits(from)}, 0
	for lag := -c.Lags; lag <= c.Lags; lag++ {
		trials++
		best = better(best, b.compare(from, to, lag, 0, c.Window))
	}
	for _, s := range spans(c.Lags) {
		trials++
		best = better(best, b.compare(from, to, s.lag, s.tolerance, c.Window))
	}
	best.P = min(1, best.P*float64(trials))
	return best
}

// span is a range of delays.
type span struct{ lag, tolerance int }

// spans are the ranges tried for delays that vary: next to 0, on one side up to
// lags, and on both sides.
func spans(lags int) []span {
	if lags == 0 {
		return nil
	}
	half := (lags + 1) / 2
	all := []span{{0, 1}, {half, half}, {-half, half}, {0, lags}}
	return all
}

func better(a, b Test) Test {
	if b.P < a.P || b.P == a.P && b.Hits > a.Hits {
		return b
	}
	return a
}

// onsets keeps the first interval of each run of activity. One that follows an
// interval of which nothing is known is left out: when it began is not known.
func (b *Bits) onsets(row []uint64) []uint64 {
	first, before := make([]uint64, b.words), make([]uint64, b.words)
	shiftRow(first, row, -1)
	shiftRow(before, b.observed, -1)
	for w := range first {
		first[w] = row[w] &^ first[w] & before[w] & b.observed[w]
	}
	return first
}

// widen is row with every interval at most tolerance away, where observed.
func (b *Bits) widen(row []uint64, tolerance int) []uint64 {
	wide, shifted := slices.Clone(row), make([]uint64, b.words)
	for lag := -tolerance; lag <= tolerance; lag++ {
		shiftRow(shifted, row, lag)
		for w, v := range shifted {
			wide[w] |= v & b.observed[w]
		}
	}
	return wide
}

func (b *Bits) compare(from, to []uint64, lag, tolerance, window int) Test {
	// target has a bit wherever an onset of from would be a hit.
	target := make([]uint64, b.words)
	shiftRow(target, b.widen(to, tolerance), lag)
	r := Test{Lag: lag, Tolerance: tolerance, P: 1}
	for w, v := range from {
		for ; v != 0; v &= v - 1 {
			t := w*64 + bits.TrailingZeros64(v)
			r.Onsets++
			r.Hits += int(target[w] >> (t % 64) & 1)
			r.Expected += float64(countWithin(target, t-window, t+window)) / float64(countWithin(b.observed, t-window, t+window))
		}
	}
	// Hoeffding's bound holds from one above the mean on.
	if n := float64(r.Onsets); float64(r.Hits) >= r.Expected+1 {
		r.P = binomialTail(float64(r.Hits), n, r.Expected/n)
	}
	return r
}

// countWithin is the number of bits from first to last, both included.
func countWithin(row []uint64, first, last int) (n int) {
	for at := first; at <= last; at += 64 {
		v := wordAt(row, at)
		if left := last - at + 1; left < 64 {
			v &= 1<<left - 1
		}
		n += bits.OnesCount64(v)
	}
	return n
}

// binomialTail is the chance of at least n hits in trials.
func binomialTail(n, trials, p float64) float64 {
	switch {
	case n <= 0 || p >= 1:
		return 1
	case p <= 0 || n > trials:
		return 0
	}
	return mathext.RegIncBeta(n, trials-n+1, p)
}

// hits are the onsets of from that r counted as hits.
func (b *Bits) hits(from, to []uint64, r Test) []uint64 {
	near := make([]uint64, b.words)
	shiftRow(near, b.widen(to, r.Tolerance), r.Lag)
	for w := range near {
		near[w] &= from[w]
	}
	return near
}

// timer reports whether most onsets have another at one and the same distance,
// which is far: what a person or an attack does drifts.
func (b *Bits) timer(row []uint64, c Null) bool {
	for d := max(1, c.Near); d <= min(c.Far, b.intervals-1); d++ {
		if seen := b.countFrom(row, d); seen >= leastOnsets && 2*countTogether(row, row, d) > seen {
			return true
		}
	}
	return false
}

// leastOnsets is how many onsets a share needs.
const leastOnsets = 5

// countFrom is the number of onsets in row that have an observed interval at that
// distance.
func (b *Bits) countFrom(row []uint64, distance int) int {
	return countTogether(row, b.observed, distance)
}

// shareAsGood is the share of far distances at which the share of hits is at
// least that of r.
func (b *Bits) shareAsGood(from, to []uint64, r Test, c Null) float64 {
	asGood, all := 1, 1
	wide := b.widen(to, r.Tolerance)
	for d := max(1, c.Near); d <= min(c.Far, b.intervals-1); d++ {
		for _, lag := range []int{d, -d} {
			if seen := b.countFrom(from, lag); seen >= leastOnsets {
				all++
				if countTogether(from, wide, lag)*r.Onsets >= r.Hits*seen {
					asGood++
				}
			}
		}
	}
	return float64(asGood) / float64(all)
}

const (
	// promising is the p-value above which the origin of the hits does not matter.
	promising = 0.01
	// repeated is the p-value of one far distance that shows timers: there are a few
	// hundred distances.
	repeated = 2e-5
)

// shareRepeated is the share of far distances at which the two agree, too, and
// significantly: 0 if there is none. Then timers are among what drives them, such as
// keep-alives among the downloads of several machines.
func (b *Bits) shareRepeated(from, to []uint64, r Test, c Null) float64 {
	found, all := 0, 1
	wide := b.widen(to, r.Tolerance)
	for d := max(1, c.Near); d <= min(c.Far, b.intervals-1); d++ {
		for _, lag := range []int{d, -d} {
			seen := b.countFrom(from, lag)
			if seen < leastOnsets {
				continue
			}
			all++
			// Half of the excess, at least; most distances end here.
			if n := countTogether(from, wide, lag); 2*float64(n)*float64(r.Onsets) < (float64(r.Hits)+r.Expected)*float64(seen) {
				continue
			}
			if b.compare(from, to, lag, r.Tolerance, c.Window).P < repeated {
				found++
			}
		}
	}
	return float64(found) / float64(all)
}

// TestPair is TestRows for two hosts.
func (b *Bits) TestPair(i, j int, c Null) Test { return b.TestRows(b.Row(i), b.Row(j), c) }

// TestGroup tests host i against the intervals in which any of others was
// active: a master uses one flooder after the other, so that it agrees with each
// of them for part of the time, and with all of them together for most.
func (b *Bits) TestGroup(i int, others []int, c Null) Test {
	return b.TestRows(b.Row(i), b.union(others), c)
}

func (b *Bits) union(hosts []int) []uint64 {
	all := make([]uint64, b.words)
	for _, j := range hosts {
		for w, v := range b.Row(j) {
			all[w] |= v
		}
	}
	return all
}

// Common lists the intervals t in which i was active and, lag later, any of
// others.
func (b *Bits) Common(i int, others []int, lag int) (at []int) {
	shifted := make([]uint64, b.words)
	shiftRow(shifted, b.union(others), lag)
	for w, v := range b.Row(i) {
		for v &= shifted[w]; v != 0; v &= v - 1 {
			at = append(at, w*64+bits.TrailingZeros64(v))
		}
	}
	return at
}

// Discoveries are the indices, in ascending order, of the hypotheses that may be
// rejected so that on average at most rate of them are rejected wrongly
// (Benjamini and Hochberg 1995). tests is the number of hypotheses, of which p
// holds those whose p-value is small enough to matter; the rest count as 1.
func Discoveries(p []float64, tests int, rate float64) []int {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	last := 0
	for rank, i := range order {
		if p[i] <= rate*float64(rank+1)/float64(max(tests, len(p))) {
			last = rank + 1
		}
	}
	found := order[:last]
	slices.Sort(found)
	return found
}

// OnsetsNear lists the intervals in which a host became active and the other did
// too, as counted by r, which TestRows(x, y, c) gave.
func (b *Bits) OnsetsNear(x, y []uint64, r Test, c Null) (at []int) {
	from, to := b.onsets(x), b.onsets(y)
	if r.Stripped {
		from, _ = b.withoutTimers(x, from, c)
		to, _ = b.withoutTimers(y, to, c)
	}
	for w, v := range b.hits(from, to, r) {
		for ; v != 0; v &= v - 1 {
			at = append(at, w*64+bits.TrailingZeros64(v))
		}
	}
	return at
}
