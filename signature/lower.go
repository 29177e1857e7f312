package signature

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/tokens"
)

// MostLoss is the share of what a signature finds that its strings may miss without
// being refused.
const MostLoss = 0.01

// tested is what was learnt without a fold, and that fold.
type tested struct {
	in             *learner
	f              *findings
	made           []*dossier.Signature // by kind; nil for one that was not made
	samples        [][]byte             // learnt from
	unseen, unused [][]byte             // samples and clean sequences of the fold
}

// lowerable is a signature with what strings for exports can be made of.
type lowerable struct {
	l       *learner
	s       *dossier.Signature
	f       *findings
	samples [][]byte // learnt from

	// chain, positions and cover make strings of the signature's own regions, each
	// once; nil if there are none.
	chain, positions, cover func() *dossier.Alternatives
	// parts are of each part alone.
	parts func() []*lowerable
	// native are the samples that s finds.
	native func() [][]byte
}

func newLowerable(l *learner, s *dossier.Signature, f *findings, samples [][]byte) *lowerable {
	x := &lowerable{
		l: l, s: s, f: f, samples: samples,
		chain:     sync.OnceValue(func() *dossier.Alternatives { return l.chainOf(s, samples) }),
		positions: sync.OnceValue(func() *dossier.Alternatives { return l.lowerPositions(s) }),
		cover:     sync.OnceValue(func() *dossier.Alternatives { return l.coverOf(s, samples) }),
		native:    sync.OnceValue(func() [][]byte { return samplesFound(s, samples) }),
	}
	x.parts = sync.OnceValue(func() (all []*lowerable) {
		for i := range s.Parts {
			all = append(all, newLowerable(l, partOf(s, i), f, samples))
		}
		return all
	})
	return x
}

// lowering is a way to make strings of a signature of the kept kind; nil if it makes none.
type lowering func(x *lowerable) *dossier.Alternatives

// ofRegions are the ways that take a region alone, in order of preference: more strings
// of which any is a match find more.
func ofRegions() []lowering {
	chain := func(x *lowerable) *dossier.Alternatives { return x.chain() }
	positions := func(x *lowerable) *dossier.Alternatives { return x.positions() }
	cover := func(x *lowerable) *dossier.Alternatives { return x.cover() }
	return []lowering{anyStringOf(chain, positions), chain, positions, cover, anyStringOf(cover, chain), anyStringOf(cover, chain, positions)}
}

// anyStringOf takes the strings of several ways together, any of which is a match; nil if
// one of the ways makes none, or such of which several must occur.
func anyStringOf(ways ...lowering) lowering {
	return func(x *lowerable) *dossier.Alternatives {
		sum := &dossier.Alternatives{Name: x.s.Name}
		for _, lower := range ways {
			a := lower(x)
			if a == nil || a.Least > 1 {
				return nil
			}
			sum.Contents = slices.Concat(sum.Contents, a.Contents)
		}
		return sum
	}
}

// lowerings are the ways for all of a signature. Where any part is a match, each has its
// own strings, as a worm may drop the others: what samples carry beside it may be a decoy.
func (l *learner) lowerings(s *dossier.Signature) (all []lowering) {
	if s.Quorum == 1 && len(s.Parts) > 1 {
		all = append(all, func(x *lowerable) *dossier.Alternatives { return x.lowerParts(ofRegions()) })
		for _, lower := range ofRegions() {
			all = append(all, func(x *lowerable) *dossier.Alternatives { return x.lowerParts([]lowering{lower}) })
		}
		return all
	}
	all = ofRegions()
	for i, k := range l.kinds {
		if k.name == kindStrings || k.name == kindTokens {
			all = append(all, func(x *lowerable) *dossier.Alternatives {
				other, err := x.l.kinds[i].learn(x.l, x.f)
				if err != nil {
					return nil
				}
				other.Name = x.s.Name
				return x.l.lowerPositions(other)
			})
		}
	}
	return all
}

// lowerPositions takes the likeliest bytes of each region.
func (l *learner) lowerPositions(s *dossier.Signature) *dossier.Alternatives {
	a, err := tokens.Lower(s, tokens.Options{FalseAlarms: l.o.FalseAlarms, Seed: l.o.Seed, Avoid: l.quiet()})
	if err != nil {
		return nil
	}
	return a
}

// mostStringsOfAll bounds the strings of a signature's parts together.
const mostStringsOfAll = 24

// lowerSafely makes the strings that exports write, without those that clean traffic
// holds; nil if none is left. Of the ways to make them, the one is kept whose strings lose
// least on the folds, and, as few samples tell little, find most of what was learnt from.
func (l *learner) lowerSafely(ctx context.Context, s *dossier.Signature, f *findings, samples [][]byte) (best *dossier.Alternatives) {
	x, folds := newLowerable(l, s, f, samples), l.lowerableFolds()
	least := 0
	for _, lower := range l.lowerings(s) {
		if ctx.Err() != nil {
			return nil
		}
		a := lower(x)
		if a == nil {
			continue
		}
		measureStrings(a, lower, folds)
		missed := len(x.native()) - countStrings(a, x.native())
		if best == nil || cmp.Or(cmp.Compare(a.Loss, best.Loss), missed-least) < 0 {
			best, least = a, missed
		}
		if best.Loss == 0 && least == 0 {
			break
		}
	}
	return best
}

// lowerParts makes strings of each part, of which any is a match.
func (x *lowerable) lowerParts(ways []lowering) *dossier.Alternatives {
	out := &dossier.Alternatives{Name: x.s.Name}
	most := max(4, mostStringsOfAll/len(x.s.Parts))
	for _, one := range x.parts() {
		if a := one.lowerBest(ways); a != nil && a.Least <= 1 {
			out.Contents = append(out.Contents, a.Contents[:min(len(a.Contents), most)]...)
		}
	}
	if len(out.Contents) == 0 {
		return nil
	}
	return out
}

// partOf is s with part i alone.
func partOf(s *dossier.Signature, i int) *dossier.Signature {
	one := *s
	one.Parts, one.Quorum, one.Exact, one.Family = s.Parts[i:i+1], 0, nil, nil
	return &one
}

// lowerBest tries ways to make strings, and keeps what finds most of the samples that the
// signature finds.
func (x *lowerable) lowerBest(ways []lowering) (best *dossier.Alternatives) {
	top := -1
	for _, lower := range ways {
		a := lower(x)
		if a == nil {
			continue
		}
		found := countStrings(a, x.native())
		if found > top {
			best, top = a, found
		}
		if found >= len(x.native()) {
			break
		}
	}
	return best
}

// lowerableFold is what was learnt of the kept kind without a fold, and the samples of the
// fold that it finds.
type lowerableFold struct {
	*lowerable
	unseen [][]byte
}

func (l *learner) lowerableFolds() (all []lowerableFold) {
	kept := keptOf(l.trials)
	for i := range l.tested {
		t := &l.tested[i]
		if kept < len(t.made) && t.made[kept] != nil {
			all = append(all, lowerableFold{newLowerable(t.in, t.made[kept], t.f, t.samples), samplesFound(t.made[kept], t.unseen)})
		}
	}
	return all
}

// measureStrings sets the loss of a by strings made in the same way on the folds; where
// that makes none, all is lost.
func measureStrings(a *dossier.Alternatives, how lowering, folds []lowerableFold) {
	native, found := 0, 0
	for _, t := range folds {
		native += len(t.unseen)
		if b := how(t.lowerable); b != nil {
			found += countStrings(b, t.unseen)
		}
	}
	if native > 0 {
		a.Tested, a.Loss = native, float64(native-found)/float64(native)
	}
}

// samplesFound are the samples that s finds.
func samplesFound(s *dossier.Signature, samples [][]byte) (found [][]byte) {
	m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return nil
	}
	for _, i := range whichMatch(m, samples) {
		found = append(found, samples[i])
	}
	return found
}

// countStrings counts the samples that strings find.
func countStrings(a *dossier.Alternatives, samples [][]byte) (found int) {
	var all []*tokens.Finder
	for _, c := range a.Contents {
		all = append(all, tokens.NewFinder(c))
	}
	for _, b := range samples {
		n := 0
		for _, f := range all {
			if f.In(b) {
				n++
			}
		}
		if n > 0 && n >= a.Least {
			found++
		}
	}
	return found
}
