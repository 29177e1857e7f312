package packets

import "slices"

// lossTracker tracks which bytes of one direction of a TCP stream are in the
// capture. Positions are relative: 1 is the first data byte. Bytes acknowledged
// by the receiver but not in the capture are a gap.
type lossTracker struct {
	// next is the first byte not yet accounted for; freed is up to where
	// acknowledgements have been seen, top the end of the last data seen.
	next, freed, top int64
	// ahead are the ranges seen beyond next: disjoint, ascending, not touching.
	ahead []span
	// blind is set if acknowledgements do not pass this capture point, so that
	// gaps cannot be detected.
	blind bool
}

// span is the half-open range of bytes [from, to).
type span struct{ from, to int64 }

// gaps are the holes that one packet revealed: their number and total length.
type gaps struct {
	holes int
	bytes int64
}

func (g *gaps) addGap(n int64) {
	g.holes++
	g.bytes += n
}

const (
	// maxAhead bounds the holes followed in one direction; beyond it the first
	// hole is declared a gap without waiting for its acknowledgement.
	maxAhead = 64
	// Zeek's limits on data without acknowledgements, in bytes: how much may be
	// above a hole before the first acknowledgement, from where on delivered
	// data is no longer kept for its acknowledgement, and how much may wait for
	// one in total.
	maxAboveHole     = 16384
	maxInitialWindow = 16384
	maxUnacked       = 10 << 20
)

// startAt sets the first data byte.
func (l *lossTracker) startAt() { l.next, l.freed, l.top = 1, 1, 1 }

// hasUnacked reports whether data was seen that has not been acknowledged.
func (l *lossTracker) hasUnacked() bool { return !l.blind && l.top > l.freed }

// addData notes data [from, to).
func (l *lossTracker) addData(from, to int64) (g gaps) {
	from = max(from, l.freed)
	if l.blind || from >= to {
		return g
	}
	l.top = max(l.top, to)
	if to <= l.next {
		return g
	}
	if from <= l.next {
		l.next = to
		l.absorbSpans()
		return g
	}
	l.insertSpan(span{from, to})
	if len(l.ahead) > maxAhead {
		g.addGap(l.ahead[0].from - l.next)
		l.next = l.ahead[0].from
		l.absorbSpans()
	}
	return g
}

// insertSpan adds s to the ranges ahead.
func (l *lossTracker) insertSpan(s span) {
	i, _ := slices.BinarySearchFunc(l.ahead, s.from, func(k span, from int64) int {
		if k.to < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(l.ahead) && l.ahead[j].from <= s.to; j++ {
		s.from, s.to = min(s.from, l.ahead[j].from), max(s.to, l.ahead[j].to)
	}
	l.ahead = slices.Replace(l.ahead, i, j, s)
}

// absorbSpans moves next over the ranges ahead of it.
func (l *lossTracker) absorbSpans() {
	n := 0
	for n < len(l.ahead) && l.ahead[n].from <= l.next {
		l.next = max(l.next, l.ahead[n].to)
		n++
	}
	l.ahead = slices.Delete(l.ahead, 0, n)
}

// addAck notes that the receiver has everything before upTo.
func (l *lossTracker) addAck(upTo int64) (g gaps) {
	for !l.blind && len(l.ahead) > 0 && l.ahead[0].from < upTo {
		g.addGap(l.ahead[0].from - l.next)
		l.next = l.ahead[0].from
		l.absorbSpans()
	}
	if upTo > l.next {
		if !l.blind {
			g.addGap(upTo - l.next)
		}
		l.next = upTo
		l.absorbSpans()
	}
	l.freed = max(l.freed, upTo)
	return g
}

// limitWaiting stops tracking if acknowledgements seem to take another route:
// unacked says that none was seen, size how much was sent.
func (l *lossTracker) limitWaiting(unacked bool, size int64) {
	if unacked && size > maxInitialWindow {
		l.freed = max(l.freed, l.next)
	}
	held := l.next - l.freed
	for _, s := range l.ahead {
		held += s.to - s.from
	}
	if unacked && l.top-l.next > maxAboveHole || held > maxUnacked {
		l.blind, l.ahead = true, nil
	}
}
