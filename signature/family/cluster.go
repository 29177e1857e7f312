package family

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/pads"
)

// Options of Cluster. The zero value of a field means its default.
type Options struct {
	// Width of the signatures that decide membership (32).
	Width int
	// Subset is how many samples are compared pairwise at a time (100): the
	// rest are assigned by the signatures of the families found among them.
	Subset int
	// Least is the size of the smallest family (3).
	Least int
	Seed  uint64
	// Normal are strings of normal traffic.
	Normal *pads.Grams
	// FalseAlarms per 10^9 bytes that a family's signature may give (100: one in
	// a thousand samples of 10 KB).
	FalseAlarms float64
}

// Clustering is the result of Cluster: indices of samples.
type Clustering struct {
	Families [][]int
	Outliers []int
}

// Cluster sorts any number of samples into families. Pairwise similarities
// cost the square of their number, so a random subset is cut first and all
// samples that its families' signatures recognise are taken out; then a subset
// of the rest, until nothing more is recognised.
func Cluster(ctx context.Context, samples [][]byte, bg *dossier.Background, o Options) (Clustering, error) {
	o.Width, o.Subset, o.Least = cmp.Or(o.Width, 32), cmp.Or(o.Subset, 100), cmp.Or(o.Least, 3)
	o.FalseAlarms = cmp.Or(o.FalseAlarms, 100)
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	var r Clustering
	alike := 0.0
	rest := make([]int, len(samples))
	for i := range rest {
		rest[i] = i
	}
	for len(rest) >= o.Least && ctx.Err() == nil {
		rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		groups, err := o.subsetFamilies(ctx, samples, rest[:min(len(rest), o.Subset)], bg, &alike)
		if err != nil {
			return r, err
		}
		families, left := groups, rest
		// A signature from the few members in the subset is weak; the second is
		// learnt from all that the first recognised.
		for range 2 {
			families, left = assignSamples(samples, rest, o.learnSignatures(ctx, samples, families, bg))
		}
		took := false
		for _, f := range families {
			if len(f) >= o.Least {
				slices.Sort(f)
				r.Families, took = append(r.Families, f), true
			} else {
				left = append(left, f...)
			}
		}
		rest = left
		if !took {
			break
		}
	}
	slices.Sort(rest)
	r.Outliers = rest
	slices.SortStableFunc(r.Families, func(a, b []int) int { return len(b) - len(a) })
	return r, ctx.Err()
}

// subsetFamilies cuts the chosen samples.
func (o Options) subsetFamilies(ctx context.Context, samples [][]byte, chosen []int, bg *dossier.Background, alike *float64) ([][]int, error) {
	prepared := make([]*Sample, len(chosen))
	for i, s := range chosen {
		prepared[i] = NewSample(samples[s], o.Normal)
	}
	families, _, most := cutAgainst(Matrix(prepared, PADS(bg, o.Width)), *alike)
	*alike = most
	for _, members := range families {
		for i, m := range members {
			members[i] = chosen[m]
		}
	}
	return families, ctx.Err()
}

// blocksPerFamily: a sample with any of them is a member, since garbage may
// split a block.
const blocksPerFamily = 4

// learnSignatures learns the blocks of each family of at least o.Least samples.
func (o Options) learnSignatures(ctx context.Context, samples [][]byte, families [][]int, bg *dossier.Background) [][]*match.Scanner {
	var found [][]*match.Scanner
	for _, members := range families {
		if len(members) < o.Least {
			continue
		}
		var training [][]byte
		for _, m := range members[:min(len(members), o.Subset)] {
			training = append(training, samples[m])
		}
		learnt, err := pads.LearnMulti(ctx, training, bg,
			pads.Options{Width: o.Width, Method: pads.EM, Restarts: 2, Seed: o.Seed, Normal: o.Normal},
			pads.Multi{Parts: blocksPerFamily, Present: 0.3})
		if err != nil {
			continue // too short for a signature: they stay outliers
		}
		var blocks []*match.Scanner
		for _, a := range learnt {
			part := dossier.Part{Blocks: []dossier.Block{a.Block}}
			table := match.NewTable(&a.Block, bg)
			blocks = append(blocks, match.NewScanner(table, table.Limit(match.NewModel(&part, bg).Threshold(o.FalseAlarms)), match.Fastest()))
		}
		found = append(found, blocks)
	}
	return found
}

// assignSamples gives each sample to the signature that scores highest on it.
func assignSamples(samples [][]byte, rest []int, found [][]*match.Scanner) (families [][]int, left []int) {
	families = make([][]int, len(found))
	for _, i := range rest {
		to, top := -1, 0.0
		for f, blocks := range found {
			for _, scanner := range blocks {
				scanner.Scan(samples[i], func(_ int, units int32) int32 {
					if omega := scanner.Omega(units); to < 0 || omega > top {
						to, top = f, omega
					}
					return units + 1
				})
			}
		}
		if to < 0 {
			left = append(left, i)
		} else {
			families[to] = append(families[to], i)
		}
	}
	return families, left
}
