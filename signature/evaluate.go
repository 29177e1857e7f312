package signature

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"gonum.org/v1/gonum/stat/distuv"

	"dragnet/dossier"
	"dragnet/signature/match"
)

// trial is what one kind did on all folds.
type trial = dossier.Trial

// compareTrials orders results, better ones first: what finds something, with the
// fewest alarms, then what finds most.
func compareTrials(a, b *trial) int {
	if (a.Found == 0) != (b.Found == 0) { // what finds nothing has no alarms
		return b.Found - a.Found
	}
	return cmp.Or(a.Alarms-b.Alarms, b.Found-a.Found)
}

func (l *learner) bestTrial() *trial {
	best := &l.trials[0]
	for i := range l.kinds {
		if compareTrials(&l.trials[i], best) < 0 {
			best = &l.trials[i]
		}
	}
	return best
}

// isGood reports whether nearly all samples were found without an alarm.
func (l *learner) isGood(samples int) bool {
	t := l.bestTrial()
	return t.Alarms == 0 && float64(t.Found) >= 0.98*float64(samples)
}

// crossValidate deals samples and clean traffic into folds, learns every kind from all
// but one, and tests it on that one. Without enough samples nothing is tested.
func (l *learner) crossValidate(ctx context.Context, samples [][]byte) (err error) {
	l.trials = make([]trial, len(l.kinds))
	for i, k := range l.kinds {
		l.trials[i].Kind = k.name
	}
	folds := min(l.o.Folds, len(samples)/2)
	if folds < 2 || len(samples) < fewSamples {
		return nil
	}
	l.folds = folds
	// The order of samples may mean something: deal them at random.
	deal := func(n int) []int {
		fold := make([]int, n)
		for i, k := range rand.New(rand.NewPCG(l.o.Seed, 0x666f6c64)).Perm(n) {
			fold[k] = i % folds
		}
		return fold
	}
	sampleFold, cleanFold := deal(len(samples)), deal(len(l.clean.Sequences))
	for range mostPasses {
		matched, err := l.tryFolds(ctx, samples, sampleFold, cleanFold)
		if err != nil {
			return err
		}
		if len(matched) == 0 || float64(len(matched)+l.hard) > mostHard*float64(len(cleanFold)) {
			break
		}
		for _, i := range matched {
			cleanFold[i] = known
		}
		l.hard += len(matched)
	}
	return nil
}

// Samples' carriers may hold what a clean sequence holds, and a fold that lacks it
// takes it for the worm. Such hard negatives, up to mostHard of all clean sequences, are
// learnt from on all folds, and the test is made again, without them, up to mostPasses
// times in all.
const (
	mostPasses = 3
	mostHard   = 0.01
	known      = -1 // the fold of hard negatives
)

// tryFolds tests every kind on all folds, and tells which clean sequences matched.
func (l *learner) tryFolds(ctx context.Context, samples [][]byte, sampleFold, cleanFold []int) (matched []int, err error) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	l.tested = nil
	for i, k := range l.kinds {
		l.trials[i] = trial{Kind: k.name}
	}
	for f := range l.folds {
		wait.Go(func() {
			with, without := part(samples, sampleFold, f)
			cleanWith, cleanWithout := part(l.clean.Sequences, cleanFold, f)
			try := tested{samples: without, unseen: with, unused: cleanWith}
			found, alarms, e := l.tryFold(ctx, &try, cleanWithout)
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				err = e
				return
			}
			l.tested = append(l.tested, try)
			var of []int // the clean sequences of this fold
			for i, g := range cleanFold {
				if g == f {
					of = append(of, i)
				}
			}
			for i := range l.kinds {
				l.trials[i].Found += found[i]
				l.trials[i].Alarms += len(alarms[i])
				for _, k := range alarms[i] {
					matched = append(matched, of[k])
				}
			}
		})
	}
	wait.Wait()
	slices.Sort(matched)
	return slices.Compact(matched), err
}

// part splits all by whether their fold is f.
func part(all [][]byte, fold []int, f int) (in, out [][]byte) {
	for i, s := range all {
		if fold[i] == f {
			in = append(in, s)
		} else {
			out = append(out, s)
		}
	}
	return in, out
}

// tryFold learns from samples and clean traffic, and counts what is found in others.
func (l *learner) tryFold(ctx context.Context, try *tested, clean [][]byte) (found []int, alarms [][]int, err error) {
	cleaner := l.clean
	if len(clean) > 0 {
		cleaner = NewClean(clean, nil)
	}
	try.in = &learner{o: l.o, clean: cleaner, negatives: l.negatives, narrow: l.narrow, kinds: l.kinds}
	if try.f, err = try.in.find(ctx, try.samples); err != nil {
		return nil, nil, err
	}
	found, alarms = make([]int, len(l.kinds)), make([][]int, len(l.kinds))
	try.made = make([]*dossier.Signature, len(l.kinds))
	for i, k := range l.kinds {
		s, err := k.learn(try.in, try.f)
		if err != nil {
			continue // it finds nothing
		}
		s.Name = "trial"
		try.made[i] = s
		m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
		if err != nil {
			return nil, nil, err
		}
		found[i], alarms[i] = countMatches(m, try.unseen), whichMatch(m, try.unused)
	}
	return found, alarms, nil
}

func countMatches(m *match.Matcher, sequences [][]byte) int { return len(whichMatch(m, sequences)) }

// whichMatch are the indexes of the sequences that match.
func whichMatch(m *match.Matcher, sequences [][]byte) (all []int) {
	for i, b := range sequences {
		if m.Match(b)[0].Match {
			all = append(all, i)
		}
	}
	return all
}

// learnBest makes the best kind of signature of what all samples have in common; of
// equal ones the earlier in the list. One that cannot be made gives way to the next.
func (l *learner) learnBest(f *findings, samples int) (*dossier.Signature, error) {
	order := make([]int, len(l.kinds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareTrials(&l.trials[a], &l.trials[b]) })
	var why error
	for _, i := range order {
		s, err := l.kinds[i].learn(l, f)
		if err != nil {
			l.trials[i].Problem = err.Error()
			why = cmp.Or(why, err)
			continue
		}
		s.Name, s.Learning.Samples = l.o.Name, samples
		for j := range s.Parts { // exactly, where learning took a bound
			s.Parts[j].FalseAlarms = match.NewModel(&s.Parts[j], &s.Background).FalseAlarms(s.Parts[j].Threshold)
		}
		l.trials[i].Kept = true
		return s, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrUnsafe, why)
}

// newEvaluation sums up trials; hard of the clean sequences were not counted.
func newEvaluation(samples, clean [][]byte, folds, hard int, trials []trial) *dossier.Evaluation {
	t := &trials[keptOf(trials)]
	e := &dossier.Evaluation{Folds: folds, Samples: len(samples), Found: t.Found, CleanSequences: len(clean), Alarms: t.Alarms, HardNegatives: hard, CleanDigest: digestOf(clean)}
	e.Missed = binomialInterval(len(samples)-t.Found, len(samples))
	e.FalseAlarms = binomialInterval(t.Alarms, len(clean)-hard)
	for _, s := range clean {
		e.CleanBytes += int64(len(s))
	}
	e.Tried = slices.Clone(trials)
	return e
}

// keptOf is which of some trials is of the kind that is kept.
func keptOf(trials []trial) int {
	return max(0, slices.IndexFunc(trials, func(t trial) bool { return t.Kept }))
}

// digestOf identifies a set of sequences.
func digestOf(all [][]byte) string {
	if len(all) == 0 {
		return ""
	}
	var sums [][]byte
	for _, s := range all {
		sum := sha256.Sum256(s)
		sums = append(sums, sum[:])
	}
	slices.SortFunc(sums, bytes.Compare)
	sum := sha256.Sum256(slices.Concat(sums...))
	return hex.EncodeToString(sum[:])
}

// binomialInterval is where the share lies of which k of n were seen, with a
// confidence of 95 % (Clopper and Pearson 1934).
func binomialInterval(k, n int) dossier.Interval {
	i := dossier.Interval{Low: 0, High: 1}
	if k > 0 {
		i.Low = distuv.Beta{Alpha: float64(k), Beta: float64(n - k + 1)}.Quantile(0.025)
	}
	if k < n {
		i.High = distuv.Beta{Alpha: float64(k + 1), Beta: float64(n - k)}.Quantile(0.975)
	}
	return i
}
