package clearinghouse

import (
	"crypto/rand"
	"math"
	"strings"
	"time"

	"dragnet/clearinghouse/merge"
	"dragnet/dossier"
	"dragnet/flow"
)

// scale are the numbers that are published: a count is rounded down to one of
// them, so that one more source seldom shows.
var scale = [...]int{1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000}

func atLeast(n int) int {
	out := 0
	for _, s := range scale {
		if n >= s {
			out = s
		}
	}
	return out
}

// roundTime rounds down to the grain.
func roundTime(t flow.Time, grain time.Duration) flow.Time {
	return t - t%flow.Time(grain)
}

// confidence is derived from the published numbers alone, 0 to 99: each source
// after the first halves the doubt, and so do four witnesses.
func confidence(sources, witnesses int) int {
	doubt := math.Exp2(-float64(sources-1) - float64(witnesses)/4)
	return min(int(100*(1-doubt)), 99)
}

// randomName has 80 bits, in letters and digits. A name that followed from a
// pattern would let anybody test a guess of an undisclosed one.
func randomName() string { return strings.ToLower(rand.Text()[:16]) }

// newEntry is what is published of a host: who is behind it stays behind.
func (h *Core) newEntry(group string, m *merge.AgreedHost, batch flow.Time) dossier.Entry {
	sources, witnesses := atLeast(m.Sources), atLeast(m.Witnesses)
	grain := h.config.Grain
	return dossier.Entry{
		Version: dossier.EntryVersion, Host: m.Addr, Group: group, First: roundTime(m.First, grain), Last: roundTime(m.Last, grain),
		Sources: sources, Witnesses: witnesses, Confidence: confidence(sources, witnesses),
		Listed: batch, Until: roundTime(m.Until, grain) + flow.Time(grain),
	}
}
