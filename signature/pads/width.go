package pads

import (
	"context"

	"dragnet/dossier"
)

// LearnWidth begins with o.Width and shrinks it by a quarter while the worst
// significant region scores below half the mean (section 3.4.1), or while more
// than a quarter of the positions tell less than one bit; then it cuts such
// positions off both ends. It never goes below least.
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
		if next == o.Width || a.Worst >= a.Mean/2 && dull(a, bg) <= o.Width/4 {
			a.trim(samples, bg, least)
			return a, nil
		}
		o.Width = next
	}
}

// dullBits is what a position must tell to be worth matching.
const dullBits = 1.0

func dull(a *Alignment, bg *dossier.Background) int {
	n := 0
	for _, bits := range a.Block.Information(bg) {
		if bits < dullBits {
			n++
		}
	}
	return n
}

// trim cuts dull positions off both ends and scores the regions again.
func (a *Alignment) trim(samples [][]byte, bg *dossier.Background, least int) {
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
	a.rescore(samples, bg)
}

func (a *Alignment) rescore(samples [][]byte, bg *dossier.Background) {
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
