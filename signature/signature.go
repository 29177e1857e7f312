// Package signature makes signature files' content from samples: it joins
// learning (pads, family), matching and calibration, which its folders hold.
package signature

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"dragnet/dossier"
	"dragnet/internal/hint"
	"dragnet/signature/pads"
)

// Clean is the model of normal traffic.
type Clean struct {
	Background *dossier.Background
	// Strings is nil if no clean traffic was given.
	Strings *pads.Grams
	Bytes   int64
	// Sequences are the traffic itself, against which thresholds are set.
	Sequences [][]byte
	// joined are short sequences one after the other: a sample may hold such bytes
	// within others, where a window has room that the sequence alone has not.
	joined []byte
}

// shortSequence is up to how many bytes a clean sequence is joined with others, and
// mostJoined bounds these.
const (
	shortSequence = 256
	mostJoined    = 4 << 20
)

// NewClean learns the background and the strings from clean sequences; without
// any, only the background from the samples, whose carriers are normal.
func NewClean(clean, samples [][]byte) Clean {
	c := Clean{Sequences: clean}
	var counts [256]uint64
	from := clean
	if len(clean) > 0 {
		c.Strings = pads.NewGrams()
	} else {
		from = samples
	}
	for _, s := range from {
		for _, b := range s {
			counts[b]++
		}
		if len(s) < shortSequence && len(c.joined) < mostJoined {
			c.joined = append(c.joined, s...)
		}
		if c.Strings != nil {
			c.Strings.Add(s)
			c.Bytes += int64(len(s))
		}
	}
	c.Background = dossier.NewBackground(&counts)
	return c
}

// Options of Learn. The zero value of a field means its default.
type Options struct {
	Name string
	pads.Options
	// Parts above 1 learns an MPADS of up to that many parts, all of which must match.
	Parts int
	// Auto starts at Width and shrinks it until the positions are informative.
	Auto bool
	// FalseAlarms is the most that a part may give per 10^9 bytes (0.001).
	FalseAlarms float64
	// Folds is how many parts samples and clean traffic are dealt into to test what is
	// learnt (4); below 2 nothing is tested.
	Folds int
	// LeastFound is the share of the samples that must be found when they were not
	// learnt from (0.2): samples may hold other worms, or none.
	LeastFound float64
	// MostAlarms is the share of clean sequences that may match (0).
	MostAlarms float64
}

func (o Options) withDefaults() Options {
	o.Width = cmp.Or(o.Width, 64)
	o.FalseAlarms = cmp.Or(o.FalseAlarms, 0.001)
	o.Folds = cmp.Or(o.Folds, 4)
	o.LeastFound = cmp.Or(o.LeastFound, 0.2)
	o.Restarts = cmp.Or(o.Restarts, 2)
	return o
}

// ErrUnsafe says that no signature of the samples finds enough of those that it was
// not learnt from without matching clean traffic.
var ErrUnsafe = errors.New("no safe signature can be made from these samples")

// Learn learns a signature, sets its thresholds between clean traffic and samples,
// and tests it on samples and clean traffic that it did not learn from. Equal samples
// count once: a copy carries no information about variation. A single sample gives an
// exact signature, usable from the first copy. The error is ErrUnsafe, with the
// reason, if there is no signature that could be used.
func Learn(ctx context.Context, samples [][]byte, clean Clean, o Options) (*dossier.Signature, error) {
	samples = dropEqual(samples)
	o = o.withDefaults()
	if len(samples) == 0 {
		return nil, hint.Add(errors.New("nothing to learn from: all samples are empty"), "name files, or folders of them, that hold one captured attack each")
	}
	if len(samples) == 1 {
		return learnExact(samples[0], clean, o)
	}
	best, err := searchWidths(ctx, samples, clean, o)
	if err != nil {
		return nil, err
	}
	f, err := best.find(ctx, samples)
	if err != nil {
		return nil, err
	}
	s, err := best.learnBest(f, len(samples))
	if err != nil {
		return nil, err
	}
	if best.folds > 0 {
		s.Evaluation = newEvaluation(samples, clean.Sequences, best.folds, best.hard, best.trials)
		if err := o.CheckSafe(s.Evaluation); err != nil {
			return nil, err
		}
	}
	s.Strings = best.lowerSafely(ctx, s, f, samples)
	return s, errors.Join(ctx.Err(), s.Check())
}

// leastWidth is the width below which no narrower distributions are tried.
const leastWidth = 16

// searchWidths tries all kinds of signature and, while none of them finds nearly all
// held-out samples without an alarm, distributions of half the width.
func searchWidths(ctx context.Context, samples [][]byte, clean Clean, o Options) (*learner, error) {
	l := &learner{o: o, clean: clean, negatives: encodedNoise()}
	l.kinds = l.allKinds(len(samples))
	l.narrow = len(l.kinds) == 1
	if err := l.crossValidate(ctx, samples); err != nil {
		return nil, err
	}
	best, earlier := l, l.trials
	for w := o.Width / 2; l.folds > 0 && w >= leastWidth && o.Parts <= 1 && !o.Published && !best.isGood(len(samples)); w /= 2 {
		narrow := &learner{o: o, clean: clean, negatives: l.negatives, narrow: true}
		narrow.o.Width = w
		narrow.kinds = []kind{{fmt.Sprintf("%s, %d positions", kindDistributions, w), (*learner).anyDistribution}}
		if err := narrow.crossValidate(ctx, samples); err != nil {
			return nil, err
		}
		if compareTrials(narrow.bestTrial(), best.bestTrial()) < 0 {
			best = narrow
		}
		earlier = append(earlier, narrow.trials...)
	}
	if best != l { // the others are reported too
		best.trials = append(best.trials, slices.DeleteFunc(slices.Clone(earlier), func(t trial) bool { return t.Kind == best.trials[0].Kind })...)
	} else {
		best.trials = earlier
	}
	return best, nil
}

// learnExact makes a signature of one copy, tested on clean traffic only, and leaves it
// to the caller whether that is safe (CheckSafe).
func learnExact(sample []byte, clean Clean, o Options) (*dossier.Signature, error) {
	if len(sample) > dossier.MaxExact {
		return nil, fmt.Errorf("one sample of %d bytes: an exact signature takes at most %d; add variants", len(sample), dossier.MaxExact)
	}
	s := &dossier.Signature{Name: o.Name, Background: *clean.Background, Exact: []dossier.Exact{{Bytes: sample}},
		Learning: dossier.Learning{Method: "exact", Samples: 1, Seed: o.Seed, CleanBytes: clean.Bytes}}
	if len(clean.Sequences) > 0 {
		s.Evaluation = newEvaluation(nil, clean.Sequences, 0, 0, []trial{{Kind: "exact", Alarms: countWith(clean.Sequences, sample), Kept: true}})
	}
	return s, s.Check()
}

// CheckSafe is ErrUnsafe, with the reason, if too few samples were found that were held
// out, or too many clean sequences matched.
func (o Options) CheckSafe(e *dossier.Evaluation) error {
	o = o.withDefaults()
	if e == nil {
		return nil
	}
	if share := float64(e.Found) / float64(max(1, e.Samples)); e.Samples > 0 && share < o.LeastFound {
		return fmt.Errorf("%w: of %d samples that were held out, %d were found, which is less than %.0f %%; the samples have too little in common that clean traffic has not",
			ErrUnsafe, e.Samples, e.Found, 100*o.LeastFound)
	}
	if e.CleanSequences > 0 && float64(e.Alarms)/float64(e.CleanSequences) > o.MostAlarms {
		return fmt.Errorf("%w: of %d clean sequences, %d matched; what the samples have in common, normal traffic has too",
			ErrUnsafe, e.CleanSequences, e.Alarms)
	}
	return nil
}

func dropEqual(samples [][]byte) [][]byte {
	seen := map[string]bool{}
	var out [][]byte
	for _, s := range samples {
		if len(s) > 0 && !seen[string(s)] {
			seen[string(s)] = true
			out = append(out, s)
		}
	}
	return out
}
