package steppingstone

import (
	"time"

	"dragnet/flow"
)

// OnOff is the baseline: two connections are correlated if idle periods of at
// least Idle end in both within Apart, for a share of at least Share of the idle
// periods of the one with fewer, and Consecutive times in a row at least. The
// numbers are those of Zhang and Paxson 2000, section 4.
type OnOff struct {
	Idle, Apart time.Duration
	Share       float64
	Consecutive int
}

// DefaultOnOff has the paper's numbers.
func DefaultOnOff() OnOff {
	return OnOff{Idle: 500 * time.Millisecond, Apart: 80 * time.Millisecond, Share: 0.3, Consecutive: 2}
}

// Correlation is the share of idle periods that end together, 0 where there are
// fewer in a row than Consecutive. Both directions of a connection count as one.
func (o OnOff) Correlation(a, b *Connection) float64 {
	from, to := max(a.First, b.First), min(a.Last, b.Last)
	x, y := o.idleEnds(a, from, to), o.idleEnds(b, from, to)
	together, row, longest := 0, 0, 0
	j := 0
	for _, t := range x {
		for j < len(y) && y[j] < t-flow.Time(o.Apart) {
			j++
		}
		if j < len(y) && y[j] <= t+flow.Time(o.Apart) {
			together++
			row++
			longest = max(longest, row)
			j++
		} else {
			row = 0
		}
	}
	if longest < o.Consecutive || min(len(x), len(y)) == 0 {
		return 0
	}
	return float64(together) / float64(min(len(x), len(y)))
}

func (o OnOff) idleEnds(c *Connection, from, to flow.Time) (out []flow.Time) {
	in, gone := between(c.Arriving, from, to), between(c.Leaving, from, to)
	last := from
	for len(in)+len(gone) > 0 {
		var e Event
		if len(gone) == 0 || len(in) > 0 && in[0].Time <= gone[0].Time {
			e, in = in[0], in[1:]
		} else {
			e, gone = gone[0], gone[1:]
		}
		if e.Time-last >= flow.Time(o.Idle) {
			out = append(out, e.Time)
		}
		last = e.Time
	}
	return out
}
