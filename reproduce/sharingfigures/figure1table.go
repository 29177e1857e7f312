package sharingfigures

import (
	"fmt"
	"slices"

	"dragnet/ask/survey"
	"dragnet/internal/plot"
	"dragnet/reproduce/report"
)

// measure is one number of the paper, compared with ours.
type measure struct {
	name, paper string
	of          func(*survey.Result) float64
	print       func(float64) string
}

func formatWhole(v float64) string { return fmt.Sprintf("%.0f", v) }

func listMeasures() []measure {
	product := func(of func(*survey.Row) float64) func(*survey.Result) float64 {
		return func(r *survey.Result) float64 { return of(&r.Hashes[0]) }
	}
	upTo := func(tuples uint64) func(*survey.Result) float64 {
		return product(func(h *survey.Row) float64 { return h.Sizes.UpTo(tuples) })
	}
	return []measure{
		{"connections", "6.2 million", func(r *survey.Result) float64 { return float64(r.Connections) }, formatWhole},
		{"distinct (destination, protocol, port)", "not given", func(r *survey.Result) float64 { return float64(r.Tuples) }, formatWhole},
		{"connections whose key is that of one tuple", "11 %", product(func(h *survey.Row) float64 { return h.UniqueConnections }), survey.Percent},
		{"keys that stand for one tuple", "about two thirds", upTo(1), survey.Percent},
		{"keys that stand for at most 10", "90 %", upTo(10), survey.Percent},
		{"keys that stand for at most 100", "nearly all", upTo(100), survey.Percent},
		{"answers to a question, median", "not given", product(func(h *survey.Row) float64 { return h.Answers.Median }), formatWhole},
		{"answers to a question, 99 %", "not given", product(func(h *survey.Row) float64 { return h.Answers.P99 }), formatWhole},
	}
}

// comparisonTable has the paper's numbers and ours in columns: the synthetic
// day as median and range over seeds.
func comparisonTable(seeds, logs []*day) report.Table {
	t := report.Table{
		Title:  "The paper's hash, the product of the bytes of (destination, protocol, destination port)",
		Header: []string{"", "paper", fmt.Sprintf("synthetic day (%d seeds)", len(seeds))},
	}
	for _, l := range logs {
		t.Header = append(t.Header, l.name)
	}
	for _, m := range listMeasures() {
		row := []string{m.name, m.paper, formatOver(seeds, m)}
		for _, l := range logs {
			row = append(row, m.print(m.of(l.result)))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func formatOver(seeds []*day, m measure) string {
	var all []float64
	for _, d := range seeds {
		all = append(all, m.of(d.result))
	}
	slices.Sort(all)
	middle, low, high := m.print(all[len(all)/2]), m.print(all[0]), m.print(all[len(all)-1])
	if low == high {
		return middle
	}
	return fmt.Sprintf("%s [%s .. %s]", middle, low, high)
}

// sensitivityTable shows the effect of each assumption on the same numbers.
func sensitivityTable(first *day, changed []*day) report.Table {
	t := report.Table{Title: "What the synthetic day's assumptions decide (seed " + fmt.Sprint(first.config.Seed) + ")", Header: []string{"assumption"}}
	short := []string{"connections", "tuples", "unique connections", "unique keys", "keys <= 10", "keys <= 100", "answers, median", "answers, 99 %"}
	t.Header = append(t.Header, short...)
	paper := []string{"the paper's day"}
	for _, m := range listMeasures() {
		paper = append(paper, m.paper)
	}
	t.Rows = append(t.Rows, paper)
	for _, d := range slices.Concat([]*day{first}, changed) {
		row := []string{d.name}
		for _, m := range listMeasures() {
			row = append(row, m.print(m.of(d.result)))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// productChart is Figure 1 with the points given in the paper's text.
func productChart(seeds, changed, logs []*day) plot.Chart {
	c := plot.Chart{
		Title: "Tuples per key of the byte product",
		X:     plot.Axis{Label: "(destination, protocol, port) tuples per key", Log: true, Min: 1, Max: 200},
		Y:     plot.Axis{Label: "share of keys with at most that many", Min: 0, Max: 1},
	}
	c.Series = append(c.Series, plot.Series{Name: "paper's text", Kind: plot.Dots, X: []float64{1, 10}, Y: []float64{2. / 3, 0.9}})
	for _, d := range slices.Concat(seeds[:1], changed[len(changed)-1:], logs) {
		x, y := d.productRow().Sizes.Curve()
		x, y = append([]float64{1}, x...), append([]float64{0}, y...)
		c.Series = append(c.Series, plot.Series{Name: d.name, Kind: plot.Step, X: append(x, 200), Y: append(y, 1)})
	}
	return c
}
