package pads

import (
	"cmp"
	"context"
	"errors"

	"dragnet/dossier"
)

// Multi bounds an MPADS.
type Multi struct {
	// Parts bounds their number; 0 means 8.
	Parts int
	// Present is the least share of samples that a part must occur in; 0
	// means 0.9.
	Present float64
	// Mean is the least mean score of a part, in nats per byte; 0 means 1.
	Mean float64
}

// LearnMulti learns one signature, cuts its regions out of the samples, learns
// the next, until none scores well in enough of them (section 3.5). The parts
// are in the order found. It fails only if none is found.
func LearnMulti(ctx context.Context, samples [][]byte, bg *dossier.Background, o Options, m Multi) ([]*Alignment, error) {
	m.Parts = cmp.Or(m.Parts, 8)
	m.Present = cmp.Or(m.Present, 0.9)
	m.Mean = cmp.Or(m.Mean, 1)
	p := newProblem(samples, bg, o.withDefaults())
	all, most := len(p.usable), min(m.Parts, dossier.MaxParts)
	var parts []*Alignment
	err := p.learnEach(ctx, func(a *Alignment) bool {
		good := a.Worst > 0 && a.Mean >= m.Mean && float64(a.Present) >= m.Present*float64(all)
		if good || len(parts) == 0 {
			parts = append(parts, a)
		}
		return good && len(parts) < most
	})
	if err != nil {
		return nil, err
	}
	return parts, nil
}

// LearnRegions learns one region after another, each disjoint from those before, and
// calls take with it, until take returns false or nothing is left to learn from. It
// fails only if nothing could be learnt at all.
func LearnRegions(ctx context.Context, samples [][]byte, bg *dossier.Background, o Options, take func(*Alignment) bool) error {
	return newProblem(samples, bg, o.withDefaults()).learnEach(ctx, take)
}

// learnEach is LearnRegions on a problem.
func (p *problem) learnEach(ctx context.Context, take func(*Alignment) bool) error {
	for n := 0; ; n++ {
		a, err := learnProblem(ctx, p)
		if errors.Is(err, ErrTooFewSamples) && n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if !take(a) {
			return nil
		}
		p.blockRegions(a)
	}
}
