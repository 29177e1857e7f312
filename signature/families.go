package signature

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/pads"
)

// LearnFamilies is Learn, but one signature for each of two worms if the samples are
// of two that share nothing: each signature then finds next to none of the other's
// samples. Their names end in -1 and -2.
func LearnFamilies(ctx context.Context, samples [][]byte, clean Clean, o Options) ([]*dossier.Signature, error) {
	o = o.withDefaults()
	whole, err := Learn(ctx, samples, clean, o)
	if err != nil && !errors.Is(err, ErrUnsafe) {
		return nil, err
	}
	distinct := dropEqual(samples)
	groups, ok, e := splitInTwo(ctx, distinct, clean, o)
	if e != nil {
		return nil, e
	}
	if !ok {
		return single(whole, err)
	}
	var all []*dossier.Signature
	found := 0
	for k, g := range groups {
		part := o
		part.Name = fmt.Sprintf("%s-%d", o.Name, k+1)
		s, err := Learn(ctx, g, clean, part)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return single(whole, err)
		}
		all, found = append(all, s), found+s.Evaluation.Found
	}
	if whole != nil && found < whole.Evaluation.Found*49/50 {
		return single(whole, nil)
	}
	return all, nil
}

func single(s *dossier.Signature, err error) ([]*dossier.Signature, error) {
	if s == nil {
		return nil, err
	}
	return []*dossier.Signature{s}, nil
}

// leastFamily is how many samples it takes to learn, and test, a family.
const leastFamily = 16

// splitInTwo splits samples by what the most informative region of them has; ok is
// false if they are of one worm as far as that shows.
func splitInTwo(ctx context.Context, samples [][]byte, clean Clean, o Options) (groups [2][][]byte, ok bool, err error) {
	if len(samples) < 2*leastFamily || o.Parts > 1 || o.Published || o.Folds < 2 || len(clean.Sequences) == 0 {
		return groups, false, nil
	}
	search := o.Options
	search.Normal, search.Method = clean.Strings, pads.EM
	a, err := pads.Learn(ctx, samples, clean.Background, search)
	if err != nil {
		return groups, false, ctx.Err()
	}
	group := clusterWindows(samples, a.Starts, len(a.Block.Columns))
	absent := len(samples)-a.Present >= leastFamily // of another worm, or of none
	for i, g := range group {
		switch {
		case absent && g < 0:
			groups[1] = append(groups[1], samples[i])
		case absent:
			groups[0] = append(groups[0], samples[i])
		case g >= 0:
			groups[g] = append(groups[g], samples[i])
		}
	}
	for range 3 {
		if min(len(groups[0]), len(groups[1])) < leastFamily {
			return groups, false, nil
		}
		next, both, err := reassign(ctx, groups, clean, o)
		if err != nil {
			return groups, false, err
		}
		// A signature of one must not find the other's samples: those of one worm may
		// differ as much in a region, where junk moves it.
		if n := len(next[0]) + len(next[1]); both > n/10 {
			return groups, false, nil
		}
		ok = len(next[0]) == len(groups[0]) && len(next[1]) == len(groups[1])
		if groups = next; ok {
			break
		}
	}
	return groups, min(len(groups[0]), len(groups[1])) >= leastFamily, nil
}

// reassign learns the clearest region of each group, and gives each sample to the group
// whose region it has; both counts those that have both, which stay in the first.
func reassign(ctx context.Context, groups [2][][]byte, clean Clean, o Options) (next [2][][]byte, both int, err error) {
	var has [2]*match.Matcher
	for g := range groups {
		l := &learner{o: o, clean: clean, negatives: encodedNoise(), narrow: true}
		f, err := l.find(ctx, groups[g])
		if err != nil {
			return next, 0, err
		}
		if len(f.distributions) == 0 {
			return next, 0, nil
		}
		s := l.newSignature(l.method(), f.distributions[:1])
		s.Name = "family"
		if has[g], err = match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()}); err != nil {
			return next, 0, err
		}
	}
	for _, s := range slices.Concat(groups[0], groups[1]) {
		switch in0, in1 := has[0].Match(s)[0].Match, has[1].Match(s)[0].Match; {
		case in0:
			next[0] = append(next[0], s)
			if in1 {
				both++
			}
		case in1:
			next[1] = append(next[1], s)
		}
	}
	return next, both, nil
}

// clusterWindows divides windows into two groups by maximum likelihood: each byte of a
// window is drawn from its group's distribution at that position. The group is -1 for
// a sample without a window.
func clusterWindows(samples [][]byte, starts []int, width int) []int {
	group := make([]int, len(samples))
	var windows [][]byte
	var of []int
	for i, start := range starts {
		group[i] = -1
		if start != pads.Absent {
			windows, of = append(windows, samples[i][start:start+width]), append(of, i)
		}
	}
	if len(windows) < 2 {
		return group
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(windows))))
	best, top := []int(nil), math.Inf(-1)
	for range 32 { // of which the likeliest counts
		first, second := rng.IntN(len(windows)), rng.IntN(len(windows))
		try := make([]int, len(windows))
		for k, w := range windows {
			if countDifferent(w, windows[second]) < countDifferent(w, windows[first]) {
				try[k] = 1
			}
		}
		if score := improveGroups(windows, try); score > top {
			best, top = try, score
		}
	}
	for k, g := range best {
		group[of[k]] = g
	}
	return group
}

// improveGroups moves each window to the group that explains it better, until none
// moves, and returns the log likelihood of all, each by the others of its group.
func improveGroups(windows [][]byte, group []int) (total float64) {
	width := len(windows[0])
	for range 20 {
		counts := [2][][256]float64{make([][256]float64, width), make([][256]float64, width)}
		var n [2]float64
		for k, w := range windows {
			n[group[k]]++
			for p, x := range w {
				counts[group[k]][p][x]++
			}
		}
		changed := false
		total = 0
		for k, w := range windows {
			var score [2]float64
			for c := range score {
				own := 0.0
				if c == group[k] {
					own = 1 // a window must not vote for itself
				}
				for p, x := range w {
					score[c] += math.Log((counts[c][p][x] - own + 0.1) / (n[c] - own + 25.6))
				}
			}
			to := 0
			if score[1] > score[0] {
				to = 1
			}
			total += score[to]
			changed = changed || to != group[k]
			group[k] = to
		}
		if !changed {
			break
		}
	}
	return total
}

func countDifferent(a, b []byte) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}
