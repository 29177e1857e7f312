package synchrony

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Screen says which pairs are worth a separate test.
type Screen struct {
	// Lags is the largest distance in intervals between the activity of the
	// two, in either direction.
	Lags int
	// Tail is the chance that a pair of independent hosts which follow the trend
	// passes at one lag, at most: by Bernstein's inequality, which is never too
	// small, on the number of common intervals.
	Tail float64
	// Limit is the most pairs that are kept; those farthest above what was
	// expected stay.
	Limit int
}

// Pair is two hosts, First < Second, that were active together in Together
// intervals when the Second's are taken Lag intervals later, where Expected were
// to be expected.
type Pair struct {
	First, Second, Lag, Together int
	Expected                     float64
}

// excess is how far together is above expected, as the negative logarithm of
// Bernstein's bound.
func excess(together, expected float64) float64 {
	x := together - expected
	if x <= 0 {
		return 0
	}
	return x * x / (2 * (expected + x/3))
}

// leastTogether is the smallest number whose excess is at least l.
func leastTogether(expected, l float64) int {
	n := int(math.Ceil(expected + l/3 + math.Sqrt(l*l/9+2*l*expected)))
	for n > 1 && excess(float64(n-1), expected) >= l {
		n--
	}
	for excess(float64(n), expected) < l { // rounding
		n++
	}
	return n
}

// Pairs counts every pair of hosts at every lag, exactly, and returns those that
// pass s, each with its most remarkable lag, in order of hosts. dropped is the
// number that passed and had no room. Hosts never or always active pass with
// none.
func Pairs(ctx context.Context, b *Bits, tr Trend, s Screen) (pairs []Pair, dropped int, err error) {
	return comparePairs(ctx, b, tr, s, fastestKernel())
}

func comparePairs(ctx context.Context, b *Bits, tr Trend, s Screen, kernel kernel) (pairs []Pair, dropped int, err error) {
	if s.Lags < 0 || s.Lags >= b.intervals || !(s.Tail > 0 && s.Tail < 1) || s.Limit < 1 {
		return nil, 0, fmt.Errorf("screen with lag %d, tail %v and limit %d: lags are 0 to %d, the tail between 0 and 1, the limit positive", s.Lags, s.Tail, s.Limit, b.intervals-1)
	}
	j := newJob(b, tr, s, kernel)
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() { j.work(ctx) })
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	j.shrink(s.Limit)
	slices.SortFunc(j.found, func(a, b Pair) int { return cmp.Or(a.First-b.First, a.Second-b.Second) })
	return j.found, j.dropped, nil
}

// job is the work that goroutines share. Hosts are sorted by their number of
// active intervals, so that one limit is tight for a whole block of columns.
type job struct {
	b        *Bits
	s        Screen
	kernel   kernel
	level    float64 // least excess
	order    []int   // hosts, from the least active
	counts   []int   // of hosts in that order
	overlaps []float64
	group    int // blocks that a goroutine takes at a time
	next     atomic.Int64

	mu      sync.Mutex // guards found and dropped
	found   []Pair
	dropped int
}

func newJob(b *Bits, tr Trend, s Screen, kernel kernel) *job {
	j := &job{b: b, s: s, kernel: kernel, level: -math.Log(s.Tail)}
	observed := b.Observed()
	all := make([]int, b.hosts)
	for i := range all {
		if all[i] = b.Count(i); all[i] > 0 && all[i] < observed {
			j.order = append(j.order, i)
		}
	}
	slices.SortStableFunc(j.order, func(x, y int) int { return all[x] - all[y] })
	for _, i := range j.order {
		j.counts = append(j.counts, all[i])
	}
	for lag := -s.Lags; lag <= s.Lags; lag++ {
		j.overlaps = append(j.overlaps, tr.overlap(lag))
	}
	j.group = min(mostBlocks, max(1, j.blocks()/(8*runtime.GOMAXPROCS(0))))
	return j
}

// blocks is the number of blocks of columns.
func (j *job) blocks() int { return (len(j.order) + columns - 1) / columns }

const (
	// rowsAtOnce are prepared and compared with mostBlocks blocks of columns, so that
	// to prepare them costs little, and each block stays near for so long.
	rowsAtOnce = 128
	mostBlocks = 64
)

func (j *job) work(ctx context.Context) {
	blocks := make([]block, j.group)
	set := &rowSet{words: j.b.words}
	masks, limits := make([]uint64, rowsAtOnce), make([]uint64, rowsAtOnce)
	groups := (j.blocks() + j.group - 1) / j.group
	for {
		g := groups - int(j.next.Add(1)) // the longest first
		if g < 0 {
			return
		}
		first := g * j.group
		some := blocks[:min(j.group, j.blocks()-first)]
		for i := range some {
			j.loadBlock(&some[i], (first+i)*columns)
		}
		best := map[[2]int]Pair{}
		end := min((first+len(some))*columns, len(j.order))
		for from := 0; from < end; from += rowsAtOnce {
			n := min(rowsAtOnce, end-from)
			for l, overlap := range j.overlaps {
				if ctx.Err() != nil {
					return
				}
				j.prepareRows(set, from, n, l)
				for i := range some {
					column := (first + i) * columns
					m := min(n, column+columns-from) // rows above the diagonal
					if m <= 0 {
						continue
					}
					j.setLimits(limits[:m], from, column, overlap)
					j.kernel.compare(masks[:m], set, &some[i], limits[:m])
					for r, mask := range masks[:m] {
						if mask != 0 {
							j.examine(best, mask, set.rows[r*set.words:(r+1)*set.words], from+r, column, l)
						}
					}
				}
			}
		}
		j.keep(best)
	}
}

// prepareRows takes n rows in order, at the lag of that index.
func (j *job) prepareRows(s *rowSet, from, n, l int) {
	if cap(s.rows) < n*s.words {
		s.rows = make([]uint64, n*s.words)
	}
	s.rows = s.rows[:n*s.words]
	for r := range n {
		// Row r at t-lag beside a column at t: the column is lag later.
		shiftRow(s.rows[r*s.words:(r+1)*s.words], j.b.Row(j.order[from+r]), j.s.Lags-l)
	}
	j.kernel.prepare(s)
}

func (j *job) loadBlock(b *block, first int) {
	var hosts [][]uint64
	for c := range min(columns, len(j.order)-first) {
		hosts = append(hosts, j.b.Row(j.order[first+c]))
	}
	j.kernel.load(b, hosts, j.b.words)
}

// setLimits finds for each row the least common count that passes with the least
// active column of a block: what passes with another column needs no less.
func (j *job) setLimits(limits []uint64, from, first int, overlap float64) {
	for r := range limits {
		if r > 0 && j.counts[from+r] == j.counts[from+r-1] {
			limits[r] = limits[r-1]
			continue
		}
		limits[r] = uint64(leastTogether(float64(j.counts[from+r])*float64(j.counts[first])*overlap, j.level))
	}
}

func (j *job) examine(best map[[2]int]Pair, mask uint64, shifted []uint64, row, first, l int) {
	for c := range min(columns, len(j.order)-first) {
		if mask>>c&1 == 0 || first+c <= row {
			continue
		}
		a, b, lag := j.order[row], j.order[first+c], l-j.s.Lags
		n := countTogether(shifted, j.b.Row(b), 0)
		if a > b {
			a, b, lag = b, a, -lag
		}
		p := Pair{First: a, Second: b, Lag: lag, Together: n, Expected: float64(j.counts[row]) * float64(j.counts[first+c]) * j.overlaps[l]}
		if p.excess() < j.level {
			continue
		}
		if old, ok := best[[2]int{a, b}]; !ok || moreRemarkable(p, old) < 0 {
			best[[2]int{a, b}] = p
		}
	}
}

func (p Pair) excess() float64 { return excess(float64(p.Together), p.Expected) }

// moreRemarkable orders pairs from the largest excess; of equals the smallest
// lag comes first.
func moreRemarkable(x, y Pair) int {
	return cmp.Or(cmp.Compare(y.excess(), x.excess()), max(x.Lag, -x.Lag)-max(y.Lag, -y.Lag), x.Lag-y.Lag, x.First-y.First, x.Second-y.Second)
}

func (j *job) keep(best map[[2]int]Pair) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range best {
		j.found = append(j.found, p)
	}
	if len(j.found) > 2*j.s.Limit {
		j.shrink(j.s.Limit)
	}
}

func (j *job) shrink(limit int) {
	if len(j.found) <= limit {
		return
	}
	slices.SortFunc(j.found, moreRemarkable)
	j.dropped += len(j.found) - limit
	j.found = j.found[:limit]
}
