package signature

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/baseline"
	"dragnet/signature/match"
)

// Bounds of constant strings.
const (
	leastString = 8
	mostString  = 64
	mostStrings = 2
	mostTokens  = 12
	// leastSurprise is how unlikely, in nats, a string must be in clean traffic and in
	// uniform bytes to be a match alone.
	leastSurprise = 45
	// Tokens may be anywhere in a sequence: each counts only by what it is rarer than
	// once in a megabyte (nats), and all together need leastTogether.
	perMegabyte, leastTogether = 13.8, 20
)

// findStrings finds constant strings that at least half of the samples share and no
// clean traffic has, the most surprising ones first, each from separate bytes.
func (l *learner) findStrings(ctx context.Context, samples [][]byte) (parts []dossier.Part) {
	least := max(2, (len(samples)+1)/2)
	some := samples[:min(4, len(samples))]
	counted := countGrams(some, samples)
	var all [][]byte
	for _, s := range some {
		if ctx.Err() != nil {
			return nil
		}
		all = append(all, l.runsOf(s, counted, least)...)
	}
	slices.SortStableFunc(all, func(a, b []byte) int {
		return cmp.Or(cmp.Compare(l.surprise(b), l.surprise(a)), bytes.Compare(a, b))
	})
	var kept [][]byte
	for _, s := range all {
		if ctx.Err() != nil || len(kept) == mostStrings || l.surprise(s) < leastSurprise {
			break
		}
		if countWith(samples, s) < least || l.isClean(s) || slices.ContainsFunc(kept, func(k []byte) bool { return shareBytes(k, s) }) {
			continue
		}
		kept, parts = append(kept, s), append(parts, l.constantPart(s))
		parts[len(parts)-1].Samples = countWith(samples, s)
	}
	return parts
}

// support is in how many samples a string is, and the last of these, from 1.
type support struct{ samples, last int32 }

// countGrams counts in how many samples each string of leastString bytes of some is.
func countGrams(some, samples [][]byte) map[uint64]support {
	count := map[uint64]support{}
	for _, s := range some {
		for at := 0; at+leastString <= len(s); at++ {
			count[binary.LittleEndian.Uint64(s[at:])] = support{}
		}
	}
	for i, s := range samples {
		for at := 0; at+leastString <= len(s); at++ {
			g := binary.LittleEndian.Uint64(s[at:])
			if c, ok := count[g]; ok && c.last != int32(i+1) {
				count[g] = support{c.samples + 1, int32(i + 1)}
			}
		}
	}
	return count
}

// runsOf are the longest runs of s all of whose grams least samples have and clean
// traffic has not, cut at mostString.
func (l *learner) runsOf(s []byte, counted map[uint64]support, least int) (runs [][]byte) {
	normal := l.clean.Strings.Covered(s)
	from := -1
	for at := 0; at+leastString <= len(s)+1; at++ {
		shared := at+leastString <= len(s) && int(counted[binary.LittleEndian.Uint64(s[at:at+leastString])].samples) >= least && !normal[at] && !normal[at+leastString-1]
		switch {
		case shared && from < 0:
			from = at
		case !shared && from >= 0:
			runs = append(runs, s[from:min(at+leastString-1, from+mostString)])
			from = -1
		}
	}
	return runs
}

func countWith(samples [][]byte, s []byte) (n int) {
	for _, b := range samples {
		if bytes.Contains(b, s) {
			n++
		}
	}
	return n
}

// isClean reports whether clean traffic, or noise in an encoding, holds s.
func (l *learner) isClean(s []byte) bool {
	has := func(b []byte) bool { return bytes.Contains(b, s) }
	return slices.ContainsFunc(l.clean.Sequences, has) || slices.ContainsFunc(l.negatives, has)
}

// shareBytes reports whether two strings overlap by half of a gram or more.
func shareBytes(a, b []byte) bool {
	const n = leastString / 2
	for at := 0; at+n <= len(a); at++ {
		if bytes.Contains(b, a[at:at+n]) {
			return true
		}
	}
	return false
}

// surprise is how unlikely a string is, in nats, in the likelier of clean traffic and
// uniform bytes.
func (l *learner) surprise(s []byte) (sum float64) {
	for _, x := range s {
		sum += min(-math.Log(l.clean.Background[x]), math.Log(256))
	}
	return sum
}

// novelty is the surprise of the bytes of s that lie in no string of clean traffic.
func (l *learner) novelty(s []byte) float64 {
	var fresh []byte
	for i, normal := range l.clean.Strings.Covered(s) {
		if !normal {
			fresh = append(fresh, s[i])
		}
	}
	return l.surprise(fresh)
}

// constantPart is a part that one string matches, and no other.
func (l *learner) constantPart(s []byte) dossier.Part {
	b := dossier.Block{Pseudo: 1e-9}
	for _, x := range s {
		b.Columns = append(b.Columns, dossier.Column{x: 1e6})
	}
	t := match.NewTable(&b, l.clean.Background)
	p := dossier.Part{Blocks: []dossier.Block{b}}
	p.Threshold = t.Omega(t.Score(s)) - 1/float64(len(s))
	return p
}

// findTokens finds strings that nearly all samples have, of which no clean sequence
// has all: as few as rule out clean traffic, beginning with the rarest there.
func (l *learner) findTokens(ctx context.Context, samples [][]byte) (parts []dossier.Part) {
	type token struct {
		text []byte
		in   []bool // of the clean sequences
		n    int
	}
	sequences := l.quiet()
	var all []token
	for _, t := range baseline.Tokens(ctx, samples, 0.98) {
		if ctx.Err() != nil {
			return nil
		}
		if len(t) < 3 || len(all) == 64 {
			continue
		}
		k := token{text: t[:min(len(t), mostString)], in: make([]bool, len(sequences))}
		for i, s := range sequences {
			if k.in[i] = bytes.Contains(s, k.text); k.in[i] {
				k.n++
			}
		}
		all = append(all, k)
	}
	slices.SortStableFunc(all, func(a, b token) int {
		return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(l.novelty(b.text), l.novelty(a.text)))
	})
	left, sum := slices.Repeat([]bool{true}, len(sequences)), 0.0
	var kept [][]byte
	for _, k := range all {
		if slices.ContainsFunc(kept, func(o []byte) bool { return bytes.Contains(o, k.text) || bytes.Contains(k.text, o) }) {
			continue
		}
		kept, sum = append(kept, k.text), sum+max(0, l.novelty(k.text)-perMegabyte)
		parts = append(parts, l.constantPart(k.text))
		parts[len(parts)-1].Samples = countWith(samples, k.text)
		any := false
		for i := range left {
			left[i] = left[i] && k.in[i]
			any = any || left[i]
		}
		if !any && sum >= leastTogether {
			return parts
		}
		if len(parts) == mostTokens {
			break
		}
	}
	return nil
}
