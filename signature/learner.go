package signature

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/pads"
)

// learner makes signatures of several kinds from samples.
type learner struct {
	o         Options
	clean     Clean
	negatives [][]byte // see encodedNoise
	narrow    bool     // learns distributions only
	kinds     []kind
	// trials are the results of kinds, in their order, and of what else was tried, from
	// as many folds; none are results where folds is 0.
	trials []trial
	folds  int
	tested []tested
	hard   int // clean sequences that are on no fold, see mostHard
}

// kind is a way to make a signature.
type kind struct {
	name  string
	learn func(l *learner, f *findings) (*dossier.Signature, error)
}

// findings are what samples have in common, from which kinds choose.
type findings struct {
	distributions, strings, tokens []dossier.Part
	err                            error // why there are no distributions
}

// Names of the kinds.
const (
	kindStrings       = "strings"
	kindTokens        = "all tokens"
	kindDistributions = "distributions"
	kindClearest      = "clearest distribution"
	kindBoth          = "strings or distributions"
	kindParts         = "all parts"
)

// allKinds lists the ways to try, the preferred ones first: where two do as well, the
// one with more disjoint evidence is better, since a worm may drop a part.
func (l *learner) allKinds(samples int) []kind {
	if l.o.Parts > 1 || l.o.Published {
		return []kind{{kindParts, (*learner).allParts}}
	}
	if len(l.clean.Sequences) == 0 { // what all carriers have would be a constant string
		return []kind{{kindDistributions, (*learner).anyDistribution}}
	}
	if samples < fewSamples {
		return []kind{{kindDistributions, (*learner).anyDistribution}, {kindTokens, (*learner).allTokens}}
	}
	return []kind{{kindBoth, (*learner).anyOfBoth}, {kindStrings, (*learner).anyString}, {kindDistributions, (*learner).anyDistribution},
		{kindClearest, (*learner).clearestDistribution}, {kindTokens, (*learner).allTokens}}
}

// errNothing says that samples have nothing in common of a kind.
var errNothing = errors.New("the samples have nothing of this kind in common that clean traffic has not")

func (l *learner) anyOf(method string, parts []dossier.Part) (*dossier.Signature, error) {
	if len(parts) == 0 {
		return nil, errNothing
	}
	s := l.newSignature(method, parts)
	if len(parts) > 1 {
		s.Quorum = 1
	}
	return s, nil
}

func (l *learner) newSignature(method string, parts []dossier.Part) *dossier.Signature {
	return &dossier.Signature{Name: l.o.Name, Background: *l.clean.Background, Parts: parts,
		Learning: dossier.Learning{Method: method, Seed: l.o.Seed, CleanBytes: l.clean.Bytes}}
}

// method is the name of how distributions are learnt.
func (l *learner) method() string {
	if l.o.Method == "" {
		return string(pads.Gibbs)
	}
	return string(l.o.Method)
}

func (l *learner) anyOfBoth(f *findings) (*dossier.Signature, error) {
	if len(f.strings) == 0 || len(f.distributions) == 0 {
		return nil, errNothing
	}
	return l.anyOf(l.method(), slices.Concat(f.strings, f.distributions))
}

func (l *learner) anyString(f *findings) (*dossier.Signature, error) {
	return l.anyOf("strings", f.strings)
}

func (l *learner) anyDistribution(f *findings) (*dossier.Signature, error) {
	if len(f.distributions) == 0 && f.err != nil {
		return nil, f.err
	}
	return l.anyOf(l.method(), f.distributions)
}

// clearestDistribution leaves out regions after the first, which may be of carriers.
func (l *learner) clearestDistribution(f *findings) (*dossier.Signature, error) {
	if len(f.distributions) == 0 {
		return l.anyDistribution(f)
	}
	return l.anyOf(l.method(), f.distributions[:1])
}

func (l *learner) allTokens(f *findings) (*dossier.Signature, error) {
	if len(f.tokens) == 0 {
		return nil, errNothing
	}
	return l.newSignature("strings", f.tokens), nil
}

func (l *learner) allParts(f *findings) (*dossier.Signature, error) {
	if len(f.distributions) == 0 {
		return l.anyDistribution(f)
	}
	return l.newSignature(l.method(), f.distributions), nil
}

// find looks for all that samples have in common.
func (l *learner) find(ctx context.Context, samples [][]byte) (*findings, error) {
	f := &findings{}
	f.distributions, f.err = l.findDistributions(ctx, samples)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !l.narrow {
		f.strings = l.findStrings(ctx, samples)
		f.tokens = l.findTokens(ctx, samples)
	}
	return f, ctx.Err()
}

// mostRegions bounds the disjoint regions of which any one is a match, and mostTries
// those that are looked at. leastGap, in nats, is how clearly one must differ from
// clean traffic.
const (
	mostRegions = 3
	mostTries   = 4
	leastGap    = 20
)

// findDistributions learns disjoint regions, each accepted if samples exceed its
// threshold when they are left out of it.
func (l *learner) findDistributions(ctx context.Context, samples [][]byte) (parts []dossier.Part, err error) {
	o, most := l.o.Options, mostRegions
	o.Normal = l.clean.Strings
	if l.o.Parts > 1 {
		most = l.o.Parts
	} else if l.o.Published || len(l.clean.Sequences) == 0 {
		most = 1
	}
	least, gap, tries := max(2, len(samples)/10), float64(leastGap), 0
	if l.o.Parts > 1 {
		least = len(samples) * 9 / 10 // all parts must match
	}
	take := func(a *pads.Alignment) bool {
		tries++
		p, s := l.makePart(a, samples)
		if s.found >= least && s.gap >= gap {
			// What few samples share, or far less clearly, is of their carriers.
			parts, least, gap = append(parts, p), max(least, s.found/5), max(gap, s.gap/4)
			return len(parts) < most && tries < mostTries
		}
		if len(parts) == 0 && err == nil {
			err = fmt.Errorf("%d of %d samples score above clean traffic when they are left out", s.found, len(samples))
		}
		return len(parts) == 0 && tries < mostTries
	}
	if l.o.Auto {
		a, err := pads.LearnWidth(ctx, samples, l.clean.Background, o, min(16, o.Width))
		if err != nil {
			return nil, err
		}
		take(a)
		return parts, err
	}
	if e := pads.LearnRegions(ctx, samples, l.clean.Background, o, take); e != nil {
		return nil, e
	}
	return parts, err
}

// makePart makes a part of a region. A sample that the others do not support is left
// out of it: what it alone has, from its carrier, would match by itself.
func (l *learner) makePart(a *pads.Alignment, samples [][]byte) (dossier.Part, separation) {
	p := dossier.Part{Blocks: []dossier.Block{a.Block}}
	unseen, starts := l.unseenScores(a, samples)
	floor, supported := l.floorOf(&p), a.Present
	lonely := func(i int) bool { return !(unseen[i] > floor) || starts[i] != a.Starts[i] }
	for i, start := range a.Starts {
		if start != pads.Absent && lonely(i) {
			supported--
		}
	}
	if supported >= 2 && supported < a.Present {
		a.Drop(samples, lonely)
		unseen, _ = l.unseenScores(a, samples)
		floor = l.floorOf(&p)
	}
	return p, setThreshold(&p, floor, unseen)
}

// fewSamples is up to when leaving one sample out leaves too little to judge it by,
// and held is what share of its score a sample then counts that took part itself.
const (
	fewSamples = 8
	held       = 0.7
)

// unseenScores are what samples would score that did not take part in learning, and
// where.
func (l *learner) unseenScores(a *pads.Alignment, samples [][]byte) (scores []float64, starts []int) {
	if len(samples) >= fewSamples {
		return a.UnseenScores(samples, l.clean.Background)
	}
	scores = slices.Clone(a.Scores)
	for i := range scores {
		scores[i] *= held // NaN, where absent, exceeds nothing
	}
	return scores, a.Starts
}
