package family

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/pads"
)

// MixtureOptions of Mixture. The zero value of a field means its default.
type MixtureOptions struct {
	Width int // of each block (32)
	// Blocks bounds their number (24).
	Blocks int
	// Rounds bounds the iterations (12).
	Rounds int
	// Normal are strings of normal traffic.
	Normal *pads.Grams
}

// Component is one block of the mixture: M-1 of them and the background make
// up all W-byte windows of all samples (section 4.2).
type Component struct {
	Block dossier.Block
	// Prior is pi_m, the share of all windows.
	Prior float64
	// Windows is how many windows belong to it, in expectation.
	Windows float64
}

// ErrNoBlock means that the samples share no block beyond normal traffic.
var ErrNoBlock = errors.New("no block of bytes is shared by the samples beyond normal traffic")

// Mixture finds many blocks at once: blocks that only some samples hold, hold
// more than once, or in any order. The background is that of normal traffic
// and stays fixed. Starts are shared rare strings instead of random numbers.
func Mixture(ctx context.Context, samples [][]byte, bg *dossier.Background, o MixtureOptions) ([]Component, error) {
	o.Width, o.Blocks, o.Rounds = cmp.Or(o.Width, 32), cmp.Or(o.Blocks, 24), cmp.Or(o.Rounds, 12)
	total := 0
	for _, s := range samples {
		total += max(0, len(s)-o.Width+1)
	}
	var found []Component
	for _, w := range pads.SharedWindows(samples, bg, o.Width, o.Blocks, o.Normal) {
		// As if many samples agreed: with a large pseudo-count, uniform bytes,
		// which are rare in the background, would score above 0.
		c := Component{Prior: float64(len(samples)) / 4 / float64(total), Block: dossier.Block{Pseudo: 0.0005}}
		for _, x := range w {
			c.Block.Columns = append(c.Block.Columns, dossier.Column{x: 20})
		}
		found = append(found, c)
	}
	last := math.Inf(-1)
	for range o.Rounds {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var likelihood float64
		found, likelihood = stepEM(found, samples, bg, total)
		if likelihood <= last+1e-4*math.Abs(last) {
			break
		}
		last = likelihood
	}
	found = slices.DeleteFunc(found, func(c Component) bool { return c.Windows < max(2.5, 0.01*float64(len(samples))) })
	if len(found) == 0 {
		return nil, ErrNoBlock
	}
	return found, nil
}

// claim is a window with the blocks it may belong to.
type claim struct {
	sample, at int
	block      int
	ratio      float64 // pi_m p(y|m) / p(y|f0)
}

// stepEM is one expectation (equation 4-9) and one maximisation (4-15, 4-17,
// where 255 d is a misprint of 256 d). likelihood is that of the samples
// relative to pure background.
func stepEM(found []Component, samples [][]byte, bg *dossier.Background, total int) (next []Component, likelihood float64) {
	var claims []claim
	for m, c := range found {
		table := match.NewTable(&c.Block, bg)
		// A window whose share is below e^-5 hardly moves the estimate.
		limit := int32((-math.Log(c.Prior) - 5) * match.Units)
		scan := match.NewScanner(table, limit, match.Fastest())
		for i, s := range samples {
			scan.Scan(s, func(at int, units int32) int32 {
				claims = append(claims, claim{i, at, m, c.Prior * math.Exp(min(float64(units)/match.Units, 600))})
				return limit
			})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(a.sample-b.sample, a.at-b.at, a.block-b.block)
	})
	counts := make([][][256]float64, len(found))
	shares := make([]float64, len(found))
	for m := range found {
		counts[m] = make([][256]float64, len(found[m].Block.Columns))
	}
	for from := 0; from < len(claims); {
		to, sum := from, 1.0
		for ; to < len(claims) && claims[to].sample == claims[from].sample && claims[to].at == claims[from].at; to++ {
			sum += claims[to].ratio
		}
		likelihood += math.Log(sum)
		for _, c := range claims[from:to] {
			z := c.ratio / sum
			shares[c.block] += z
			for p, x := range samples[c.sample][c.at : c.at+len(counts[c.block])] {
				counts[c.block][p][x] += z
			}
		}
		from = to
	}
	for m, c := range found {
		// No window belongs to it any more, or it has become a second
		// background.
		if shares[m] < 1 || shares[m] > mostPerSample*float64(len(samples)) {
			continue
		}
		c.Windows, c.Prior = shares[m], min(shares[m]/float64(total), 0.5)
		c.Block = dossier.Block{Pseudo: 0.01}
		for p := range counts[m] {
			column := dossier.Column{}
			for x, n := range counts[m][p] {
				if n > 1e-6 {
					column[byte(x)] = n
				}
			}
			c.Block.Columns = append(c.Block.Columns, column)
		}
		if info := c.Block.Information(bg); meanOf(info) >= leastBits {
			next = append(next, c)
		}
	}
	return next, likelihood
}

// A block with more windows per sample, or less information per position,
// models the carriers rather than a worm.
const (
	mostPerSample = 3.0
	leastBits     = 2.0
)

func meanOf(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// Features is h of every sample, one value per component (see the package
// match for its definition).
func Features(found []Component, samples [][]byte, bg *dossier.Background) [][]float64 {
	h := make([][]float64, len(samples))
	for i := range h {
		h[i] = make([]float64, len(found))
	}
	for j, c := range found {
		for i, v := range match.Feature(&c.Block, bg, c.Prior, samples, match.Fastest()) {
			h[i][j] = v
		}
	}
	return h
}
