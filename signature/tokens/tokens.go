// Package tokens lowers distributions to strings with wildcards, for matchers
// that support only strings, and measures the loss.
package tokens

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
)

// Options of Lower. The zero value of a field means its default.
type Options struct {
	// FalseAlarms is the most that one string may give per 10^9 bytes of
	// background or uniform traffic (0.001).
	FalseAlarms float64
	// Most bounds the number of strings (12).
	Most int
	// Adjacent asks for strings without wildcards.
	Adjacent bool
	// Draws is the number of windows on which the loss is measured (10,000).
	Draws int
	Seed  uint64
	// Avoid is clean traffic that no string may occur in.
	Avoid [][]byte
}

// ErrNoString says that no string is selective enough.
var ErrNoString = errors.New("no string in the signature is selective enough; export a wider signature or allow more false alarms")

// span bounds a string with its wildcards, and fewest its fixed bytes: exact
// matchers need a few bytes to index.
const (
	span   = 48
	fewest = 4
)

// Lower takes, from each block of s, the strings that are most often present
// among those that are selective enough, each from separate positions, until
// more would not help.
func Lower(s *dossier.Signature, o Options) (*dossier.Alternatives, error) {
	o.FalseAlarms, o.Most, o.Draws = cmp.Or(o.FalseAlarms, 0.001), cmp.Or(o.Most, 12), cmp.Or(o.Draws, 10000)
	out := &dossier.Alternatives{Name: s.Name}
	for _, e := range s.Exact {
		out.Contents = append(out.Contents, dossier.Content{Bytes: e.Bytes, Fixed: slices.Repeat([]bool{true}, len(e.Bytes))})
	}
	if least, ok := lowerConstants(s, out); ok {
		out.Least = least
		return out, nil
	}
	need := math.Log(1e9 / o.FalseAlarms)
	accepted, missed := 0, 0
	for i := range s.Parts {
		found := 0
		for j := range s.Parts[i].Blocks {
			taken := make([]bool, len(s.Parts[i].Blocks[j].Columns))
			for len(out.Contents) < o.Most {
				c, ok := rareString(&s.Parts[i].Blocks[j], &s.Background, taken, need, &o)
				if !ok {
					break
				}
				out.Contents, found = append(out.Contents, c), found+1
			}
		}
		if found > 0 {
			a, m := measureLoss(s, &s.Parts[i], out.Contents[len(out.Contents)-found:], o)
			accepted, missed = accepted+a, missed+m
		}
	}
	if len(out.Contents) == 0 {
		return nil, fmt.Errorf("signature %s: %w", s.Name, ErrNoString)
	}
	out.Loss = float64(missed) / float64(max(1, accepted))
	return out, nil
}

// lowerConstants makes one content of each part if all of them are constant strings;
// least is how many must occur.
func lowerConstants(s *dossier.Signature, out *dossier.Alternatives) (least int, ok bool) {
	if len(s.Parts) == 0 || len(s.Exact) > 0 {
		return 0, false
	}
	var contents []dossier.Content
	for i := range s.Parts {
		c := dossier.Content{FalseAlarms: s.Parts[i].FalseAlarms}
		if len(s.Parts[i].Blocks) != 1 {
			return 0, false
		}
		b := &s.Parts[i].Blocks[0]
		for p := range b.Columns {
			x, miss := likeliest(b, p)
			if miss > free {
				return 0, false
			}
			c.Bytes, c.Fixed = append(c.Bytes, x), append(c.Fixed, true)
		}
		contents = append(contents, c)
	}
	out.Contents = contents
	if least = s.Quorum; least == 0 {
		least = len(contents)
	}
	return least, true
}

// rareString is bestString, but one that no sequence to avoid holds: with more
// positions if need be.
func rareString(b *dossier.Block, bg *dossier.Background, taken []bool, need float64, o *Options) (dossier.Content, bool) {
	for range 4 {
		try := slices.Clone(taken)
		c, ok := bestString(b, bg, try, need, o.Adjacent)
		if !ok {
			break
		}
		if !slices.ContainsFunc(o.Avoid, func(data []byte) bool { return Contains(data, c) }) {
			copy(taken, try)
			return c, true
		}
		need *= 1.3
	}
	return dossier.Content{}, false
}

// free is the miss, in nats, below which a position is as good as constant.
const free = 1e-4

// likeliest is the byte most likely at a position, and what is lost by fixing it.
func likeliest(b *dossier.Block, p int) (x byte, miss float64) {
	f := b.Probabilities(p)
	for y := range f {
		if f[y] > f[x] {
			x = byte(y)
		}
	}
	return x, -math.Log(f[x])
}

// mostMiss is from when a string is too rarely present to be worth a rule: one
// variant in twenty (3 nats).
const mostMiss = 3

// position is one byte that a string may fix.
type position struct {
	at       int
	x        byte
	surprise float64 // nats, in the traffic where it is least
	miss     float64 // nats lost when the worm has another byte there
}

// bestString is the string most likely to be present whose surprise is at least
// need nats: for each window of at most span positions, those with the most
// surprise per miss are fixed until it is reached.
func bestString(b *dossier.Block, bg *dossier.Background, taken []bool, need float64, adjacent bool) (dossier.Content, bool) {
	all := make([]position, len(b.Columns))
	for p := range all {
		x, miss := likeliest(b, p)
		all[p] = position{p, x, min(-math.Log(bg[x]), math.Log(256)), miss}
	}
	var chosen []position
	least := math.Inf(1)
	for from := range all {
		pick, miss := choosePositions(all[from:min(len(all), from+span)], taken, need, adjacent)
		if pick != nil && miss < least {
			chosen, least = pick, miss
		}
	}
	if chosen == nil || least > mostMiss {
		return dossier.Content{}, false
	}
	slices.SortFunc(chosen, func(a, b position) int { return a.at - b.at })
	first, last := chosen[0].at, chosen[len(chosen)-1].at
	c := dossier.Content{Bytes: make([]byte, last-first+1), Fixed: make([]bool, last-first+1), FalseAlarms: 1e9}
	for _, p := range chosen {
		c.Bytes[p.at-first], c.Fixed[p.at-first] = p.x, true
		c.FalseAlarms *= math.Exp(-p.surprise)
		taken[p.at] = true
	}
	return c, true
}

func choosePositions(window []position, taken []bool, need float64, adjacent bool) (pick []position, miss float64) {
	sorted := slices.Clone(window)
	if !adjacent {
		slices.SortStableFunc(sorted, func(a, b position) int { return cmp.Compare(a.miss/a.surprise, b.miss/b.surprise) })
	}
	sum := 0.0
	for _, p := range sorted {
		if taken[p.at] {
			if adjacent {
				return nil, 0
			}
			continue
		}
		if enough := sum >= need && len(pick) >= fewest; enough && (p.miss > free || adjacent) {
			break
		}
		pick, sum, miss = append(pick, p), sum+p.surprise, miss+p.miss
	}
	if sum < need || len(pick) < fewest {
		return nil, 0
	}
	return pick, miss
}

// measureLoss draws windows from the part's distribution, keeps those that the
// part accepts, and counts those without any of contents.
func measureLoss(s *dossier.Signature, p *dossier.Part, contents []dossier.Content, o Options) (accepted, missed int) {
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	// Blocks are judged one by one: each alone, at the part's threshold.
	for j := range p.Blocks {
		b := &p.Blocks[j]
		t := match.NewTable(b, &s.Background)
		limit := t.Limit(p.Threshold)
		cumulative := make([][256]float64, len(b.Columns))
		for at := range cumulative {
			sum := 0.0
			for x, f := range b.Probabilities(at) {
				sum += f
				cumulative[at][x] = sum
			}
		}
		w := make([]byte, len(b.Columns))
		for range o.Draws / len(p.Blocks) {
			for at := range w {
				x, _ := slices.BinarySearch(cumulative[at][:], rng.Float64())
				w[at] = byte(min(x, 255))
			}
			if t.Score(w) < limit {
				continue
			}
			accepted++
			if !slices.ContainsFunc(contents, func(c dossier.Content) bool { return Contains(w, c) }) {
				missed++
			}
		}
	}
	return accepted, missed
}
