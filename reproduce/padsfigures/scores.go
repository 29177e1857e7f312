package padsfigures

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	learn "dragnet/signature/pads"
	"dragnet/simulate/variants"
)

// figure11 traces three runs each of EM and Gibbs, as published: random starts,
// one occurrence per sample, no other improvements.
func figure11(ctx context.Context, x *experiment, r *report.Report) error {
	template, err := variants.Family("alder", x.seed)
	if err != nil {
		return err
	}
	samples := variants.Published().MakeAll(template, x.seed, 0, x.train)
	const width, runs, rounds = 10, 3, 15
	chart := plot.Chart{Title: "Mean score of the samples", X: plot.Axis{Label: "recalculations per variant"}, Y: plot.Axis{Label: "mean matching score (nats per byte)"}}
	table := report.Table{Title: "Mean score after 1, 5 and 15 recalculations per variant (paper: global maximum 7.54; EM sticks below, Gibbs reaches it)", Header: []string{"method", "run", "1", "5", "15"}}
	for _, method := range []learn.Method{learn.EM, learn.Gibbs} {
		var mutex sync.Mutex // guards curves, which concurrent runs trace to
		curves := make([][]float64, runs)
		o := learn.Options{Width: width, Method: method, Restarts: runs, Seed: x.seed, Published: true, Epsilon: -1, Rounds: rounds, Workers: 2,
			Trace: func(run, _ int, mean float64) {
				mutex.Lock()
				defer mutex.Unlock()
				curves[run] = append(curves[run], mean)
			}}
		x.progress(string(method), 1)
		if _, err := learn.Learn(ctx, samples, x.clean.Background, o); err != nil {
			return err
		}
		for run, y := range curves {
			s := plot.Series{Name: fmt.Sprintf("%s run %d", method, run+1), Dashed: method == learn.EM, Y: y}
			for i := range y {
				s.X = append(s.X, float64(i+1))
			}
			chart.Series = append(chart.Series, s)
			at := func(i int) string { return fmt.Sprintf("%.2f", y[min(i, len(y))-1]) }
			table.Rows = append(table.Rows, []string{string(method), strconv.Itoa(run + 1), at(1), at(5), at(rounds)})
		}
	}
	ours, err := learn.Learn(ctx, samples, x.clean.Background, learn.Options{Width: width, Seed: x.seed, Normal: x.clean.Strings, Restarts: 2})
	if err != nil {
		return err
	}
	table.Rows = append(table.Rows, []string{"ours (shared strings, shifts)", "best of 2", "", "", fmt.Sprintf("%.2f", ours.Mean)})
	r.Tables = append(r.Tables, table)
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: chart.Title, Drawings: []plot.Drawing{chart}})
	r.Say("The paper does not give W for this figure; here it is %d. The height depends on how rare the worm's bytes are in normal traffic, so only shapes compare.", width)
	return nil
}

// figure13 shows the training score of all families and both methods.
func figure13(ctx context.Context, x *experiment, r *report.Report) error {
	byWidth := plot.Chart{Title: "Mean score against width", X: plot.Axis{Label: "signature width W", Log: true}, Y: plot.Axis{Label: "mean matching score"}}
	byLength := plot.Chart{Title: "Mean score against carrier length (W = 50)", X: plot.Axis{Label: "mean benign bytes per variant"}, Y: plot.Axis{Label: "mean matching score", Min: 0.001, Max: 9}}
	table := report.Table{Title: "Mean score of the samples (paper: falls with W from 10 to 1000, does not care about length)", Header: []string{"family", "method", "by", "value", "score"}}
	for _, family := range variants.Names() {
		for _, method := range []learn.Method{learn.Gibbs, learn.EM} {
			width := plot.Series{Name: family + " " + string(method), Dashed: method == learn.EM}
			length := width
			for _, w := range x.widths {
				t, err := x.learnOnce(ctx, family, method, w, 0, x.seed)
				if err != nil {
					return err
				}
				width.X, width.Y = append(width.X, float64(w)), append(width.Y, t.training)
				table.Rows = append(table.Rows, []string{family, string(method), "W", strconv.Itoa(w), fmt.Sprintf("%.2f", t.training)})
			}
			for _, l := range x.lengths {
				t, err := x.learnOnce(ctx, family, method, 50, l, x.seed)
				if err != nil {
					return err
				}
				length.X, length.Y = append(length.X, float64(l)), append(length.Y, t.training)
				table.Rows = append(table.Rows, []string{family, string(method), "carrier", strconv.Itoa(l), fmt.Sprintf("%.2f", t.training)})
			}
			byWidth.Series, byLength.Series = append(byWidth.Series, width), append(byLength.Series, length)
		}
	}
	r.Tables = append(r.Tables, table)
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "Mean score", Columns: 2, Drawings: []plot.Drawing{byWidth, byLength}})
	return nil
}

// figure14 is figures 3-14 to 3-17: test scores of one family.
func figure14(ctx context.Context, x *experiment, r *report.Report, family string) error {
	table := report.Table{Title: "Mean test scores (paper: worm always above 0, normal always below)", Header: []string{"method", "by", "value", "worm", "lowest worm", "normal", "highest normal"}}
	var drawings []plot.Drawing
	for _, by := range []string{"W", "carrier"} {
		values, label := x.widths, "signature width W"
		if by == "carrier" {
			values, label = x.lengths, "mean benign bytes per variant"
		}
		chart := plot.Chart{Title: family, X: plot.Axis{Label: label, Log: by == "W"}, Y: plot.Axis{Label: "mean matching score"}}
		for _, method := range []learn.Method{learn.Gibbs, learn.EM} {
			worm := plot.Series{Name: "worm " + string(method), Kind: plot.Dots}
			normal := plot.Series{Name: "normal " + string(method), Kind: plot.Dots}
			for _, v := range values {
				width, length := v, 0
				if by == "carrier" {
					width, length = 50, v
				}
				t, err := x.runTrial(ctx, family, method, width, length, x.seed)
				if err != nil {
					return err
				}
				low, high := t.worm[0], t.normal[0]
				for _, s := range t.worm {
					low = min(low, s)
				}
				for _, s := range t.normal {
					high = max(high, s)
				}
				worm.X, worm.Y = append(worm.X, float64(v)), append(worm.Y, meanOf(t.worm))
				normal.X, normal.Y = append(normal.X, float64(v)), append(normal.Y, meanOf(t.normal))
				table.Rows = append(table.Rows, []string{string(method), by, strconv.Itoa(v), fmt.Sprintf("%.2f", meanOf(t.worm)), fmt.Sprintf("%.2f", low), fmt.Sprintf("%.2f", meanOf(t.normal)), fmt.Sprintf("%.2f", high)})
			}
			chart.Series = append(chart.Series, worm, normal)
		}
		drawings = append(drawings, chart)
	}
	r.Tables = append(r.Tables, table)
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "Scores of " + family, Columns: 2, Drawings: drawings})
	return nil
}

// figure18 counts errors at the published threshold and at the calibrated one.
func figure18(ctx context.Context, x *experiment, r *report.Report) error {
	table := report.Table{Title: "Errors with 95 % intervals over all seeds (paper: neither ever above 0.5 %)",
		Header: []string{"family", "method", "W", "FN at 0", "FP at 0", "FN calibrated", "FP calibrated", "threshold", "model FP per GB"}}
	var drawings []plot.Drawing
	for _, family := range variants.Names() {
		chart := plot.Chart{Title: family, X: plot.Axis{Label: "signature width W", Log: true}, Y: plot.Axis{Label: "error rate at threshold 0"}}
		for _, method := range []learn.Method{learn.Gibbs, learn.EM} {
			fp := plot.Series{Name: "FP " + string(method), Dashed: method == learn.EM}
			fn := plot.Series{Name: "FN " + string(method), Dashed: method == learn.EM}
			for _, w := range x.widths {
				var missed, alarms, missedC, alarmsC, worms, normals int
				var last *trial
				for seed := range x.seeds {
					t, err := x.runTrial(ctx, family, method, w, 0, x.seed+uint64(seed))
					if err != nil {
						return err
					}
					m, a := t.errorRates(0)
					mc, ac := t.errorRates(t.signature.Parts[0].Threshold)
					missed, alarms, missedC, alarmsC = missed+m, alarms+a, missedC+mc, alarmsC+ac
					worms, normals, last = worms+len(t.worm), normals+len(t.normal), t
				}
				for _, s := range []struct {
					series *plot.Series
					k, n   int
				}{{&fp, alarms, normals}, {&fn, missed, worms}} {
					low, high := report.Wilson(s.k, s.n)
					s.series.X, s.series.Y = append(s.series.X, float64(w)), append(s.series.Y, float64(s.k)/float64(s.n))
					s.series.Low, s.series.High = append(s.series.Low, low), append(s.series.High, high)
				}
				p := last.signature.Parts[0]
				table.Rows = append(table.Rows, []string{family, string(method), strconv.Itoa(w), formatRate(missed, worms), formatRate(alarms, normals),
					formatRate(missedC, worms), formatRate(alarmsC, normals), fmt.Sprintf("%.2f", p.Threshold), fmt.Sprintf("%.1g", p.FalseAlarms)})
			}
			chart.Series = append(chart.Series, fp, fn)
		}
		drawings = append(drawings, chart)
	}
	r.Tables = append(r.Tables, table)
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "False positives and negatives", Columns: 2, Drawings: drawings})
	return nil
}
