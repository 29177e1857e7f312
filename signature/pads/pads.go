// Package pads learns position-aware distribution signatures from samples of
// one worm (Tang 2006, sections 3.3 to 3.5): expectation-maximisation and Gibbs
// sampling as published, with later results of motif search: starts from shared
// rare strings, phase-shift moves, samples without an occurrence.
//
// Everything is a pure function of its arguments; the same seed gives the same
// signature on any number of processors.
package pads

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"dragnet/dossier"
)

// Method is how the starts of the significant regions are improved.
type Method string

// The methods of sections 3.4.1 and 3.4.2.
const (
	EM    Method = "em"
	Gibbs Method = "gibbs"
)

// Options of a learning run. The zero value of a field means its default.
type Options struct {
	// Width is W, the number of positions.
	Width  int
	Method Method
	// Restarts is the number of runs, of which the best is kept.
	Restarts int
	Seed     uint64
	// Pseudo is d of equation 3-3.
	Pseudo float64
	// Epsilon ends a run when the mean score grew by less than this share.
	Epsilon float64
	// Rounds bounds a run, counted in recalculations per sample.
	Rounds int
	// Published restricts learning to the methods of the paper: random starts
	// only, no phase shifts, exactly one occurrence per sample, no final
	// maximisation after Gibbs.
	Published bool
	// Normal are strings of normal traffic; a window that they cover by half
	// or more is never a significant region (section 4.1).
	Normal *Grams
	// Workers bounds the goroutines; 0 means one per restart.
	Workers int
	// Trace, if set, is called with the mean score after every round of every
	// run.
	Trace func(run, round int, mean float64)
}

func (o Options) withDefaults() Options {
	if o.Width == 0 {
		o.Width = 32
	}
	if o.Method == "" {
		o.Method = Gibbs
	}
	if o.Restarts == 0 {
		o.Restarts = 4
	}
	if o.Pseudo == 0 {
		o.Pseudo = 0.01
	}
	if o.Epsilon == 0 {
		o.Epsilon = 1e-4
	}
	if o.Rounds == 0 {
		o.Rounds = 40
	}
	if o.Workers <= 0 {
		o.Workers = o.Restarts
	}
	return o
}

// Absent is the start of a sample without an occurrence.
const Absent = -1

// Alignment is a learnt block and its position in the samples.
type Alignment struct {
	Block dossier.Block
	// Starts holds the start of each sample's significant region, or Absent.
	Starts []int
	// Scores holds Omega of those regions, in nats per byte; NaN if absent.
	Scores []float64
	// Mean and Worst are over the samples with an occurrence.
	Mean, Worst float64
	// Present counts those samples.
	Present int
	// Rounds is how long the best run took to converge.
	Rounds int
}

// Errors of Learn that the caller can handle.
var (
	ErrTooFewSamples = errors.New("fewer than two samples are long enough")
	ErrWidth         = errors.New("width is out of range")
)

// Learn finds the W positions whose distribution differs most from bg.
// Samples shorter than W, and those without an allowed window, are Absent.
func Learn(ctx context.Context, samples [][]byte, bg *dossier.Background, o Options) (*Alignment, error) {
	return learnProblem(ctx, newProblem(samples, bg, o.withDefaults()))
}

func learnProblem(ctx context.Context, p *problem) (*Alignment, error) {
	if p.o.Width < 1 || p.o.Width > dossier.MaxWidth {
		return nil, fmt.Errorf("%w: %d, want 1 to %d", ErrWidth, p.o.Width, dossier.MaxWidth)
	}
	if len(p.usable) < 2 {
		return nil, fmt.Errorf("%w for width %d (%d of %d); lower the width or add samples", ErrTooFewSamples, p.o.Width, len(p.usable), len(p.samples))
	}
	var seeds []window
	if !p.o.Published {
		seeds = p.sharedWindows(p.o.Restarts)
	}
	runs := make([]*run, p.o.Restarts)
	var wait sync.WaitGroup
	slots := make(chan struct{}, p.o.Workers)
	for i := range runs {
		wait.Add(1)
		go func() {
			defer wait.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			r := newRun(p, rand.New(rand.NewPCG(p.o.Seed, uint64(i))), i)
			if i < len(seeds) {
				r.startFrom(seeds[i])
			} else {
				r.startAtRandom()
			}
			r.runRounds(ctx)
			runs[i] = r
		}()
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	best := runs[0]
	for _, r := range runs[1:] {
		if r.quality() > best.quality() {
			best = r
		}
	}
	return best.toAlignment(), nil
}

// problem is the input shared by all runs; it does not change while they run.
type problem struct {
	o       Options
	samples [][]byte
	// blocked[i][a] is true if no window of sample i may start at a.
	blocked [][]bool
	// usable are the samples with at least one allowed window; windows counts
	// the allowed windows of each sample.
	usable  []int
	windows []int
	logBg   [256]float32
	// logCount[c] is log(c + d) for whole counts c.
	logCount []float32
}

func newProblem(samples [][]byte, bg *dossier.Background, o Options) *problem {
	p := &problem{o: o, samples: samples, blocked: make([][]bool, len(samples)), windows: make([]int, len(samples))}
	for x, f := range bg {
		p.logBg[x] = float32(math.Log(f))
	}
	for c := range len(samples) + 1 {
		p.logCount = append(p.logCount, float32(math.Log(float64(c)+o.Pseudo)))
	}
	for i, s := range samples {
		if o.Width >= 1 && len(s) >= o.Width {
			p.blocked[i] = make([]bool, len(s)-o.Width+1)
			o.Normal.blockWindows(p.blocked[i], s, o.Width)
		}
	}
	p.countWindows()
	return p
}

func (p *problem) countWindows() {
	p.usable = p.usable[:0]
	for i, blocked := range p.blocked {
		p.windows[i] = 0
		for _, b := range blocked {
			if !b {
				p.windows[i]++
			}
		}
		if p.windows[i] > 0 {
			p.usable = append(p.usable, i)
		}
	}
}

// blockRegions blocks all windows that overlap the regions of a (section 3.5).
func (p *problem) blockRegions(a *Alignment) {
	for i, start := range a.Starts {
		if start == Absent {
			continue
		}
		for x := max(0, start-p.o.Width+1); x < min(len(p.blocked[i]), start+len(a.Block.Columns)); x++ {
			p.blocked[i][x] = true
		}
	}
	p.countWindows()
}
