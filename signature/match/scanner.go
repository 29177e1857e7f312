package match

import (
	"math"
	"sync"

	"dragnet/dossier"
)

// Scanner finds the windows of payload that reach a limit of one block. It is
// safe for concurrent use.
type Scanner struct {
	table  *Table
	limit  int32
	kernel Kernel
	// order and deficits judge one window: the most informative positions
	// first, so that most windows are ruled out after a few.
	order    []int32
	deficits []*[256]int32

	// Filters are made when first needed: a part that a prefilter covers never
	// needs one.
	fastOnce, deepOnce sync.Once
	fast               *filter // nil for Portable, or if no window can reach limit
	deep               *filter // for the best window whatever its score
}

// NewScanner prepares a scan for windows of at least limit units.
func NewScanner(t *Table, limit int32, kernel Kernel) *Scanner {
	s := &Scanner{table: t, limit: limit, kernel: kernel}
	s.order = rankPositions(t, max(t.top-limit, 0))
	for _, p := range s.order {
		s.deficits = append(s.deficits, &t.deficits[p])
	}
	return s
}

func (s *Scanner) filterFor() *filter {
	s.fastOnce.Do(func() {
		if s.limit <= s.table.top && s.kernel != Portable {
			s.fast = newFilter(s.table, s.limit, s.kernel)
		}
	})
	return s.fast
}

// exactScore is the score of the window at the start of w, if that is at least
// top - budget.
func (s *Scanner) exactScore(w []byte, budget int32) (int32, bool) {
	w = w[:len(s.order)]
	left := budget
	for j, p := range s.order {
		if left -= s.deficits[j][w[p]]; left < 0 {
			return 0, false
		}
	}
	return s.table.top - budget + left, true
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Scan calls hit, in order, with every window of data that scores at least the
// limit. hit returns the limit from there on, which must not fall.
func (s *Scanner) Scan(data []byte, hit func(at int, score int32) (limit int32)) {
	s.scanWith(s.filterFor(), data, s.limit, hit)
}

func (s *Scanner) scanWith(f *filter, data []byte, limit int32, hit func(at int, score int32) int32) {
	n := len(data) - s.table.Width() + 1
	budget := s.table.top - limit
	if n <= 0 || budget < 0 {
		return
	}
	judge := func(at int) int32 {
		if score, ok := s.exactScore(data[at:], budget); ok {
			budget = s.table.top - hit(at, score)
		}
		return budget
	}
	if f == nil {
		for at := 0; at < n && budget >= 0; at++ {
			judge(at)
		}
		return
	}
	sc := scratches.Get().(*scratch)
	f.eachCandidate(data, n, budget, sc, judge)
	scratches.Put(sc)
}

// Best is the highest-scoring window of data, the first of equals; at is -1 if
// data is shorter than the block.
func (s *Scanner) Best(data []byte) (at int, score int32) {
	at, score = -1, math.MinInt32
	keep := func(i int, v int32) int32 {
		at, score = i, v
		return v + 1
	}
	if s.Scan(data, keep); at >= 0 {
		return at, score
	}
	var f *filter
	if s.kernel != Portable {
		s.deepOnce.Do(func() { s.deep = newFilter(s.table, s.table.floor, s.kernel) })
		f = s.deep
	}
	s.scanWith(f, data, s.table.floor, keep)
	return at, score
}

// Omega turns units into the published score.
func (s *Scanner) Omega(units int32) float64 { return s.table.Omega(units) }

// Highest is the highest score, in nats per byte, of any window of sequences by b, if
// that is above the given one, and else that.
func Highest(b *dossier.Block, bg *dossier.Background, above float64, sequences [][]byte) float64 {
	t := NewTable(b, bg)
	limit, highest := t.Limit(above), above
	s := NewScanner(t, limit, Fastest())
	for _, data := range sequences {
		s.scanWith(s.filterFor(), data, limit, func(_ int, score int32) int32 {
			limit, highest = score+1, t.Omega(score)
			return limit
		})
	}
	return highest
}
