// Package synchrony finds hosts that are active at the same times, among all
// pairs of many: the master and the flooders of a co-residence test (Zolotukhin
// et al. 2017, section 3.3), or the members of a botnet.
//
// A host's activity is one bit an interval. For each pair the number of
// intervals in which both were active is counted exactly, at several lags, and
// pairs with more than chance and the time of day explain are tested against
// their own counts at farther lags. Functions here have no clock and no I/O.
package synchrony

import (
	"errors"
	"fmt"
	"math/bits"
)

// Bits is the activity of hosts: one row of bits a host, one bit an interval,
// the first interval in the lowest bit of the first word.
type Bits struct {
	hosts, intervals, words int
	rows                    []uint64
	observed                []uint64 // intervals in which exports arrived
}

// Limits of Bits: 2^20 hosts of 2^16 intervals are more than memory holds, and
// their products still fit an int.
const (
	maxHosts     = 1 << 20
	maxIntervals = 1 << 16
)

// ErrSize is wrapped when a matrix is empty or too large.
var ErrSize = errors.New("no such matrix of activity")

// NewBits makes a matrix in which no machine is active and all intervals were
// observed.
func NewBits(hosts, intervals int) (*Bits, error) {
	if hosts < 1 || hosts > maxHosts || intervals < 1 || intervals > maxIntervals {
		return nil, fmt.Errorf("%w: %d hosts and %d intervals, where 1 to %d and 1 to %d fit", ErrSize, hosts, intervals, maxHosts, maxIntervals)
	}
	words := (intervals + 63) / 64
	b := &Bits{hosts: hosts, intervals: intervals, words: words, rows: make([]uint64, hosts*words), observed: make([]uint64, words)}
	for t := range intervals {
		b.observed[t/64] |= 1 << (t % 64)
	}
	return b, nil
}

// Hosts and Intervals are the size of the matrix.
func (b *Bits) Hosts() int { return b.hosts }

// Intervals is the number of intervals, observed or not.
func (b *Bits) Intervals() int { return b.intervals }

// Row is the activity of host i; the caller does not change it.
func (b *Bits) Row(i int) []uint64 { return b.rows[i*b.words : (i+1)*b.words] }

// Activate says that host i was active in interval t.
func (b *Bits) Activate(i, t int) { b.rows[i*b.words+t/64] |= 1 << (t % 64) & b.observed[t/64] }

// Active reports whether host i was active in interval t.
func (b *Bits) Active(i, t int) bool { return b.rows[i*b.words+t/64]>>(t%64)&1 != 0 }

// Count is the number of intervals in which host i was active.
func (b *Bits) Count(i int) int { return countBits(b.Row(i)) }

// Observed is the number of intervals in which exports arrived.
func (b *Bits) Observed() int { return countBits(b.observed) }

// Miss says that nothing is known of interval t: no export arrived, or an
// exporter had restarted. It counts neither for nor against any pair.
func (b *Bits) Miss(t int) {
	clear := ^(uint64(1) << (t % 64))
	b.observed[t/64] &= clear
	for i := t / 64; i < len(b.rows); i += b.words {
		b.rows[i] &= clear
	}
}

// Without is b in which nothing is known of the intervals of unknown, too. It
// shares the rows, and is for tests of hosts of which that is so.
func (b *Bits) Without(unknown []uint64) *Bits {
	less := *b
	less.observed = make([]uint64, b.words)
	for w, v := range b.observed {
		less.observed[w] = v &^ unknown[w]
	}
	return &less
}

// Roll forgets the oldest interval and appends one, in which the hosts of active
// were active.
func (b *Bits) Roll(active []int) {
	for i := range b.hosts {
		forgetOldest(b.Row(i))
	}
	forgetOldest(b.observed)
	last := b.intervals - 1
	b.observed[last/64] |= 1 << (last % 64)
	for _, i := range active {
		b.Activate(i, last)
	}
}

func forgetOldest(row []uint64) {
	for w := range row {
		row[w] >>= 1
		if w+1 < len(row) {
			row[w] |= row[w+1] << 63
		}
	}
}

func countBits(row []uint64) (n int) {
	for _, w := range row {
		n += bits.OnesCount64(w)
	}
	return n
}

// countTogether is the number of t with a(t) and b(t+lag).
func countTogether(a, b []uint64, lag int) (n int) {
	if lag < 0 {
		return countTogether(b, a, -lag)
	}
	skip, shift := lag/64, uint(lag%64)
	for w := 0; w+skip < len(b); w++ {
		v := b[w+skip] >> shift
		if w+skip+1 < len(b) {
			v |= b[w+skip+1] << (64 - shift) // Go shifts by 64 to 0
		}
		n += bits.OnesCount64(a[w] & v)
	}
	return n
}

// shiftRow writes into dst what row has at t+lag, for every t; there is nothing
// beyond the ends.
func shiftRow(dst, row []uint64, lag int) {
	for w := range dst {
		dst[w] = wordAt(row, w*64+lag)
	}
}

// wordAt is the 64 bits of row from bit on, which may lie outside.
func wordAt(row []uint64, bit int) uint64 {
	w, shift := bit>>6, uint(bit&63) // floor also below 0
	var v uint64
	if w >= 0 && w < len(row) {
		v = row[w] >> shift
	}
	if w+1 >= 0 && w+1 < len(row) {
		v |= row[w+1] << (64 - shift)
	}
	return v
}
