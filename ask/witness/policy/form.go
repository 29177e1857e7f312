package policy

import (
	"slices"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// judgeForm looks at the question alone.
func (r *Rules) judgeForm(now time.Time, q *dossier.Question, published map[string]string) Ruling {
	switch {
	case q.Hash.Kind != key.Linear:
		return refuse(dossier.NotPermitted, "hash %s: over the network only linear keys are answered, whose ambiguity does not depend on the tuple", q.Hash)
	case q.Mode == dossier.Paper && !r.PaperMode:
		return refuse(dossier.NotPermitted, "paper mode is off")
	case len(q.Branches) == 0 && len(q.Clues) > 1 && !r.SingleClues:
		return refuse(dossier.NotPermitted, "the detective would join, and single_clues is off")
	case r.MaxWindow > 0 && !r.permitsWindow(q.Window):
		return refuse(dossier.NotPermitted, "the window is longer than %v", r.MaxWindow)
	case Addresses(q) > r.PerOrganisation.Addresses:
		return refuse(dossier.NotPermitted, "it opens %d addresses, more than an organisation may have opened in %v", Addresses(q), r.BudgetWithin)
	case !r.isFresh(now, q.Epoch, published):
		return refuse(dossier.NotPermitted, "epoch %q is not that of a day of the last %d", q.Epoch, r.EpochDays)
	}
	for i := range q.Clues {
		if v := r.judgeClue(q, &q.Clues[i]); v.Refusal != dossier.Answered {
			return v
		}
	}
	return Ruling{}
}

func (r *Rules) judgeClue(q *dossier.Question, c *dossier.AskedClue) Ruling {
	if !r.permitsMask(c.Mask) {
		return refuse(dossier.NotPermitted, "mask %s is not among policy.masks", c.Mask)
	}
	// A salt chosen by the detective would let two questions be intersected, and keep
	// detectives who ask the same from being counted together.
	if c.Salt != key.OneShotSalt(c.Mask, q.Epoch) {
		return refuse(dossier.NotPermitted, "the salt of mask %s is not that of epoch %s", c.Mask, q.Epoch)
	}
	if n := Candidates(q.Hash, c.Mask); n < r.Floor {
		return refuse(dossier.TooSpecific, "the key of mask %s leaves %.0f candidates, fewer than %.0f", c.Mask, n, r.Floor)
	}
	return Ruling{}
}

// Candidates is the number of tuples that a key of the mask leaves to a reader
// who guesses the service, where an address is fixed (flow/key: Meter).
func Candidates(h key.Hash, m key.Mask) float64 {
	var reader key.Reader
	if m.Family != key.NoAddr {
		reader.Service = &key.Tuple{}
	}
	return key.NewMeter(h).Candidates(reader, m, 0)
}

// shortestPrefix is how far a mask that is listed permits shorter prefixes.
func shortestPrefix(f key.AddressFamily) uint8 {
	if f == key.IPv6 {
		return 48
	}
	return 24
}

func (r *Rules) permitsMask(m key.Mask) bool {
	if len(r.Masks) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Masks, func(text string) bool {
		listed, err := key.ParseMask(text)
		if err != nil || m.Prefix > listed.Prefix || m.Prefix < min(listed.Prefix, shortestPrefix(m.Family)) {
			return false
		}
		listed.Prefix = m.Prefix
		return listed == m
	})
}

func (r *Rules) permitsWindow(w flow.Window) bool {
	return w.From != 0 && w.To != 0 && w.To-w.From <= flow.Time(r.MaxWindow)
}

// isFresh accepts the epoch of a day from EpochDays ago to tomorrow: clocks
// differ. Where the clearinghouse publishes epochs, "2026-11-22.x7k2...", the
// published one is the day's only one; a detective that chose its own could
// intersect the false matches of two.
func (r *Rules) isFresh(now time.Time, epoch string, published map[string]string) bool {
	name, _, _ := strings.Cut(epoch, ".")
	day, err := time.Parse(time.DateOnly, name)
	if err != nil || published == nil && epoch != name || published != nil && published[name] != epoch {
		return false
	}
	today := now.UTC().Truncate(24 * time.Hour)
	return !day.Before(today.AddDate(0, 0, -r.EpochDays)) && !day.After(today.AddDate(0, 0, 1))
}

// Keys counts the keys of a question.
func Keys(q *dossier.Question) (n int) {
	for i := range q.Clues {
		n += len(q.Clues[i].Keys)
	}
	return n
}
