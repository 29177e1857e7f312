package synchrony

const (
	// shortestPeriod is that of a timer, in intervals.
	shortestPeriod = 5
	// mostPeriods bounds the timers of different periods that are looked for.
	mostPeriods = 3
)

// withoutTimers is the onsets of row but for those that a timer explains: what was
// active one period before, and is again one after. found says whether there are
// timers at all. Where two machines agree by their keep-alives and by nothing else,
// nothing is left of that; what happens at independent times is hardly ever both.
func (b *Bits) withoutTimers(row, onsets []uint64, c Null) (rest []uint64, found bool) {
	rest = onsets
	for range mostPeriods {
		d := b.period(rest, c)
		if d == 0 {
			break
		}
		found = true
		rest = b.leaveOut(row, rest, d)
	}
	return rest, found
}

// period is the smallest distance at which onsets follow each other far more often
// than the time of day explains; 0 is none.
func (b *Bits) period(onsets []uint64, c Null) int {
	for d := shortestPeriod; d <= min(c.Far, b.intervals-1); d++ {
		if b.compare(onsets, onsets, d, 0, c.Window).P < repeated {
			return d
		}
	}
	return 0
}

// leaveOut keeps the onsets that were not preceded and followed at distance d by
// activity. What is not known counts as activity.
func (b *Bits) leaveOut(row, onsets []uint64, d int) []uint64 {
	before, after, seen := make([]uint64, b.words), make([]uint64, b.words), make([]uint64, b.words)
	shiftKnown(before, seen, row, b.observed, -d)
	shiftKnown(after, seen, row, b.observed, d)
	rest := make([]uint64, b.words)
	for w, v := range onsets {
		rest[w] = v &^ (before[w] & after[w])
	}
	return rest
}

// shiftKnown writes where row is active, or not observed, at t+lag.
func shiftKnown(dst, seen, row, observed []uint64, lag int) {
	shiftRow(dst, row, lag)
	shiftRow(seen, observed, lag)
	for w := range dst {
		dst[w] |= ^seen[w]
	}
}
