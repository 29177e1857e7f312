package pads

import (
	"cmp"
	"context"
	"errors"
	"slices"

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
	all := len(p.usable)
	var parts []*Alignment
	for len(parts) < min(m.Parts, dossier.MaxParts) {
		a, err := learnProblem(ctx, p)
		if errors.Is(err, ErrTooFewSamples) && len(parts) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		good := a.Worst > 0 && a.Mean >= m.Mean && float64(a.Present) >= m.Present*float64(all)
		if !good && len(parts) > 0 {
			break
		}
		parts = append(parts, a)
		if !good {
			break
		}
		p.blockRegions(a)
	}
	return parts, nil
}

// gapSlack widens a learnt gap: the samples do not show the extremes.
const gapSlack = 1.25

// Join makes one gapped part of alignments that lie in the same order, at
// bounded distances, in nine of ten samples that hold both neighbours (section
// 3.4.4). An alignment that does not fit behind its neighbour starts a separate
// part.
func Join(alignments []*Alignment) []dossier.Part {
	sorted := slices.Clone(alignments)
	slices.SortStableFunc(sorted, func(a, b *Alignment) int { return cmp.Compare(medianLead(a, sorted), medianLead(b, sorted)) })
	var parts []dossier.Part
	var last *Alignment
	for _, a := range sorted {
		block := a.Block
		if last != nil && len(parts[len(parts)-1].Blocks) < dossier.MaxBlocks {
			if gap, ok := gapBetween(last, a); ok {
				block.Gap = gap
				part := &parts[len(parts)-1]
				part.Blocks = append(part.Blocks, block)
				last = a
				continue
			}
		}
		parts = append(parts, dossier.Part{Blocks: []dossier.Block{block}, FalseAlarms: -1})
		last = a
	}
	return parts
}

// medianLead is the median, over samples, of a's start relative to the first
// of all alignments there.
func medianLead(a *Alignment, all []*Alignment) int {
	var leads []int
	for i, start := range a.Starts {
		first := start
		for _, o := range all {
			if o.Starts[i] != Absent {
				first = min(first, o.Starts[i])
			}
		}
		if start != Absent {
			leads = append(leads, start-first)
		}
	}
	if len(leads) == 0 {
		return 0
	}
	slices.Sort(leads)
	return leads[len(leads)/2]
}

func gapBetween(before, after *Alignment) (dossier.Gap, bool) {
	var gaps []int
	both := 0
	for i, start := range before.Starts {
		if start == Absent || after.Starts[i] == Absent {
			continue
		}
		both++
		if d := after.Starts[i] - start - len(before.Block.Columns); d >= 0 {
			gaps = append(gaps, d)
		}
	}
	if both < 2 || len(gaps)*10 < both*9 {
		return dossier.Gap{}, false
	}
	slices.Sort(gaps)
	// A twentieth on each side may be misplaced regions.
	low, high := gaps[len(gaps)/20], gaps[len(gaps)-1-len(gaps)/20]
	slack := int(gapSlack*float64(high-low)) + 4
	if high+slack > maxJoin {
		return dossier.Gap{}, false
	}
	return dossier.Gap{Min: max(0, low-slack), Max: high + slack}, true
}

// maxJoin bounds the distance of neighbours in one part: farther blocks are
// independent evidence and cheaper to match apart.
const maxJoin = 512
