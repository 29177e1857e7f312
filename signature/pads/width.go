package pads

import (
	"context"

	"dragnet/dossier"
)

// LearnWidth starts with o.Width and shrinks it by a quarter while the worst
// significant region scores below half the mean (section 3.4.1), or while more
// than a quarter of the positions have less than one bit; then it trims such
// positions at both ends. It never goes below least.
func LearnWidth(ctx context.Context, samples [][]byte, bg *dossier.Background, o Options, least int) (*Alignment, error) {
	o = o.withDefaults()
	for {
		a, err := Learn(ctx, samples, bg, o)
		next := max(least, o.Width*3/4)
		if err != nil {
			if ctx.Err() != nil || next == o.Width {
				return nil, err
			}
			o.Width = next
			continue
		}
		if next == o.Width || a.Worst >= a.Mean/2 && countDull(a, bg) <= o.Width/4 {
			a.trimDull(samples, bg, least)
			return a, nil
		}
		o.Width = next
	}
}

// dullBits is the least information of a position worth matching.
const dullBits = 1.0

func countDull(a *Alignment, bg *dossier.Background) int {
	n := 0
	for _, bits := range a.Block.Information(bg) {
		if bits < dullBits {
			n++
		}
	}
	return n
}

// trimDull trims dull positions at both ends and scores the regions again.
func (a *Alignment) trimDull(samples [][]byte, bg *dossier.Background, least int) {
	info := a.Block.Information(bg)
	from, to := 0, len(info)
	for to-from > least && info[from] < dullBits {
		from++
	}
	for to-from > least && info[to-1] < dullBits {
		to--
	}
	if from == 0 && to == len(info) {
		return
	}
	a.Block.Columns = a.Block.Columns[from:to]
	for i := range a.Starts {
		if a.Starts[i] != Absent {
			a.Starts[i] += from
		}
	}
	a.scoreRegions(samples, bg)
}

func (a *Alignment) scoreRegions(samples [][]byte, bg *dossier.Background) {
	w := a.Block.Weights(bg)
	sum, worst := 0.0, 0.0
	for i, start := range a.Starts {
		if start == Absent {
			continue
		}
		score := 0.0
		for p := range w {
			score += w[p][samples[i][start+p]]
		}
		a.Scores[i] = score / float64(len(w))
		if sum == 0 || a.Scores[i] < worst {
			worst = a.Scores[i]
		}
		sum += a.Scores[i]
	}
	a.Mean, a.Worst = sum/float64(max(1, a.Present)), worst
}
