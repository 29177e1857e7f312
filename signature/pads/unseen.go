package pads

import (
	"math"

	"dragnet/dossier"
)

// UnseenScores are the best scores of the samples, in nats per byte, each by the
// block without that sample's own counts: what a variant may score that took no part
// in learning. -Inf for a sample that is too short. Starts are the windows that score
// so, which for a sample that only its own counts support is another than its own.
func (a *Alignment) UnseenScores(samples [][]byte, bg *dossier.Background) (scores []float64, starts []int) {
	u := newUnseen(a, bg)
	for i, s := range samples {
		score, start := u.bestWithout(s, a.Starts[i])
		scores, starts = append(scores, score), append(starts, start)
	}
	return scores, starts
}

// unseen holds the table of a block, from which one sample at a time is taken out.
type unseen struct {
	counts  [][256]float64
	table   [][256]float32 // without the constant -log(n + 256 d)
	logBg   [256]float32
	n, d    float64
	scratch []float32
}

func newUnseen(a *Alignment, bg *dossier.Background) *unseen {
	u := &unseen{counts: make([][256]float64, len(a.Block.Columns)), table: make([][256]float32, len(a.Block.Columns)), n: float64(a.Present), d: a.Block.Pseudo}
	for x, f := range bg {
		u.logBg[x] = float32(math.Log(f))
	}
	for p, column := range a.Block.Columns {
		for x, c := range column {
			u.counts[p][x] = c
		}
		for x := range 256 {
			u.set(p, byte(x))
		}
	}
	return u
}

func (u *unseen) set(p int, x byte) {
	u.table[p][x] = float32(math.Log(u.counts[p][x]+u.d)) - u.logBg[x]
}

// bestWithout is the best score of s, and where, by the block without the window of s
// at own.
func (u *unseen) bestWithout(s []byte, own int) (score float64, start int) {
	if len(s) < len(u.table) {
		return math.Inf(-1), Absent
	}
	n := u.n
	change := func(by float64) {
		for p := range u.table {
			u.counts[p][s[own+p]] += by
			u.set(p, s[own+p])
		}
		n += by
	}
	if own != Absent {
		change(-1)
		defer change(1)
	}
	u.scratch = sumWindows(u.table, s, u.scratch)
	for at, v := range u.scratch {
		if v > u.scratch[start] {
			start = at
		}
	}
	return float64(u.scratch[start])/float64(len(u.table)) - math.Log(n+256*u.d), start
}

// sumWindows sums the table over each window of s, into out if that is large enough.
// Four positions at a time keep the rows in registers and the sums out of memory.
func sumWindows(t [][256]float32, s []byte, out []float32) []float32 {
	if n := len(s) - len(t) + 1; cap(out) < n {
		out = make([]float32, n)
	} else {
		out = out[:n]
		clear(out)
	}
	p := 0
	for ; p+4 <= len(t); p += 4 {
		t0, t1, t2, t3 := &t[p], &t[p+1], &t[p+2], &t[p+3]
		s0, s1, s2, s3 := s[p:][:len(out)], s[p+1:][:len(out)], s[p+2:][:len(out)], s[p+3:][:len(out)]
		for a := range out {
			out[a] += (t0[s0[a]] + t1[s1[a]]) + (t2[s2[a]] + t3[s3[a]])
		}
	}
	for ; p < len(t); p++ {
		row, x := &t[p], s[p:][:len(out)]
		for a := range out {
			out[a] += row[x[a]]
		}
	}
	return out
}

// Drop takes the windows of some samples out of the block.
func (a *Alignment) Drop(samples [][]byte, drop func(i int) bool) {
	for i, start := range a.Starts {
		if start == Absent || !drop(i) {
			continue
		}
		for p, column := range a.Block.Columns {
			x := samples[i][start+p]
			if column[x]--; column[x] <= 0 {
				delete(column, x)
			}
		}
		a.Starts[i], a.Scores[i] = Absent, math.NaN()
		a.Present--
	}
}
