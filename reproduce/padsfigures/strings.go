package padsfigures

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/signature/baseline"
	"dragnet/simulate/variants"
)

// figure19 learns string signatures from a growing number of samples.
func figure19(ctx context.Context, x *experiment, r *report.Report) error {
	template, err := variants.Family("alder", x.seed)
	if err != nil {
		return err
	}
	recipe := variants.Published()
	samples := recipe.MakeAll(template, x.seed, 0, x.train)
	tests := recipe.MakeAll(template, x.seed, 1<<32, x.test)
	length := plot.Series{Name: "longest common substring"}
	table := report.Table{Title: "String signatures against the number of samples (paper: the substring shrinks, its false positives explode)", Header: []string{"samples", "method", "length", "FN", "FP"}}
	errors := plot.Chart{Title: "Errors", X: plot.Axis{Label: "samples"}, Y: plot.Axis{Label: "rate", Min: 0, Max: 1}}
	series := map[string]*plot.Series{}
	for _, n := range []int{2, 3, 5, 10, 20, 40, 70, 100} {
		if n > len(samples) || ctx.Err() != nil {
			break
		}
		x.progress(fmt.Sprintf("%d samples", n), 1)
		lcs := baseline.LearnSubstring(samples[:n])
		length.X, length.Y = append(length.X, float64(n)), append(length.Y, float64(len(lcs)))
		sub := baseline.LearnSubsequence(samples[:n])
		bytes := 0
		for _, t := range sub {
			bytes += len(t)
		}
		for _, d := range []struct {
			name   string
			length int
			baseline.Detector
		}{{"substring", len(lcs), lcs}, {"subsequence", bytes, sub}, {"Bayes", 0, baseline.LearnBayes(samples[:n], x.normal[:len(x.normal)/2], 0.01)}} {
			missed, alarms := errorsOf(d, tests, x.normal)
			for _, e := range []struct {
				name  string
				value float64
			}{{"FN " + d.name, float64(missed) / float64(len(tests))}, {"FP " + d.name, float64(alarms) / float64(len(x.normal))}} {
				s := series[e.name]
				if s == nil {
					s = &plot.Series{Name: e.name, Dashed: e.name[1] == 'N'}
					series[e.name] = s
				}
				s.X, s.Y = append(s.X, float64(n)), append(s.Y, e.value)
			}
			table.Rows = append(table.Rows, []string{strconv.Itoa(n), d.name, strconv.Itoa(d.length), formatRate(missed, len(tests)), formatRate(alarms, len(x.normal))})
		}
	}
	for _, name := range []string{"FP substring", "FN substring", "FP subsequence", "FN subsequence", "FP Bayes", "FN Bayes"} {
		if s := series[name]; s != nil {
			errors.Series = append(errors.Series, *s)
		}
	}
	r.Tables = append(r.Tables, table)
	if fn, fp := series["FN Bayes"], series["FP Bayes"]; fn != nil && fn.Y[len(fn.Y)-1]+fp.Y[len(fp.Y)-1] <= 0.02 {
		r.Say("Bayes does as well as distributions do: with all samples it misses %.1f %% at %.1f %% false positives, as these worms have many short strings that most variants keep. Against the paper's substring, ours begins short, as a tenth of the bytes differ in each variant.",
			100*fn.Y[len(fn.Y)-1], 100*fp.Y[len(fp.Y)-1])
	}
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "String signatures", Columns: 2, Drawings: []plot.Drawing{
		plot.Chart{Title: "Length of the longest common substring", X: plot.Axis{Label: "samples"}, Y: plot.Axis{Label: "bytes"}, Series: []plot.Series{length}}, errors}})
	return ctx.Err()
}

func errorsOf(d baseline.Detector, worms, normal [][]byte) (missed, alarms int) {
	for _, p := range worms {
		if !d.Match(p) {
			missed++
		}
	}
	for _, p := range normal {
		if d.Match(p) {
			alarms++
		}
	}
	return missed, alarms
}

func barChart(title string, h [256]float64) plot.Chart {
	s := plot.Series{Kind: plot.Bars}
	for x, v := range h {
		s.X, s.Y = append(s.X, float64(x)), append(s.Y, v)
	}
	return plot.Chart{Title: title, X: plot.Axis{Label: "byte value"}, Y: plot.Axis{Label: "frequency"}, Series: []plot.Series{s}}
}

// paddedVariant is a variant with ratio benign bytes per malicious one.
func (x *experiment) paddedVariant(ratio, i int) (variants.Variant, error) {
	template, err := variants.Family("alder", x.seed)
	if err != nil {
		return variants.Variant{}, err
	}
	recipe := variants.Published()
	recipe.CarrierMin = ratio * 1556 // the worm's 1,400 bytes and their garbage
	recipe.CarrierMax = recipe.CarrierMin
	recipe.Carrier = x.mixedCarrier
	return recipe.Make(template, x.seed, 1<<33+uint64(i)), nil
}

// mixedCarrier resembles normal traffic as a whole: pieces of many sessions.
func (x *experiment) mixedCarrier(rng *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		b = append(b, variants.Session(rng, min(n-len(b), 200))...)
	}
	return b
}

func figure20(_ context.Context, x *experiment, r *report.Report) error {
	var normal []byte
	for _, p := range x.normal[:min(100, len(x.normal))] {
		normal = append(normal, p...)
	}
	worm, err := x.paddedVariant(0, 0)
	if err != nil {
		return err
	}
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "Byte frequencies", Columns: 2, Drawings: []plot.Drawing{
		barChart("100 normal sessions", baseline.Histogram(normal)), barChart("one worm without carrier", baseline.Histogram(worm.Bytes))}})
	return x.measurePAYL(r)
}

func figure21(_ context.Context, x *experiment, r *report.Report) error {
	var drawings []plot.Drawing
	for _, ratio := range []int{1, 9} {
		v, err := x.paddedVariant(ratio, 0)
		if err != nil {
			return err
		}
		drawings = append(drawings, barChart(fmt.Sprintf("worm : normal = 1:%d", ratio), baseline.Histogram(v.Bytes)))
	}
	r.Plots = append(r.Plots, report.Plot{Name: r.Name, Title: "Byte frequencies of padded variants", Columns: 2, Drawings: drawings})
	return x.measurePAYL(r)
}

// measurePAYL measures what the histograms show: how often byte frequencies
// detect variants with growing padding.
func (x *experiment) measurePAYL(r *report.Report) error {
	half := len(x.normal) / 2
	d := baseline.LearnFrequencies(x.normal[:half], 0.01)
	table := report.Table{Title: "Byte frequencies as a detector, set to 1 % false alarms (paper: fails at 1:9)", Header: []string{"worm:normal", "detected", "FP"}}
	_, alarms := errorsOf(d, nil, x.normal[half:])
	for _, ratio := range []int{0, 1, 3, 9, 27} {
		n := min(x.test, 200)
		found := 0
		for i := range n {
			v, err := x.paddedVariant(ratio, i)
			if err != nil {
				return err
			}
			if d.Match(v.Bytes) {
				found++
			}
		}
		table.Rows = append(table.Rows, []string{fmt.Sprintf("1:%d", ratio), formatRate(found, n), formatRate(alarms, len(x.normal)-half)})
	}
	r.Tables = append(r.Tables, table)
	return nil
}
