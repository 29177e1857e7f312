package coresidencefigures

import (
	"fmt"
	"time"

	"dragnet/flow"
	"dragnet/internal/plot"
	"dragnet/reproduce/report"
)

func flowSeconds(n int) flow.Time { return flow.Time(n) * flow.Time(time.Second) }

// percent is k of n with its interval.
func percent(k, n int) string {
	low, high := report.Wilson(k, n)
	return fmt.Sprintf("%.1f [%.1f, %.1f]", 100*float64(k)/float64(n), 100*low, 100*high)
}

func (o overTime) table(name string) report.Table {
	t := report.Table{
		Title:  "Figures 2 and 5: after each number of tests, " + name,
		Header: []string{"tests", "mean alpha_min, co-resident", "elsewhere", "verified %", "Pearson: TPR %", "FPR %", "here: TPR %", "FPR %"},
	}
	for k, x := range o {
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(after[k]), fmt.Sprintf("%.3g", x.resident), fmt.Sprintf("%.3g", x.other), percent(x.verified, repetitions),
			percent(x.foundPearson, x.flooders), percent(x.overPearson, x.normal), percent(x.found, x.flooders), percent(x.wrong, x.pairs),
		})
	}
	return t
}

// line is one curve over the numbers of tests.
func (o overTime) line(name string, y func(tally) float64) plot.Series {
	s := plot.Series{Name: name}
	for k, x := range o {
		s.X, s.Y = append(s.X, float64(after[k])), append(s.Y, y(x))
	}
	return s
}

func (o overTime) certainty(name string) plot.Chart {
	return plot.Chart{
		Title: "Figure 2: the attacker's certainty, " + name, X: plot.Axis{Label: "tests"}, Y: plot.Axis{Label: "mean alpha_min", Log: true},
		Series: []plot.Series{
			o.line("co-resident", func(x tally) float64 { return x.resident }),
			o.line("elsewhere", func(x tally) float64 { return x.other }),
		},
	}
}

func (o overTime) race(name string) plot.Chart {
	return plot.Chart{
		Title: "Figure 5: to verify against to detect, " + name, X: plot.Axis{Label: "tests"}, Y: plot.Axis{Label: "share", Max: 1}, LegendLow: true,
		Series: []plot.Series{
			o.line("attacker has verified", func(x tally) float64 { return float64(x.verified) / repetitions }),
			o.line("all flooders named, here", func(x tally) float64 { return float64(x.allFound) / repetitions }),
			o.line("flooders found, Pearson", func(x tally) float64 { return float64(x.foundPearson) / float64(x.flooders) }),
			o.line("false alarms, Pearson", func(x tally) float64 { return float64(x.overPearson) / float64(x.normal) }),
		},
	}
}
