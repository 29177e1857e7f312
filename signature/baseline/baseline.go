// Package baseline holds the signatures that PADS is compared with, each from
// its paper's description: the longest common substring (Honeycomb), token
// subsequences and Bayes (Polygraph), and byte frequencies (PAYL). They are
// for comparison only.
package baseline

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
)

// Detector decides whether a payload is a variant.
type Detector interface {
	Match(payload []byte) bool
}

// Substring is the longest string that all samples share (Kreibich and
// Crowcroft, HotNets 2003, as section 3.7.5 uses it).
type Substring []byte

// LearnSubstring finds it; the first of equals, empty if none.
func LearnSubstring(samples [][]byte) Substring {
	if len(samples) == 0 {
		return nil
	}
	first := samples[0]
	// If a string of a length is common, one of every smaller length is: bisect
	// over the length.
	low, high := 0, len(first)
	var best []byte
	for low < high {
		n := (low + high + 1) / 2
		if s := findCommon(samples, n); s != nil {
			best, low = s, n
		} else {
			high = n - 1
		}
	}
	return best
}

func findCommon(samples [][]byte, n int) []byte {
	common := map[string]bool{}
	for i := 0; i+n <= len(samples[0]); i++ {
		common[string(samples[0][i:i+n])] = true
	}
	for _, s := range samples[1:] {
		here := map[string]bool{}
		for i := 0; i+n <= len(s); i++ {
			if k := string(s[i : i+n]); common[k] {
				here[k] = true
			}
		}
		if common = here; len(common) == 0 {
			return nil
		}
	}
	for i := 0; i+n <= len(samples[0]); i++ {
		if common[string(samples[0][i:i+n])] {
			return samples[0][i : i+n]
		}
	}
	return nil
}

// Match implements Detector. An empty string is in every payload.
func (s Substring) Match(payload []byte) bool { return bytes.Contains(payload, s) }

// Tokens returns strings that many samples share (Newsome, Karp and Song, IEEE
// S&P 2005, section 4.1): of at least 2 bytes, in at least a share of samples,
// and not part of a longer token that is as frequent.
func Tokens(ctx context.Context, samples [][]byte, share float64) [][]byte {
	least := max(2, int(math.Ceil(share*float64(len(samples)))))
	var tokens [][]byte
	frequent := map[string]int{}
	for n := 2; n <= maxToken; n++ {
		next := map[string]int{}
		last := map[string]int{}
		for i, s := range samples {
			if ctx.Err() != nil {
				return nil
			}
			for at := 0; at+n <= len(s); at++ {
				k := string(s[at : at+n])
				// A string is frequent only if both shorter ones are.
				if n > 2 && (frequent[k[1:]] == 0 || frequent[k[:n-1]] == 0) {
					continue
				}
				if last[k] != i+1 {
					last[k] = i + 1
					next[k]++
				}
			}
		}
		for k, c := range next {
			if c < least {
				delete(next, k)
			}
		}
		covered := map[string]bool{}
		for k, c := range next {
			for _, sub := range []string{k[1:], k[:n-1]} {
				if frequent[sub] == c {
					covered[sub] = true
				}
			}
		}
		for k := range frequent {
			if !covered[k] {
				tokens = append(tokens, []byte(k))
			}
		}
		if frequent = next; len(next) == 0 {
			break
		}
	}
	for k := range frequent {
		tokens = append(tokens, []byte(k))
	}
	slices.SortFunc(tokens, func(a, b []byte) int { return cmp.Or(len(b)-len(a), bytes.Compare(a, b)) })
	return tokens
}

// maxToken bounds a token.
const maxToken = 64

// Subsequence is an ordered list of tokens (Polygraph, section 4.2).
type Subsequence [][]byte

// LearnSubsequence keeps, of the tokens that all samples share, a sequence that
// all samples hold in order: tokens in the order of the first sample, longest
// first, each kept if all samples still agree.
func LearnSubsequence(samples [][]byte) Subsequence {
	if len(samples) == 0 {
		return nil
	}
	var kept Subsequence
	for _, t := range Tokens(context.Background(), samples, 1) {
		at := bytes.Index(samples[0], t)
		place := 0
		for place < len(kept) && bytes.Index(samples[0], kept[place]) < at {
			place++
		}
		try := slices.Insert(slices.Clone(kept), place, t)
		if !slices.ContainsFunc(samples, func(s []byte) bool { return !try.Match(s) }) {
			kept = try
		}
		if len(kept) >= 64 {
			break
		}
	}
	return kept
}

// Match implements Detector.
func (s Subsequence) Match(payload []byte) bool {
	for _, t := range s {
		at := bytes.Index(payload, t)
		if at < 0 {
			return false
		}
		payload = payload[at+len(t):]
	}
	return true
}

// Bayes scores tokens by how much likelier they occur in worms than in
// innocuous traffic (Polygraph, section 4.3).
type Bayes struct {
	tokens    [][]byte
	weights   []float64
	threshold float64
}

// LearnBayes uses the tokens in at least half of the samples, and the lowest
// threshold that alarms on at most falseAlarms of clean.
func LearnBayes(samples, clean [][]byte, falseAlarms float64) *Bayes {
	b := &Bayes{}
	for _, t := range Tokens(context.Background(), samples, 0.5) {
		if len(b.tokens) == 200 {
			break
		}
		worm, normal := shareWith(samples, t), shareWith(clean, t)
		if worm > normal {
			b.tokens, b.weights = append(b.tokens, t), append(b.weights, math.Log(worm/normal))
		}
	}
	var scores []float64
	for _, c := range clean {
		scores = append(scores, b.scoreOf(c))
	}
	slices.Sort(scores)
	if n := len(scores); n > 0 {
		b.threshold = scores[max(0, n-1-int(falseAlarms*float64(n)))]
	}
	return b
}

// shareWith of payloads that hold t, smoothed by one of each kind.
func shareWith(payloads [][]byte, t []byte) float64 {
	n := 1.0
	for _, p := range payloads {
		if bytes.Contains(p, t) {
			n++
		}
	}
	return n / float64(len(payloads)+2)
}

func (b *Bayes) scoreOf(payload []byte) float64 {
	sum := 0.0
	for i, t := range b.tokens {
		if bytes.Contains(payload, t) {
			sum += b.weights[i]
		}
	}
	return sum
}

// Match implements Detector.
func (b *Bayes) Match(payload []byte) bool { return b.scoreOf(payload) > b.threshold }

// Frequencies is a profile of byte frequencies: their mean and deviation in
// normal payloads, and how far a payload may be from them (Wang and Stolfo,
// RAID 2004, section 3.2, without the separation by length).
type Frequencies struct {
	mean, deviation [256]float64
	threshold       float64
}

// LearnFrequencies sets the threshold so that falseAlarms of clean are beyond.
func LearnFrequencies(clean [][]byte, falseAlarms float64) *Frequencies {
	f := &Frequencies{}
	var square [256]float64
	for _, c := range clean {
		for x, v := range Histogram(c) {
			f.mean[x] += v / float64(len(clean))
			square[x] += v * v / float64(len(clean))
		}
	}
	for x := range f.deviation {
		f.deviation[x] = math.Sqrt(max(0, square[x]-f.mean[x]*f.mean[x]))
	}
	var distances []float64
	for _, c := range clean {
		distances = append(distances, f.distanceOf(c))
	}
	slices.Sort(distances)
	if n := len(distances); n > 0 {
		f.threshold = distances[max(0, n-1-int(falseAlarms*float64(n)))]
	}
	return f
}

// Histogram is the share of each byte value.
func Histogram(payload []byte) (h [256]float64) {
	for _, x := range payload {
		h[x] += 1 / float64(len(payload))
	}
	return h
}

// distanceOf is PAYL's simplified Mahalanobis distance, smoothed by 0.001.
func (f *Frequencies) distanceOf(payload []byte) float64 {
	sum := 0.0
	for x, v := range Histogram(payload) {
		sum += math.Abs(v-f.mean[x]) / (f.deviation[x] + 0.001)
	}
	return sum
}

// Match implements Detector.
func (f *Frequencies) Match(payload []byte) bool { return f.distanceOf(payload) > f.threshold }
