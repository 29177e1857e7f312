package match

import (
	"bytes"
	"cmp"
	"math"
	"math/bits"
	"slices"

	"dragnet/dossier"
)

// filter rules out windows by their most informative positions. Its terms are
// deficits rounded down to a coarser unit, so a window it rules out cannot
// reach the limit it was made for, nor any higher one.
type filter struct {
	kernel Kernel
	unit   int32
	// offsets are the chosen positions, the most informative first.
	offsets []int32
	reach   int // the largest of them
	// classes maps byte values to classes; tables have a byte per class and
	// position. For VBMI there are 64 classes. For AVX2 there are 32, and the
	// top bit selects the second 16.
	classes [256]byte
	tables  []byte
}

// The kernels add groups of 4 positions in bytes and those in words, which
// they then treat as signed: 128 * 255 still fits.
const (
	group        = 4
	maxPositions = 128
)

// rankPositions lists t's positions, those first that lower the score of
// ordinary traffic most.
func rankPositions(t *Table, budget int32) []int32 {
	traffic := blendTraffic(&t.bg)
	order := make([]int32, t.Width())
	telling := make([]float64, t.Width())
	for p := range order {
		order[p] = int32(p)
		for x, d := range t.deficits[p] {
			telling[p] += traffic[x] * float64(min(d, budget+1))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(telling[b], telling[a]) })
	return order
}

func newFilter(t *Table, limit int32, kernel Kernel) *filter {
	budget := max(t.top-limit, 0)
	worst := int32(0)
	for p := range t.deficits {
		worst = max(worst, slices.Max(t.deficits[p][:]))
	}
	// Fine enough that a group of the largest terms does not saturate, unless
	// a saturated group is beyond the budget anyway.
	f := &filter{kernel: kernel, unit: 1 + min(budget/255, group*worst/255)}
	f.offsets = rankPositions(t, budget)
	f.offsets = f.offsets[:min(len(f.offsets), maxPositions)]
	terms := make([][256]uint8, len(f.offsets))
	for j, p := range f.offsets {
		for x, d := range t.deficits[p] {
			terms[j][x] = uint8(min(d/f.unit, 255))
		}
	}
	classes := 32
	if kernel == VBMI {
		classes = 64
	}
	f.keepFirst(cheapestDepth(f.classTables(terms, classes, blendTraffic(&t.bg)), &t.bg, int(budget/f.unit)))
	if kernel == AVX2 {
		for x, c := range f.classes {
			f.classes[x] = c&15 | c&16<<3
		}
	}
	return f
}

// blendTraffic is the traffic a filter is made for: half background, half
// uniform bytes, because compressed and encrypted payload differs from the
// average.
func blendTraffic(bg *dossier.Background) (f [256]float64) {
	for x, p := range bg {
		f[x] = p/2 + 1.0/512
	}
	return f
}

// classTables puts byte values into n classes and gives the bounds that the
// tables then set for each byte value.
func (f *filter) classTables(terms [][256]uint8, n int, traffic [256]float64) [][256]uint8 {
	bound := make([][256]uint8, len(terms))
	f.classes = buildClasses(terms, &traffic, n)
	for j := range terms {
		t := bytes.Repeat([]byte{255}, n)
		for x, v := range terms[j] {
			t[f.classes[x]] = min(t[f.classes[x]], v)
		}
		f.tables = append(f.tables, t...)
		for x := range bound[j] {
			bound[j][x] = t[f.classes[x]]
		}
	}
	return bound
}

// keepFirst drops all but the first k positions and fills up to whole groups with
// terms of 0.
func (f *filter) keepFirst(k int) {
	per := len(f.tables) / len(f.offsets)
	f.tables, f.offsets = f.tables[:per*k], f.offsets[:k]
	for _, o := range f.offsets {
		f.reach = max(f.reach, int(o))
	}
	for len(f.offsets)%group != 0 {
		f.offsets = append(f.offsets, 0)
		f.tables = append(f.tables, make([]byte, per)...)
	}
}

// Relative costs, measured: adding up one more position for one window, and
// judging one window exactly. Real traffic passes more often than the
// background model says, hence the last factor.
const (
	costPosition = 0.02
	costExact    = 100.0 * 3
)

// cheapestDepth is how many positions to add up, judged by the mean over windows of background and windows of uniform bytes, each from
// the exact distribution of the sums of terms.
func cheapestDepth(terms [][256]uint8, bg *dossier.Background, limit int) int {
	var uniform [256]float64
	for x := range uniform {
		uniform[x] = 1.0 / 256
	}
	text, noise := passingShares(terms, (*[256]float64)(bg), limit), passingShares(terms, &uniform, limit)
	k, cost := len(terms), math.Inf(1)
	for j := range terms {
		if c := costPosition*float64(j+1) + costExact*(text[j]+noise[j])/2; c < cost {
			k, cost = j+1, c
		}
	}
	return k
}

// passingShares is the share of windows whose sum over terms[:j+1] is at most limit,
// for all j.
func passingShares(terms [][256]uint8, traffic *[256]float64, limit int) []float64 {
	pass := make([]float64, len(terms))
	sums, next := make([]float64, limit+1), make([]float64, limit+1)
	sums[0] = 1
	for j := range terms {
		var mass [256]float64
		for x, v := range terms[j] {
			mass[v] += traffic[x]
		}
		clear(next)
		for v, m := range mass[:min(256, limit+1)] {
			if m > 0 {
				for s, p := range sums[:limit+1-v] {
					next[s+v] += p * m
				}
			}
		}
		sums, next = next, sums // sums above limit cannot pass any more
		for _, p := range sums {
			pass[j] += p
		}
	}
	return pass
}

// chunk is how many windows are filtered at a time, so that their classes stay
// in the first-level cache.
const chunk = 8 << 10

// scratch is the memory one scan needs.
type scratch struct {
	a    []byte
	mask [chunk / 64]uint64
}

// eachCandidate calls judge, in order, with the windows among the first n of s
// that may score at most limit units below top; judge returns the new budget.
// Bytes s[:n+reach] must exist.
func (f *filter) eachCandidate(s []byte, n int, budget int32, sc *scratch, judge func(at int) int32) {
	for from := 0; from < n && budget >= 0; from += chunk {
		m := min(chunk, n-from)
		f.runKernel(s[from:from+m+f.reach], m, uint16(min(budget/f.unit, math.MaxInt16)), sc)
		for w := range (m + 63) / 64 {
			for mask := sc.mask[w]; mask != 0; mask &= mask - 1 {
				if i := w*64 + bits.TrailingZeros64(mask); i < m {
					budget = judge(from + i)
				}
			}
		}
	}
}

// runKernel fills sc.mask for m windows of s.
func (f *filter) runKernel(s []byte, m int, limit uint16, sc *scratch) {
	room := chunk + f.reach + 256 // whole blocks may be read
	if len(sc.a) < room {
		sc.a = make([]byte, room)
	}
	if f.kernel == VBMI {
		n := len(s) / 64
		if n > 0 {
			classifyVBMI(&sc.a[0], &s[0], n, &f.classes)
		}
		for i := n * 64; i < len(s); i++ {
			sc.a[i] = f.classes[s[i]]
		}
		filterVBMI(&sc.mask[0], &sc.a[0], (m+255)/256, &f.tables[0], &f.offsets[0], len(f.offsets), limit)
		return
	}
	for i, x := range s {
		sc.a[i] = f.classes[x]
	}
	filterAVX2(&sc.mask[0], &sc.a[0], (m+63)/64, &f.tables[0], &f.offsets[0], len(f.offsets), limit)
}
