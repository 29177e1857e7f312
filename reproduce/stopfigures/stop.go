//go:build linux

// Package stopfigures reproduces the tables of the STOP paper (Carrier and
// Shields 2002, section V): how long requests take, and the load they cause.
package stopfigures

import (
	"context"
	"fmt"
	"os"
	"time"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
)

// All lists the reproductions of the paper.
func All() []report.Reproduction {
	return []report.Reproduction{{
		Name: "stop-tables", Title: "STOP: the time and load of requests",
		Source: "Carrier and Shields, A Recursive Session Token Protocol, CERIAS TR 2002-41, tables I to III and figure 5",
		Run:    measureTables,
	}}
}

// rates are the requests per minute of table III, with the paper's load in
// percent on Linux and on OpenBSD.
var rates = []struct {
	perMinute      int
	linux, openBSD float64
}{{6, 0.12, 0.01}, {20, 0.26, 0.10}, {60, 0.79, 0.39}, {120, 1.55, 0.83}, {600, 7.01, 3.89}, {3000, 24.15, 13.04}, {6000, 35.92, 19.20}}

func measureTables(ctx context.Context, env report.Environment) (*report.Report, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("stop-tables examines processes of other users: run it as root")
	}
	dir, err := os.MkdirTemp("", "dragnet-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	memory, err := memoryDir()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(memory)
	b, err := newBench(dir, memory)
	if err != nil {
		return nil, err
	}
	defer b.close()
	return b.makeReport(ctx, env)
}

func (b *bench) makeReport(ctx context.Context, env report.Environment) (*report.Report, error) {
	r := report.New(All()[0])
	line, err := startTree()
	if err != nil {
		return nil, err
	}
	defer line.killAll()
	if err := line.awaitProcesses(b.finder, 6); err != nil {
		return nil, err
	}
	env.Progress("table I", 1)
	if err := tableI(ctx, r, b, line); err != nil {
		return nil, err
	}
	env.Progress("table III", 1)
	if err := tableIII(ctx, r, b, line); err != nil {
		return nil, err
	}
	env.Progress("table II", 1)
	if err := tableII(ctx, r, b); err != nil {
		return nil, err
	}
	addExplanation(r, b)
	return r, nil
}

func formatMS(d time.Duration) string {
	return fmt.Sprintf("%.3f", float64(d)/float64(time.Millisecond))
}

func tableI(ctx context.Context, r *report.Report, b *bench, s *structure) error {
	cells := []string{"here, Linux"}
	for _, m := range []struct {
		times int
		do    func() error
	}{
		{2000, func() error { return b.serveID(s) }},
		{400, func() error { return b.serveSave(s, nil) }},
		{400, func() error { return b.serveSave(s, b.memory) }},
		{100, func() error { return b.serveSave(s, b.disk) }},
	} {
		d, err := b.medianTime(ctx, m.times, m.do)
		if err != nil {
			return err
		}
		cells = append(cells, formatMS(d))
	}
	r.Tables = append(r.Tables, report.Table{
		Title:  "Table I: median time of a request, 6 processes, ms",
		Header: []string{"platform", "ID", "SV", "SV with record, no disk", "SV with file on disk"},
		Rows:   [][]string{{"paper, Linux 2.2", "0.533", "5.718", "", "8.243"}, {"paper, OpenBSD 2.8", "0.803", "2.421", "", "7.871"}, cells},
	})
	return nil
}

func tableII(ctx context.Context, r *report.Report, b *bench) error {
	s, err := startFigure4()
	if err != nil {
		return err
	}
	defer s.killAll()
	if err := s.awaitProcesses(b.finder, 14); err != nil {
		return err
	}
	alone, err := b.medianTime(ctx, 300, func() error { return b.serveSave(s, nil) })
	if err != nil {
		return err
	}
	others, err := startBystanders(100)
	defer others.killAll()
	if err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // until the shells have executed their commands
	crowded, err := b.medianTime(ctx, 300, func() error { return b.serveSave(s, nil) })
	if err != nil {
		return err
	}
	ratio := func(a, b float64) string { return fmt.Sprintf("%.2f", b/a) }
	r.Tables = append(r.Tables, report.Table{
		Title:  "Table II: median time of SV, 14 processes, ms",
		Header: []string{"platform", "alone", "with 100 processes", "ratio"},
		Rows: [][]string{
			{"paper, Linux 2.2", "63.354", "224.589", ratio(63.354, 224.589)}, {"paper, OpenBSD 2.8", "10.256", "32.059", ratio(10.256, 32.059)},
			{"here, Linux", formatMS(alone), formatMS(crowded), ratio(float64(alone), float64(crowded))},
		},
	})
	return nil
}

func tableIII(ctx context.Context, r *report.Report, b *bench, s *structure) error {
	t := report.Table{
		Title:  "Table III and figure 5: load of SV requests, percent of one processor",
		Header: []string{"requests/min", "paper, Linux 2.2", "paper, OpenBSD 2.8", "here, Linux"},
	}
	var x, here, linux, openBSD []float64
	for _, rate := range rates {
		// Long enough for ten requests, within reason.
		lasting := min(max(2*time.Second, 10*time.Minute/time.Duration(rate.perMinute)), 21*time.Second)
		load, err := b.loadOf(ctx, rate.perMinute, lasting, func() error { return b.serveSave(s, b.disk) })
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, []string{fmt.Sprint(rate.perMinute), fmt.Sprintf("%.2f", rate.linux), fmt.Sprintf("%.2f", rate.openBSD), fmt.Sprintf("%.2f", load)})
		x, here = append(x, float64(rate.perMinute)), append(here, load)
		linux, openBSD = append(linux, rate.linux), append(openBSD, rate.openBSD)
	}
	r.Tables = append(r.Tables, t)
	r.Plots = append(r.Plots, report.Plot{Name: "stop-figure5", Title: "Figure 5: load of requests", Columns: 1, Drawings: []plot.Drawing{plot.Chart{
		Title: "Load of SV requests", X: plot.Axis{Label: "requests per minute"}, Y: plot.Axis{Label: "percent of one processor"},
		Series: []plot.Series{{Name: "paper, Linux 2.2", X: x, Y: linux}, {Name: "paper, OpenBSD 2.8", X: x, Y: openBSD}, {Name: "here", X: x, Y: here}},
	}}})
	return nil
}

func addExplanation(r *report.Report, b *bench) {
	how := "one eBPF pass over all descriptors"
	if why := b.finder.Limits(); why != nil {
		how = why.Error()
	}
	r.Say("The paper measured on a 600 MHz Pentium III; most of the difference is the machine's. What is ours is the shape: " +
		"the paper searched all descriptors once for every pipe and socket it met, so 100 processes that had nothing to do with the " +
		"request made it 3.1 to 3.5 times slower; one pass and a closure in memory make it little slower.")
	r.Say("Look-ups used %s. Each SV saves what the paper saves and executable hashes, control groups and sessions.", how)
	r.Say("The paper's figure 4 is not legible in our copy: its counts are kept (14 processes, 3 groups, 6 pipes and TCP connections), not its edges. " +
		"Table III here is processor time taken, measured while requests come at the rate; the paper timed how much later a memory-bound program ended.")
}
