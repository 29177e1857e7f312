// Package match scores payload against position-aware distribution signatures
// at line rate.
//
// A score is an integer by definition: each log ratio is rounded once to
// 1/64 nat, and a window's score is the exact sum. So every path through this
// package (portable Go, AVX2, AVX-512 VBMI, the prefilter for many signatures)
// gives the same scores bit for bit, and the distribution of scores, from
// which thresholds are calibrated, can be computed exactly.
//
// The vector kernels never decide: they skip windows that cannot reach the
// threshold, by adding rounded-down 8-bit deficits, and leave the rest to the
// exact sum.
package match

import (
	"math"
	"slices"

	"dragnet/dossier"
)

// Units is the number of score units in a nat.
const Units = 64

// Table is a block's weights in units.
type Table struct {
	rows [][256]int16
	// deficits[p][x] is how far byte x at p is below the best byte there.
	deficits [][256]int32
	// top is the score of the best possible window, floor of the worst.
	top, floor int32
	bg         dossier.Background
}

// NewTable rounds the weights of b against bg.
func NewTable(b *dossier.Block, bg *dossier.Background) *Table {
	t := &Table{rows: make([][256]int16, len(b.Columns)), deficits: make([][256]int32, len(b.Columns)), bg: *bg}
	for p, w := range b.Weights(bg) {
		for x, v := range w {
			t.rows[p][x] = int16(math.Round(v * Units))
		}
		best := int32(slices.Max(t.rows[p][:]))
		t.top += best
		t.floor += int32(slices.Min(t.rows[p][:]))
		for x, v := range t.rows[p] {
			t.deficits[p][x] = best - int32(v)
		}
	}
	return t
}

// Width is W.
func (t *Table) Width() int { return len(t.rows) }

// Score is the exact score, in units, of the window at the start of s, which
// has at least Width bytes.
func (t *Table) Score(s []byte) int32 {
	sum := int32(0)
	for p := range t.rows {
		sum += int32(t.rows[p][s[p]])
	}
	return sum
}

// Omega turns units into the published score: the mean log ratio per byte.
func (t *Table) Omega(score int32) float64 { return omegaOf(score, len(t.rows)) }

func omegaOf(score int32, width int) float64 { return float64(score) / Units / float64(width) }

// limitAbove is the least score, in units, above omega.
func limitAbove(omega float64, width int) int32 {
	v := math.Floor(omega*Units*float64(width)) + 1
	return int32(min(max(v, math.MinInt32/2), math.MaxInt32/2))
}

// Limit is the least score above the threshold omega.
func (t *Table) Limit(omega float64) int32 { return limitAbove(omega, len(t.rows)) }
