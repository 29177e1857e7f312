package coresidencefigures

import (
	"cmp"
	"fmt"
	"math"
	"slices"
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

func (o overTime) table() report.Table {
	t := report.Table{
		Title:  "Figures 2 and 5: after each number of tests, " + o.name,
		Header: []string{"tests", "mean alpha_min, co-resident", "elsewhere", "verified %", "Pearson: TPR %", "FPR %", "here: TPR %", "FPR %"},
	}
	for _, x := range o.after {
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(x.tests), fmt.Sprintf("%.3g", x.resident/float64(x.runs)), fmt.Sprintf("%.3g", x.other/float64(x.runs)), percent(x.verified, x.runs),
			percent(x.foundPearson, x.flooders), percent(x.overPearson, x.normal), percent(x.found, x.flooders), percent(x.wrong, x.pairs),
		})
	}
	return t
}

func raceTable() report.Table {
	return report.Table{
		Title:  "Time to verify against time to detect: medians over runs",
		Header: []string{"where", "attack", "runs", "tests to verify", "time", "tests to detect", "time", "detected no later than verified, %"},
	}
}

func (o overTime) raceRow(where, attack string) []string {
	inTime := 0
	for _, f := range o.firsts {
		if f.detected > 0 && (f.verified == 0 || f.detected <= f.verified) {
			inTime++
		}
	}
	byTests := func(tests func(first) int) []first {
		all := slices.Clone(o.firsts)
		never := func(n int) int {
			if n == 0 {
				return math.MaxInt
			}
			return n
		}
		slices.SortFunc(all, func(a, b first) int { return cmp.Compare(never(tests(a)), never(tests(b))) })
		return all
	}
	verified, detected := byTests(func(f first) int { return f.verified }), byTests(func(f first) int { return f.detected })
	v, d := verified[(len(verified)-1)/2], detected[(len(detected)-1)/2]
	return []string{where, attack, fmt.Sprint(len(o.firsts)), testsOf(v.verified), timeOf(v.verifiedIn), testsOf(d.detected), timeOf(d.detectedIn), percent(inTime, len(o.firsts))}
}

func testsOf(n int) string {
	if n == 0 {
		return "never"
	}
	return fmt.Sprint(n)
}

func timeOf(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(time.Second).String()
}

// line is one curve over the numbers of tests.
func (o overTime) line(name string, y func(tally) float64) plot.Series {
	s := plot.Series{Name: name}
	for _, x := range o.after {
		s.X, s.Y = append(s.X, float64(x.tests)), append(s.Y, y(x))
	}
	return s
}

func (o overTime) certainty() plot.Chart {
	low, high := math.Inf(1), 0.0
	for _, x := range o.after {
		low, high = min(low, x.resident/float64(x.runs)), max(high, x.other/float64(x.runs))
	}
	return plot.Chart{
		Title: "Figure 2: the attacker's certainty, " + o.name, X: plot.Axis{Label: "tests"}, Y: plot.Axis{Label: "mean alpha_min", Log: true, Min: low / 1.2, Max: high * math.Pow(high/low, 0.3)}, // the legend is above
		Series: []plot.Series{
			o.line("co-resident", func(x tally) float64 { return x.resident / float64(x.runs) }),
			o.line("elsewhere", func(x tally) float64 { return x.other / float64(x.runs) }),
		},
	}
}

func (o overTime) race() plot.Chart {
	return plot.Chart{
		Title: "Figure 5: to verify against to detect, " + o.name, X: plot.Axis{Label: "tests"}, Y: plot.Axis{Label: "share", Max: 1},
		Series: []plot.Series{
			o.line("attacker has verified", func(x tally) float64 { return float64(x.verified) / float64(x.runs) }),
			o.line("all flooders named, here", func(x tally) float64 { return float64(x.allFound) / float64(x.runs) }),
			o.line("flooders found, Pearson", func(x tally) float64 { return float64(x.foundPearson) / float64(x.flooders) }),
			o.line("false alarms, Pearson", func(x tally) float64 { return float64(x.overPearson) / float64(x.normal) }),
		},
	}
}
