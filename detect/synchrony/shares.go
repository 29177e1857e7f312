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

// Shares is r(t) of many hosts: in how many of 64 parts of each interval a host
// transmitted. One byte an interval is exact, and so are the sums of products.
type Shares struct {
	hosts, intervals, stride int
	rows                     []uint8
}

// MostShare is the largest value: the product of two fits the signed bytes of
// vector instructions.
const MostShare = 64

// stepBytes is how many intervals of a host the kernels take at a time.
const stepBytes = 4

// NewShares makes a matrix in which no machine transmits.
func NewShares(hosts, intervals int) (*Shares, error) {
	if hosts < 1 || hosts > maxHosts || intervals < 1 || intervals > maxIntervals {
		return nil, fmt.Errorf("%w: %d hosts and %d intervals, where 1 to %d and 1 to %d fit", ErrSize, hosts, intervals, maxHosts, maxIntervals)
	}
	stride := (intervals + stepBytes - 1) / stepBytes * stepBytes
	return &Shares{hosts, intervals, stride, make([]uint8, hosts*stride)}, nil
}

// Set sets r of host i in interval t, in sixty-fourths; more than MostShare is that.
func (s *Shares) Set(i, t int, v uint8) { s.rows[i*s.stride+t] = min(v, MostShare) }

func (s *Shares) row(i int) []uint8 { return s.rows[i*s.stride : (i+1)*s.stride] }

// Correlation is Pearson's, of two hosts, First < Second.
type Correlation struct {
	First, Second int
	Rho           float64
}

const (
	// rowsOfDots by columns hosts are multiplied in one go.
	rowsOfDots = 6
	// rowsPerTask of them go to a goroutine at a time.
	rowsPerTask = 100
)

// dots writes the sums of products of rowsOfDots rows, of steps*stepBytes bytes each,
// with a block of columns: 64 for the first row, and so on. The block holds the first
// stepBytes bytes of each column, then the next of each, and so on.
type dots func(out *[rowsOfDots * columns]int32, rows []uint8, steps int, block []uint8)

func dotsPortable(out *[rowsOfDots * columns]int32, rows []uint8, steps int, block []uint8) {
	stride := steps * stepBytes
	for r := range rowsOfDots {
		sums := (*[columns]int32)(out[r*columns:])
		clear(sums[:])
		row := rows[r*stride : (r+1)*stride]
		for k := range steps {
			x := (*[stepBytes]uint8)(row[k*stepBytes:])
			part := (*[columns * stepBytes]uint8)(block[k*columns*stepBytes:])
			for c := range columns {
				y := (*[stepBytes]uint8)(part[c*stepBytes:])
				sums[c] += int32(x[0])*int32(y[0]) + int32(x[1])*int32(y[1]) + int32(x[2])*int32(y[2]) + int32(x[3])*int32(y[3])
			}
		}
	}
}

// Correlations returns the pairs of hosts whose Pearson correlation (equation 3 of
// the paper) is at least least, in order of hosts. limit bounds them: the strongest
// stay, and dropped is the number of others. A constant series correlates with none.
func Correlations(ctx context.Context, s *Shares, least float64, limit int) (pairs []Correlation, dropped int, err error) {
	return correlate(ctx, s, least, limit, fastestDots())
}

func correlate(ctx context.Context, s *Shares, least float64, limit int, kernel dots) (pairs []Correlation, dropped int, err error) {
	if !(least > 0 && least <= 1) || limit < 1 {
		return nil, 0, fmt.Errorf("correlations from %v on, at most %d: the former is between 0 and 1, the latter positive", least, limit)
	}
	j := newCorrelation(s, least, limit, kernel)
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() { j.work(ctx) })
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	j.shrink()
	slices.SortFunc(j.found, func(a, b Correlation) int { return cmp.Or(a.First-b.First, a.Second-b.Second) })
	return j.found, j.dropped, nil
}

// correlation is the work that goroutines share.
type correlation struct {
	s      *Shares
	kernel dots
	least  float64
	limit  int
	n      float64
	sums   []float64 // of each host
	spread []float64 // root of n times the sum of squares, less the squared sum
	next   atomic.Int64

	mu      sync.Mutex // guards found and dropped
	found   []Correlation
	dropped int
}

func newCorrelation(s *Shares, least float64, limit int, kernel dots) *correlation {
	j := &correlation{s: s, kernel: kernel, least: least, limit: limit, n: float64(s.intervals), sums: make([]float64, s.hosts), spread: make([]float64, s.hosts)}
	for i := range s.hosts {
		var sum, squares int64
		for _, v := range s.row(i) {
			sum += int64(v)
			squares += int64(v) * int64(v)
		}
		j.sums[i] = float64(sum)
		j.spread[i] = math.Sqrt(float64(int64(s.intervals)*squares - sum*sum)) // below 2^53
	}
	return j
}

func (j *correlation) work(ctx context.Context) {
	s := j.s
	steps := s.stride / stepBytes
	block, rows := make([]uint8, columns*s.stride), make([]uint8, rowsOfDots*s.stride)
	var out [rowsOfDots * columns]int32
	blocks := (s.hosts + columns - 1) / columns
	for {
		k := blocks - int(j.next.Add(1)) // the longest first
		if k < 0 {
			return
		}
		first := k * columns
		j.loadBlock(block, first)
		end := min(first+columns, s.hosts)
		var found []Correlation
		for i := 0; i < end; i += rowsOfDots {
			if i%rowsPerTask == 0 && ctx.Err() != nil {
				return
			}
			part := s.rows[i*s.stride:]
			if len(part) < len(rows) {
				clear(rows)
				copy(rows, part)
				part = rows
			}
			j.kernel(&out, part, steps, block)
			for r := range min(rowsOfDots, end-i) {
				found = j.examine(found, i+r, first, end, (*[columns]int32)(out[r*columns:]))
			}
		}
		j.keep(found)
	}
}

func (j *correlation) loadBlock(block []uint8, first int) {
	clear(block)
	for c := range min(columns, j.s.hosts-first) {
		row := j.s.row(first + c)
		for k := 0; k < len(row); k += stepBytes {
			copy(block[k*columns+c*stepBytes:][:stepBytes], row[k:])
		}
	}
}

// examine keeps the pairs of row i with columns from first to end that correlate.
func (j *correlation) examine(found []Correlation, i, first, end int, products *[columns]int32) []Correlation {
	if j.spread[i] == 0 {
		return found
	}
	from := max(first, i+1)
	sum, spread := j.sums[i]/j.n, j.least*j.spread[i]/j.n
	sums, spreads := j.sums[from:max(from, end)], j.spread[from:max(from, end)]
	for k, y := range sums {
		// Enough at the price of rounding; then exactly.
		if float64(products[from-first+k])+1e-3 < sum*y+spread*spreads[k] || spreads[k] == 0 {
			continue
		}
		rho := (j.n*float64(products[from-first+k]) - j.sums[i]*y) / (j.spread[i] * spreads[k])
		if rho >= j.least {
			found = append(found, Correlation{i, from + k, min(1, rho)})
		}
	}
	return found
}

func (j *correlation) keep(found []Correlation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.found = append(j.found, found...); len(j.found) > 2*j.limit {
		j.shrink()
	}
}

func (j *correlation) shrink() {
	if len(j.found) <= j.limit {
		return
	}
	slices.SortFunc(j.found, func(a, b Correlation) int {
		return cmp.Or(cmp.Compare(b.Rho, a.Rho), a.First-b.First, a.Second-b.Second)
	})
	j.dropped += len(j.found) - j.limit
	j.found = j.found[:j.limit]
}
