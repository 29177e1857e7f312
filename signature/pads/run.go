package pads

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"dragnet/dossier"
)

// run is one attempt: the current starts and the signature they imply.
type run struct {
	*problem
	rng    *rand.Rand
	number int

	starts []int // Absent if the sample takes no part
	n      int   // samples that take part
	counts [][256]int32
	// table is log(f_p(x)/f0(x)) without the common -log(n + 256 d).
	table  [][256]float32
	scores []float32 // scratch: one per window of the longest sample

	best   snapshot
	rounds int
}

type snapshot struct {
	starts  []int
	quality float64
}

func newRun(p *problem, rng *rand.Rand, number int) *run {
	longest := 0
	for _, s := range p.samples {
		longest = max(longest, len(s))
	}
	r := &run{problem: p, rng: rng, number: number, scores: make([]float32, longest),
		starts: make([]int, len(p.samples)), counts: make([][256]int32, p.o.Width), table: make([][256]float32, p.o.Width)}
	for i := range r.starts {
		r.starts[i] = Absent
	}
	r.rebuildTable()
	return r
}

func (r *run) startAtRandom() {
	for _, i := range r.usable {
		for {
			if a := r.rng.IntN(len(r.blocked[i])); !r.blocked[i][a] {
				r.addSample(i, a)
				break
			}
		}
	}
}

// startFrom takes one window as a signature of one sample and lets every
// sample choose its best window.
func (r *run) startFrom(w window) {
	for at := range r.o.Width {
		r.countByte(at, r.samples[w.sample][w.start+at], 1)
	}
	r.n = 1
	starts := slices.Clone(r.starts)
	for _, i := range r.usable {
		starts[i], _ = r.bestWindow(i)
	}
	r.assignStarts(starts)
}

// runRounds runs rounds until the mean score no longer grows.
func (r *run) runRounds(ctx context.Context) {
	last := math.Inf(-1)
	calm := 0
	for r.rounds = 1; r.rounds <= r.o.Rounds && ctx.Err() == nil; r.rounds++ {
		if r.o.Method == EM {
			r.maximiseStarts()
		} else {
			r.sweepSamples()
		}
		if !r.o.Published && r.rounds%4 == 2 {
			r.shiftPhase()
		}
		mean := r.meanScore()
		if r.o.Trace != nil {
			r.o.Trace(r.number, r.rounds, mean)
		}
		r.keepBest()
		if mean <= last+r.o.Epsilon*math.Abs(last) {
			calm++
		} else {
			calm = 0
		}
		// Sampling is noisy, so Gibbs must be stable for longer.
		if calm >= 2 && (r.o.Method == EM || calm >= 4) {
			break
		}
		last = max(last, mean)
	}
	r.assignStarts(r.best.starts)
	if !r.o.Published && ctx.Err() == nil {
		r.settleStarts()
	}
}

// settleStarts lets every sample choose its best window until nothing moves, and
// drops samples whose best window is no better than chance.
func (r *run) settleStarts() {
	for range 8 {
		before := slices.Clone(r.starts)
		r.maximiseStarts()
		r.shiftPhase()
		r.dropUnlikely()
		if slices.Equal(before, r.starts) {
			break
		}
	}
	r.keepBest()
	r.assignStarts(r.best.starts)
}

// maximiseStarts is the step of EM: all samples move to their best window at once.
func (r *run) maximiseStarts() {
	starts := slices.Clone(r.starts)
	for _, i := range r.usable {
		starts[i], _ = r.bestWindow(i)
	}
	r.assignStarts(starts)
}

// sweepSamples redraws every usable sample once, in random order, each from the
// signature of the others, with probability proportional to exp(score * W).
func (r *run) sweepSamples() {
	for _, k := range r.rng.Perm(len(r.usable)) {
		i := r.usable[k]
		r.removeSample(i)
		if r.n > 0 {
			r.addSample(i, r.drawStart(i))
		}
	}
}

func (r *run) drawStart(i int) int {
	scores := r.scoreAll(i)
	top := float32(math.Inf(-1))
	for a, s := range scores {
		if s > top && !r.blocked[i][a] {
			top = s
		}
	}
	// Starts more than 30 nats below the best have a probability below 1e-13
	// each.
	total := 0.0
	for a, s := range scores {
		if s > top-30 && !r.blocked[i][a] {
			total += math.Exp(float64(s - top))
		}
	}
	left := r.rng.Float64() * total
	last := 0
	for a, s := range scores {
		if s > top-30 && !r.blocked[i][a] {
			last = a
			if left -= math.Exp(float64(s - top)); left < 0 {
				break
			}
		}
	}
	return last
}

// bestWindow is the allowed window of sample i with the highest score.
func (r *run) bestWindow(i int) (start int, score float32) {
	start, score = Absent, float32(math.Inf(-1))
	for a, s := range r.scoreAll(i) {
		if s > score && !r.blocked[i][a] {
			start, score = a, s
		}
	}
	return start, score
}

// scoreAll is log(f_p/f0) summed over each window of sample i, without the
// common constant.
func (r *run) scoreAll(i int) []float32 {
	r.scores = sumWindows(r.table, r.samples[i], r.scores)
	return r.scores
}

// windowScore is Omega of sample i at start, in nats per byte, from a signature
// without own samples of count one (own 0 or 1).
func (r *run) windowScore(i, start, own int) float64 {
	sum := 0.0
	for at := range r.o.Width {
		x := r.samples[i][start+at]
		sum += float64(r.logCount[max(0, int(r.counts[at][x])-own)] - r.logBg[x])
	}
	return sum/float64(r.o.Width) - math.Log(float64(r.n-own)+256*r.o.Pseudo)
}

func (r *run) meanScore() float64 {
	sum := 0.0
	for i, start := range r.starts {
		if start != Absent {
			sum += r.windowScore(i, start, 0)
		}
	}
	return sum / float64(max(1, r.n))
}

// quality ranks states. With one occurrence per sample it is the mean score;
// otherwise the evidence of all samples together beyond chance.
func (r *run) quality() float64 { return r.best.quality }

func (r *run) keepBest() {
	q := r.meanScore()
	if !r.o.Published {
		q = 0
		for i, start := range r.starts {
			if start != Absent && r.n > 1 {
				q += max(0, r.windowScore(i, start, 1)*float64(r.o.Width)-math.Log(float64(r.windows[i])))
			}
		}
	}
	if r.best.starts == nil || q > r.best.quality {
		r.best = snapshot{slices.Clone(r.starts), q}
	}
}

// dropUnlikely applies zero or one occurrence per sample: a sample is kept only
// if its window is likelier to come from the signature of the others than from
// the background, given how many windows it could choose from and what share of
// samples has an occurrence. A few samples that agree on something else support
// each other, so a region far below the others is dropped as well.
func (r *run) dropUnlikely() {
	starts := slices.Clone(r.starts)
	share := min(max(float64(r.n)/float64(len(r.usable)), 0.05), 0.95)
	prior := math.Log(share / (1 - share))
	kept, far := 0, r.meanScore()/4
	for i, start := range starts {
		if start == Absent || r.n < 2 {
			continue
		}
		if score := r.windowScore(i, start, 1); score < far || score*float64(r.o.Width)+prior < math.Log(float64(r.windows[i])) {
			starts[i] = Absent
		} else {
			kept++
		}
	}
	if kept >= 2 {
		r.assignStarts(starts)
	}
}

func (r *run) addSample(i, start int) {
	r.starts[i] = start
	r.n++
	for at := range r.o.Width {
		r.countByte(at, r.samples[i][start+at], 1)
	}
}

func (r *run) removeSample(i int) {
	if r.starts[i] == Absent {
		return
	}
	for at := range r.o.Width {
		r.countByte(at, r.samples[i][r.starts[i]+at], -1)
	}
	r.starts[i] = Absent
	r.n--
}

func (r *run) countByte(at int, x byte, by int32) {
	r.counts[at][x] += by
	r.table[at][x] = r.logCount[r.counts[at][x]] - r.logBg[x]
}

func (r *run) assignStarts(starts []int) {
	copy(r.starts, starts)
	r.rebuildTable()
}

func (r *run) rebuildTable() {
	clear(r.counts)
	r.n = 0
	for i, start := range r.starts {
		if start == Absent {
			continue
		}
		r.n++
		for at := range r.counts {
			r.counts[at][r.samples[i][start+at]]++
		}
	}
	for at := range r.table {
		for x, c := range r.counts[at] {
			r.table[at][x] = r.logCount[c] - r.logBg[x]
		}
	}
}

func (r *run) toAlignment() *Alignment {
	a := &Alignment{Starts: slices.Clone(r.starts), Scores: make([]float64, len(r.starts)),
		Mean: r.meanScore(), Worst: math.Inf(1), Present: r.n, Rounds: r.rounds}
	for i, start := range r.starts {
		a.Scores[i] = math.NaN()
		if start != Absent {
			a.Scores[i] = r.windowScore(i, start, 0)
			a.Worst = min(a.Worst, a.Scores[i])
		}
	}
	a.Block = dossier.Block{Pseudo: r.o.Pseudo, Columns: make([]dossier.Column, r.o.Width)}
	for at := range r.counts {
		c := dossier.Column{}
		for x, n := range r.counts[at] {
			if n > 0 {
				c[byte(x)] = float64(n)
			}
		}
		a.Block.Columns[at] = c
	}
	return a
}

// logN is the constant that table leaves out.
func (r *run) logN() float64 { return math.Log(float64(r.n) + 256*r.o.Pseudo) }
