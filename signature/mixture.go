package signature

import (
	"context"
	"fmt"

	"dragnet/dossier"
	"dragnet/signature/family"
	"dragnet/signature/match"
)

// LearnMixture learns the families of samples by the mixture of chapter 4, and tests
// their signatures on the clean traffic: while any of it matches, blocks of half the
// width are tried. The error is ErrUnsafe if none is safe.
func LearnMixture(ctx context.Context, samples [][]byte, clean Clean, o Options) (*family.Model, error) {
	o = o.withDefaults()
	least := -1
	for w := min(o.Width, 64); w >= leastWidth || least < 0; w /= 2 {
		m, err := family.Learn(ctx, o.Name, samples, clean.Background, family.MixtureOptions{Width: w, Normal: clean.Strings}, 3, o.Seed)
		if err != nil && least >= 0 {
			break // no narrower block
		}
		if err != nil {
			return nil, err
		}
		alarms := 0
		for _, s := range m.Signatures {
			matcher, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
			if err != nil {
				return nil, err
			}
			n := countMatches(matcher, clean.Sequences)
			alarms += n
			if len(clean.Sequences) > 0 {
				s.Evaluation = newEvaluation(nil, clean.Sequences, 0, 0, []trial{{Kind: "mixture", Alarms: n, Kept: true}})
			}
		}
		if len(clean.Sequences) == 0 || float64(alarms) <= o.MostAlarms*float64(len(clean.Sequences)) {
			return m, nil
		}
		if least < 0 || alarms < least {
			least = alarms
		}
	}
	return nil, fmt.Errorf("%w: the blocks of a mixture match at least %d of the clean sequences, at any width; the other methods set thresholds by clean traffic", ErrUnsafe, least)
}
