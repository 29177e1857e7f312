package packets

import "slices"

// losses follows which bytes of one direction of a TCP stream the capture
// holds. Positions are relative: 1 is the first data byte. What the receiver
// acknowledged but the capture does not hold is a gap.
type losses struct {
	// next is the first byte not yet accounted for; freed is up to where
	// acknowledgements have been seen, top the end of the last data seen.
	next, freed, top int64
	// ahead are the ranges seen beyond next: disjoint, ascending, not touching.
	ahead []span
	// blind is set when the acknowledgements do not pass this capture, so that
	// nothing can be said about gaps.
	blind bool
}

// span is the half-open range of bytes [from, to).
type span struct{ from, to int64 }

// gaps is what one packet revealed: how many holes, and how long together.
type gaps struct {
	holes int
	bytes int64
}

func (g *gaps) add(n int64) {
	g.holes++
	g.bytes += n
}

const (
	// maxAhead bounds the holes followed in one direction; beyond it the first
	// hole is declared a gap without waiting for its acknowledgement.
	maxAhead = 64
	// Zeek's limits on data without acknowledgements, in bytes: how much may
	// stand above a hole while nothing was ever acknowledged, from where on
	// delivered data is no longer kept for its acknowledgement, and how much
	// may wait for one at all.
	maxAboveHole     = 16384
	maxInitialWindow = 16384
	maxUnacked       = 10 << 20
)

// start sets the first data byte.
func (l *losses) start() { l.next, l.freed, l.top = 1, 1, 1 }

// waiting reports whether data was seen that has not been acknowledged.
func (l *losses) waiting() bool { return !l.blind && l.top > l.freed }

// receive notes data [from, to).
func (l *losses) receive(from, to int64) (g gaps) {
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
		l.absorb()
		return g
	}
	l.insert(span{from, to})
	if len(l.ahead) > maxAhead {
		g.add(l.ahead[0].from - l.next)
		l.next = l.ahead[0].from
		l.absorb()
	}
	return g
}

// insert adds s to the ranges ahead.
func (l *losses) insert(s span) {
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

// absorb moves next over what was seen ahead of it.
func (l *losses) absorb() {
	n := 0
	for n < len(l.ahead) && l.ahead[n].from <= l.next {
		l.next = max(l.next, l.ahead[n].to)
		n++
	}
	l.ahead = slices.Delete(l.ahead, 0, n)
}

// acknowledge notes that the receiver has everything before upTo.
func (l *losses) acknowledge(upTo int64) (g gaps) {
	for !l.blind && len(l.ahead) > 0 && l.ahead[0].from < upTo {
		g.add(l.ahead[0].from - l.next)
		l.next = l.ahead[0].from
		l.absorb()
	}
	if upTo > l.next {
		if !l.blind {
			g.add(upTo - l.next)
		}
		l.next = upTo
		l.absorb()
	}
	l.freed = max(l.freed, upTo)
	return g
}

// limit gives up where acknowledgements seem to take another way: unacked
// tells that none was seen, size how much was sent.
func (l *losses) limit(unacked bool, size int64) {
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
