package signature

import (
	"slices"

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

// lowering is a way to make strings for exports of a signature of the kept kind.
type lowering func(l *learner, s *dossier.Signature, f *findings, samples [][]byte) *dossier.Alternatives

// ofRegion is how many of the lowerings are of a region alone.
const ofRegion = 3

// lowerings are in order of preference: more strings of which any is a match find more.
func (l *learner) lowerings() []lowering {
	chain := func(l *learner, s *dossier.Signature, _ *findings, samples [][]byte) *dossier.Alternatives {
		return l.chainOf(s, samples)
	}
	both := func(l *learner, s *dossier.Signature, f *findings, samples [][]byte) *dossier.Alternatives {
		a, b := lowerPositions(l, s, f, samples), l.chainOf(s, samples)
		if a == nil || b == nil || a.Least > 1 {
			return nil
		}
		a.Contents = slices.Concat(b.Contents, a.Contents)
		return a
	}
	all := []lowering{both, chain, lowerPositions}
	for i, k := range l.kinds {
		if k.name == kindStrings || k.name == kindTokens {
			all = append(all, func(l *learner, s *dossier.Signature, f *findings, samples [][]byte) *dossier.Alternatives {
				other, err := l.kinds[i].learn(l, f)
				if err != nil {
					return nil
				}
				other.Name = s.Name
				return lowerPositions(l, other, f, samples)
			})
		}
	}
	return all
}

// lowerPositions takes the likeliest bytes of each region.
func lowerPositions(l *learner, s *dossier.Signature, _ *findings, _ [][]byte) *dossier.Alternatives {
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
	all := l.lowerings()
	if s.Quorum != 1 || len(s.Parts) < 2 {
		a, how := l.lowerBest(s, f, samples, all)
		if a != nil {
			l.measureStrings(a, how)
		}
		return a
	}
	lower := func(l *learner, s *dossier.Signature, f *findings, samples [][]byte) *dossier.Alternatives {
		out := &dossier.Alternatives{Name: s.Name}
		most := max(4, mostStringsOfAll/len(s.Parts))
		for i := range s.Parts {
			if a, _ := l.lowerBest(partOf(s, i), f, samples, all[:ofRegion]); a != nil && a.Least <= 1 {
				out.Contents = append(out.Contents, a.Contents[:min(len(a.Contents), most)]...)
			}
		}
		if len(out.Contents) == 0 {
			return nil
		}
		return out
	}
	out := lower(l, s, f, samples)
	if out != nil {
		l.measureStrings(out, lower)
	}
	return out
}

// partOf is s with part i alone.
func partOf(s *dossier.Signature, i int) *dossier.Signature {
	one := *s
	one.Parts, one.Quorum, one.Exact, one.Family = s.Parts[i:i+1], 0, nil, nil
	return &one
}

// lowerBest tries ways to make strings of s, which was learnt from samples, and keeps the
// one that finds most of the samples that s finds.
func (l *learner) lowerBest(s *dossier.Signature, f *findings, samples [][]byte, ways []lowering) (best *dossier.Alternatives, how lowering) {
	top := -1
	for _, lower := range ways {
		a := lower(l, s, f, samples)
		if a == nil {
			continue
		}
		native, found := countStrings(s, a, samples)
		if found > top {
			best, how, top = a, lower, found
		}
		if found >= native {
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
		if b := how(t.in, t.made[kept], t.f, t.samples); b != nil {
			n, m := countStrings(t.made[kept], b, t.unseen)
			native, found = native+n, found+m
		}
	}
	if native > 0 {
		a.Tested, a.Loss = native, float64(native-found)/float64(native)
	}
}

// countStrings counts the samples that s finds, and those of them that its strings a do.
func countStrings(s *dossier.Signature, a *dossier.Alternatives, samples [][]byte) (native, found int) {
	m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return 0, 0
	}
	var all []*tokens.Finder
	for _, c := range a.Contents {
		all = append(all, tokens.NewFinder(c))
	}
	for _, b := range samples {
		if !m.Match(b)[0].Match {
			continue
		}
		native++
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
	return native, found
}
