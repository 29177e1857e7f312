// Package wormfigures reproduces the tables and figures of Tang 2006, chapter
// 2: the paper's value next to the closed form and our simulation, as median
// and quartiles over many seeds.
package wormfigures

import (
	"context"
	"fmt"
	"math"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/worm"
)

// All lists this paper's reproductions.
func All() []report.Reproduction {
	var all []report.Reproduction
	for _, e := range []struct {
		name, title, source string
		run                 func(*reproduction) error
	}{
		{"daw-table-2-1", "Failures of normal hosts a day", "Table 2-1", table21},
		{"daw-table-2-2", "Days until 5 % of the vulnerable hosts are infected, temporal and spatial limit", "Table 2-2", table22},
		{"daw-few-replies", "How DAW fares when an edge sees a part of the failures", "section 2.3.10", fewReplies},
		{"daw-figure-2-2", "Infected share over time under each defence", "Figure 2-2", figure22},
		{"daw-figure-2-3", "Days until 5 % against Omega, temporal limit alone", "Figure 2-3", figure23},
		{"daw-figure-2-4", "Days until 5 % against Phi, spatial limit alone", "Figure 2-4", figure24},
		{"daw-figure-2-5", "Finally infected share against n, the days until a block", "Figure 2-5", figure25},
		{"daw-figure-2-6", "Days until the worm stops against n", "Figure 2-6", figure26},
	} {
		r := report.Reproduction{Name: e.name, Title: e.title, Source: "Tang 2006, chapter 2, " + e.source}
		r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
			x := &reproduction{ctx: ctx, env: env, Report: report.New(r), size: fullSize()}
			return x.Report, e.run(x)
		}
		all = append(all, r)
	}
	return all
}

// reproduction is one reproduction under way.
type reproduction struct {
	*report.Report
	ctx  context.Context
	env  report.Environment
	size size
}

// size is how much is simulated; tests use less.
type size struct {
	seeds, few int // per point: of the table and the curves, of whole epidemics
	worlds     []world
	points     int // of a curve
}

// world is a pair of k and z.
type world struct {
	k int
	z float64
}

func (w world) String() string { return fmt.Sprintf("k=%d z=%g", w.k, w.z) }

func fullSize() size {
	return size{seeds: 200, few: 40, points: 8,
		worlds: []world{{10000, 5}, {10000, 10}, {10000, 20}, {20000, 10}, {20000, 20}}}
}

// runEnsemble runs a configuration and reports the progress.
func (x *reproduction) runEnsemble(c worm.Configuration, seeds int) ([]*worm.Outbreak, error) {
	return worm.Ensemble(x.ctx, c, seeds, func(*worm.Outbreak) { x.env.Progress("simulating", 1) })
}

// daysTo returns the quartiles of the time until a share is infected.
func (x *reproduction) daysTo(share float64, c worm.Configuration) (worm.Quartiles, error) {
	c.Until = share
	rs, err := x.runEnsemble(c, x.size.seeds)
	if err != nil {
		return worm.Quartiles{}, err
	}
	days := make([]float64, len(rs))
	for i, r := range rs {
		days[i] = r.When(share) / worm.Day
	}
	return worm.QuartilesOf(days), nil
}

func configurationFor(w world, d worm.Defence, b worm.Budget) worm.Configuration {
	c := worm.DefaultConfiguration()
	c.Networks, c.Hosts, c.Defence, c.Budget = w.k, w.z, d, b
	return c
}

func formatNumber(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 0):
		return "never"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func formatQuartiles(q worm.Quartiles) string {
	return fmt.Sprintf("%s (%s..%s)", formatNumber(q.Median), formatNumber(q.Low), formatNumber(q.High))
}

// bandSeries is a series of medians with the quartiles as its band.
func bandSeries(name string, xs []float64, qs []worm.Quartiles) plot.Series {
	s := plot.Series{Name: name, X: xs}
	for _, q := range qs {
		s.Y, s.Low, s.High = append(s.Y, q.Median), append(s.Low, q.Low), append(s.High, q.High)
	}
	return s
}
