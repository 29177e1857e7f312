// Package signature makes signature files' content from samples: it joins
// learning (pads, family), matching and calibration, which its folders hold.
package signature

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/pads"
)

// Clean is the model of normal traffic.
type Clean struct {
	Background *dossier.Background
	// Strings is nil if no clean traffic was given.
	Strings *pads.Grams
	Bytes   int64
}

// NewClean learns the background and the strings from clean sequences; without
// any, only the background from the samples, whose carriers are normal.
func NewClean(clean, samples [][]byte) Clean {
	var c Clean
	var counts [256]uint64
	from := clean
	if len(clean) > 0 {
		c.Strings = pads.NewGrams()
	} else {
		from = samples
	}
	for _, s := range from {
		for _, b := range s {
			counts[b]++
		}
		if c.Strings != nil {
			c.Strings.Add(s)
			c.Bytes += int64(len(s))
		}
	}
	c.Background = dossier.NewBackground(&counts)
	return c
}

// Options of Learn. The zero value of a field means its default.
type Options struct {
	Name string
	pads.Options
	// Parts above 1 learns an MPADS of up to that many parts.
	Parts int
	// Gaps joins parts that keep their order and distance into one.
	Gaps bool
	// Auto starts at Width and shrinks it until the positions are informative.
	Auto bool
	// FalseAlarms is the most that a part may give per 10^9 bytes (0.001).
	FalseAlarms float64
}

// Learn learns a signature and calibrates its thresholds. Equal samples count
// once: a copy carries no information about variation. A single sample gives an
// exact signature, usable from the first copy.
func Learn(ctx context.Context, samples [][]byte, clean Clean, o Options) (*dossier.Signature, error) {
	samples = dropEqual(samples)
	s := &dossier.Signature{Name: o.Name, Background: *clean.Background,
		Learning: dossier.Learning{Method: string(cmp.Or(o.Method, pads.Gibbs)), Samples: len(samples), Seed: o.Seed, CleanBytes: clean.Bytes}}
	if len(samples) == 0 {
		return nil, fmt.Errorf("nothing to learn from: all samples are empty")
	}
	if len(samples) == 1 {
		if len(samples[0]) > dossier.MaxExact {
			return nil, fmt.Errorf("one sample of %d bytes: an exact signature takes at most %d; add variants", len(samples[0]), dossier.MaxExact)
		}
		s.Learning.Method = "exact"
		s.Exact = []dossier.Exact{{Bytes: samples[0]}}
		return s, s.Check()
	}
	o.Normal = clean.Strings
	o.Width = cmp.Or(o.Width, 64)
	alignments, err := o.learnAlignments(ctx, samples, clean)
	if err != nil {
		return nil, err
	}
	if o.Gaps {
		s.Parts = pads.Join(alignments)
	} else {
		for _, a := range alignments {
			s.Parts = append(s.Parts, dossier.Part{Blocks: []dossier.Block{a.Block}})
		}
	}
	slices.SortStableFunc(s.Parts, func(a, b dossier.Part) int { // the most informative first
		return cmp.Compare(informationOf(&b, clean.Background), informationOf(&a, clean.Background))
	})
	if err := Calibrate(s, samples, cmp.Or(o.FalseAlarms, 0.001)); err != nil {
		return nil, err
	}
	return s, s.Check()
}

func (o Options) learnAlignments(ctx context.Context, samples [][]byte, clean Clean) ([]*pads.Alignment, error) {
	if o.Parts > 1 || o.Gaps {
		return pads.LearnMulti(ctx, samples, clean.Background, o.Options, pads.Multi{Parts: max(o.Parts, 2)})
	}
	var a *pads.Alignment
	var err error
	if o.Auto {
		a, err = pads.LearnWidth(ctx, samples, clean.Background, o.Options, min(16, o.Width))
	} else {
		a, err = pads.Learn(ctx, samples, clean.Background, o.Options)
	}
	return []*pads.Alignment{a}, err
}

func informationOf(p *dossier.Part, bg *dossier.Background) float64 {
	sum := 0.0
	for i := range p.Blocks {
		for _, bits := range p.Blocks[i].Information(bg) {
			sum += bits
		}
	}
	return sum
}

// held is the share of a training score that new variants are expected to
// reach: training samples took part in learning the signature they are scored
// with.
const held = 0.7

// Calibrate sets the threshold of every part: the one whose false alarms the
// model puts at rate per 10^9 bytes, and, where the samples score far above
// that, half-way to what all but one in fifty of them reach, because real
// traffic is less uniform than the model.
func Calibrate(s *dossier.Signature, samples [][]byte, rate float64) error {
	for i := range s.Parts {
		p := &s.Parts[i]
		model := match.NewModel(p, &s.Background)
		p.Threshold = model.Threshold(rate)
		reach, err := lowScore(s, i, samples)
		if err != nil {
			return err
		}
		if reach *= held; reach > p.Threshold {
			p.Threshold = (p.Threshold + reach) / 2
		}
		p.FalseAlarms = model.FalseAlarms(p.Threshold)
	}
	return nil
}

func lowScore(s *dossier.Signature, part int, samples [][]byte) (float64, error) {
	one := *s
	one.Parts, one.Exact, one.Family, one.Quorum = s.Parts[part:part+1], nil, nil, 0
	m, err := match.New([]*dossier.Signature{&one}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return 0, err
	}
	var scores []float64
	for _, sample := range samples {
		scores = append(scores, m.Scores(0, sample)[0])
	}
	slices.Sort(scores)
	if low := scores[len(scores)/50]; !math.IsInf(low, 0) {
		return low, nil
	}
	return 0, nil
}

func dropEqual(samples [][]byte) [][]byte {
	seen := map[string]bool{}
	var out [][]byte
	for _, s := range samples {
		if len(s) > 0 && !seen[string(s)] {
			seen[string(s)] = true
			out = append(out, s)
		}
	}
	return out
}
