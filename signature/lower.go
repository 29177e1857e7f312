package signature

import (
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

	// chain and positions make strings of the signature's own regions, each once; nil
	// if there are none.
	chain, positions func() *dossier.Alternatives
}

func newLowerable(l *learner, s *dossier.Signature, f *findings, samples [][]byte) *lowerable {
	return &lowerable{
		l: l, s: s, f: f, samples: samples,
		chain:     sync.OnceValue(func() *dossier.Alternatives { return l.chainOf(s, samples) }),
		positions: sync.OnceValue(func() *dossier.Alternatives { return l.lowerPositions(s) }),
	}
}

// lowering is a way to make strings of a signature of the kept kind; nil if it makes none.
type lowering func(x *lowerable) *dossier.Alternatives

// ofRegion is how many of the lowerings are of a region alone.
const ofRegion = 3

// lowerings are in order of preference: more strings of which any is a match find more.
func (l *learner) lowerings() []lowering {
	both := func(x *lowerable) *dossier.Alternatives {
		a, b := x.positions(), x.chain()
		if a == nil || b == nil || a.Least > 1 {
			return nil
		}
		sum := *a
		sum.Contents = slices.Concat(b.Contents, a.Contents)
		return &sum
	}
	all := []lowering{
		both,
		func(x *lowerable) *dossier.Alternatives { return x.chain() },
		func(x *lowerable) *dossier.Alternatives { return x.positions() },
	}
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
// holds; nil if none is left. Where any part is a match, each has its own strings, as a
// worm may drop the others: what samples carry beside it may be a decoy.
func (l *learner) lowerSafely(s *dossier.Signature, f *findings, samples [][]byte) *dossier.Alternatives {
	all, x := l.lowerings(), newLowerable(l, s, f, samples)
	var out *dossier.Alternatives
	var how lowering
	if s.Quorum != 1 || len(s.Parts) < 2 {
		out, how = x.lowerBest(all)
	} else {
		how = func(x *lowerable) *dossier.Alternatives { return x.lowerParts(all[:ofRegion]) }
		out = how(x)
	}
	if out != nil {
		l.measureStrings(out, how)
	}
	return out
}

// lowerParts makes strings of each part, of which any is a match.
func (x *lowerable) lowerParts(ways []lowering) *dossier.Alternatives {
	out := &dossier.Alternatives{Name: x.s.Name}
	most := max(4, mostStringsOfAll/len(x.s.Parts))
	for i := range x.s.Parts {
		if a, _ := newLowerable(x.l, partOf(x.s, i), x.f, x.samples).lowerBest(ways); a != nil && a.Least <= 1 {
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

// lowerBest tries ways to make strings, and keeps the one that finds most of the samples
// that the signature finds.
func (x *lowerable) lowerBest(ways []lowering) (best *dossier.Alternatives, how lowering) {
	native, top := samplesFound(x.s, x.samples), -1
	for _, lower := range ways {
		a := lower(x)
		if a == nil {
			continue
		}
		found := countStrings(a, native)
		if found > top {
			best, how, top = a, lower, found
		}
		if found >= len(native) {
			break
		}
	}
	return best, how
}

// measureStrings sets the loss of a by strings made in the same way on the folds.
func (l *learner) measureStrings(a *dossier.Alternatives, how lowering) {
	kept, native, found := keptOf(l.trials), 0, 0
	for i := range l.tested {
		t := &l.tested[i]
		if kept >= len(t.made) || t.made[kept] == nil {
			continue
		}
		if b := how(newLowerable(t.in, t.made[kept], t.f, t.samples)); b != nil {
			all := samplesFound(t.made[kept], t.unseen)
			native, found = native+len(all), found+countStrings(b, all)
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
