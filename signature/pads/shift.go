package pads

import "slices"

// shiftPhase moves all starts by the same distance if that makes the columns
// more informative: without it both methods get stuck at an alignment that is
// correct up to an offset (Lawrence et al., Science 262, 1993).
func (r *run) shiftPhase() {
	reach := r.o.Width / 2
	if reach == 0 || r.n < 2 {
		return
	}
	values := r.columnValues(reach)
	sum := 0.0
	for _, v := range values[:r.o.Width] {
		sum += v
	}
	best, at := 0.0, 0
	stay := 0.0
	for _, v := range values[reach : reach+r.o.Width] {
		stay += v
	}
	for d := 0; ; d++ {
		if gain := sum - stay; gain > best+1e-6 {
			best, at = gain, d-reach
		}
		if d == 2*reach {
			break
		}
		sum += values[d+r.o.Width] - values[d]
	}
	if at == 0 {
		return
	}
	starts := slices.Clone(r.starts)
	for i, s := range starts {
		if s == Absent {
			continue
		}
		s = min(max(s+at, 0), len(r.blocked[i])-1)
		if r.blocked[i][s] {
			return
		}
		starts[i] = s
	}
	r.assignStarts(starts)
}

// columnValues is the summed log ratio of the columns from reach before the
// window to reach after it. Columns beyond a sample's end count as background.
func (r *run) columnValues(reach int) []float64 {
	values := make([]float64, r.o.Width+2*reach)
	unit := r.logN()
	for q := range values {
		var counts [256]int32
		for i, s := range r.starts {
			if at := s + q - reach; s != Absent && at >= 0 && at < len(r.samples[i]) {
				counts[r.samples[i][at]]++
			}
		}
		for x, c := range counts {
			if c > 0 {
				values[q] += float64(c) * (float64(r.logCount[c]-r.logBg[x]) - unit)
			}
		}
	}
	return values
}
