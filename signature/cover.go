package signature

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"dragnet/dossier"
)

// Bounds of covers: strings, of which any is a match, that some of the samples have
// each, and nearly all of them together. leastCovered is how many samples, and
// leastCoveredShare of them what share, one must be in: what fewer share is of their
// carriers.
const (
	mostCover         = 16
	leastCovered      = 3
	leastCoveredShare = 0.04
	// coverings is how often each sample is covered, by strings that have no byte in
	// common, as a variant may lack one of them.
	coverings = 2
)

// coverOf finds strings around where s matches samples, the commonest of those not covered
// yet first: a worm may have several decoders. Clean traffic has none of them.
func (l *learner) coverOf(s *dossier.Signature, samples [][]byte) *dossier.Alternatives {
	if l.clean.Strings == nil {
		return nil
	}
	out := &dossier.Alternatives{Name: s.Name}
	all := regionsOf(s, samples)
	for i := range s.Parts {
		out.Contents = append(out.Contents, l.coverRegions(all[i])...)
	}
	if out.Contents = out.Contents[:min(len(out.Contents), mostCover)]; len(out.Contents) == 0 {
		return nil
	}
	return out
}

// coverRegions finds the strings of one part.
func (l *learner) coverRegions(regions [][]byte) (all []dossier.Content) {
	least := max(leastCovered, int(leastCoveredShare*float64(len(regions))))
	at := l.gramsOf(regions)
	free := make([][]bool, len(regions)) // bytes that are in no string yet
	for i, r := range regions {
		free[i] = slices.Repeat([]bool{true}, len(r))
	}
	for range coverings {
		open := slices.Repeat([]bool{true}, len(regions))
		for len(all) < mostCover {
			gram, n := commonestGram(at, open)
			if n < least {
				break
			}
			places := at[gram]
			delete(at, gram)
			if overlapsString(places, free) {
				continue
			}
			text, before := l.extendGram(regions, places)
			if l.surprise(text) < math.Log(1e9/l.o.FalseAlarms) || l.isClean(text) {
				continue
			}
			all = append(all, dossier.Content{Bytes: text, Fixed: slices.Repeat([]bool{true}, len(text)), FalseAlarms: 1e9 * math.Exp(-l.surprise(text))})
			for i, from := range places {
				open[i] = false
				for k := from - before; k < from-before+len(text); k++ {
					free[i][k] = false
				}
			}
		}
	}
	return all
}

// gramsOf is where, in which region, each string of leastString bytes is first that
// clean traffic does not have.
func (l *learner) gramsOf(regions [][]byte) map[uint64]map[int]int {
	at := map[uint64]map[int]int{}
	for i, r := range regions {
		normal := l.clean.Strings.Covered(r)
		for k := 0; k+leastString <= len(r); k++ {
			if normal[k] || normal[k+leastString-1] {
				continue
			}
			g := binary.LittleEndian.Uint64(r[k:])
			if at[g] == nil {
				at[g] = map[int]int{}
			}
			if _, ok := at[g][i]; !ok {
				at[g][i] = k
			}
		}
	}
	return at
}

// commonestGram is the gram in most of the open regions, and in how many; of equals, the
// first by its bytes.
func commonestGram(at map[uint64]map[int]int, open []bool) (gram uint64, n int) {
	for g, places := range at {
		in := 0
		for i := range places {
			if open[i] {
				in++
			}
		}
		if cmp.Or(cmp.Compare(in, n), cmp.Compare(gram, g)) > 0 {
			gram, n = g, in
		}
	}
	return gram, n
}

func overlapsString(places map[int]int, free [][]bool) bool {
	for i, from := range places {
		if slices.Contains(free[i][from:from+leastString], false) {
			return true
		}
	}
	return false
}

// extendGram adds the bytes before and behind a gram that all its regions have, until the
// string is surprising enough: a longer one is found less often. Before is how many
// were added before it.
func (l *learner) extendGram(regions [][]byte, places map[int]int) (text []byte, before int) {
	behind := leastString
	same := func(k int) bool { // byte k from the gram is the same in all
		first := -1
		for i, from := range places {
			p := from + k
			if p < 0 || p >= len(regions[i]) || first >= 0 && int(regions[i][p]) != first {
				return false
			}
			first = int(regions[i][p])
		}
		return true
	}
	for {
		for i, from := range places {
			text = bytes.Clone(regions[i][from-before : from+behind])
			break
		}
		switch {
		case l.surprise(text) >= leastSurprise || len(text) >= mostString:
			return text, before
		case same(behind):
			behind++
		case same(-before - 1):
			before++
		default:
			return text, before
		}
	}
}
