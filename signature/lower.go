package signature

import (
	"dragnet/dossier"
	"dragnet/signature/tokens"
)

// mostLoss is the share of windows from which on strings of another kind are exported
// in place of those of a distribution.
const mostLoss = 0.01

// lowerSafely makes the strings that exports write, without those that clean traffic
// holds; nil if none is left. Where they miss much, those of another kind of signature
// that did as well on the folds are better.
func (l *learner) lowerSafely(s *dossier.Signature, f *findings) *dossier.Alternatives {
	o := tokens.Options{FalseAlarms: l.o.FalseAlarms, Seed: l.o.Seed, Avoid: l.quiet()}
	best, err := tokens.Lower(s, o)
	if err == nil && (best.Loss <= mostLoss || len(s.Parts) > 1) {
		return best // those of several parts are of disjoint evidence
	}
	kept := &l.trials[keptOf(l.trials)]
	for i, k := range l.kinds {
		if k.name != kindStrings && k.name != kindTokens || l.trials[i].Found < kept.Found || l.trials[i].Alarms > kept.Alarms {
			continue
		}
		other, err := k.learn(l, f)
		if err != nil {
			continue
		}
		other.Name = s.Name
		if a, err := tokens.Lower(other, o); err == nil && (best == nil || a.Loss < best.Loss) {
			best = a
		}
	}
	return best
}
