package wormfigures

import (
	"fmt"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/worm"
)

// figure22 simulates the five curves of Figure 2-2 and, for the fourth, the
// mean field that matches its 80 days.
func figure22(x *reproduction) error {
	t := report.Table{Title: "Time until 5 % (for full DAW: what is infected in the end)", Header: []string{"defence", "paper", "closed form", "limiter, median (quartiles)"}}
	hours := plot.Chart{Title: "Figure 2-2, first 18 hours", X: plot.Axis{Label: "hours", Min: 0, Max: 18}, Y: plot.Axis{Label: "infected share", Min: 0, Max: 1}}
	days := plot.Chart{Title: "Figure 2-2, 100 days", X: plot.Axis{Label: "days", Min: 0, Max: 100}, Y: plot.Axis{Label: "infected share", Min: 0, Max: 1}}
	w := world{10000, 10}
	for _, curve := range []struct {
		defence     worm.Defence
		name, paper string
		scale       float64 // of a host's daily scans, for the closed form
		unit        float64
		unitName    string
		chart       *plot.Chart
	}{
		{worm.None, "no algorithm", "minutes", 10 * worm.Day, 60, "min", &hours},
		{worm.Basic, "basic", "hours", 1 * worm.Day, 3600, "h", &hours},
		{worm.Temporal, "temporal", "tens of days", 2 * 300, worm.Day, "d", &days},
		{worm.Both, "temporal + spatial", "80 d", 0, worm.Day, "d", &days},
		{worm.Full, "DAW", "0.000034 of the hosts", 0, worm.Day, "d", &days},
	} {
		c := configurationFor(w, curve.defence, worm.Agent)
		c.Until, c.MaxDays = 0.95, 200
		rs, err := x.runEnsemble(c, x.size.few)
		if err != nil {
			return err
		}
		curve.chart.Series = append(curve.chart.Series, spreadSeries(curve.name, rs, curve.chart.X.Max, map[*plot.Chart]float64{&hours: 3600, &days: worm.Day}[curve.chart]))
		cells := []string{curve.name, curve.paper, "-"}
		switch curve.defence {
		case worm.Full:
			var shares []float64
			stopped := 0
			for _, r := range rs {
				shares = append(shares, r.Share())
				if r.Stopped {
					stopped++
				}
			}
			q := worm.QuartilesOf(shares)
			cells = append(cells, fmt.Sprintf("%.2g (%.2g..%.2g), %d of %d runs stopped", q.Median, q.Low, q.High, stopped, len(rs)))
		default:
			if curve.scale > 0 {
				// k networks of average size, each sending for all its hosts.
				v := float64(w.k) * w.z
				cells[2] = formatNumber(worm.TimeTo(share5, w.z, curve.scale/worm.Day, v, 1<<32)/curve.unit/reachOfWhole) + " " + curve.unitName
			} else if mean, err := worm.MeanField(share5, float64(w.k), w.z, 1<<32, func(float64) float64 { return 3000 / worm.Day }, 0, 300*worm.Day); err != nil {
				return err
			} else {
				cells[2] = formatNumber(mean/worm.Day) + " d (mean field, phi a day)"
			}
			var when []float64
			for _, r := range rs {
				when = append(when, r.When(share5)/curve.unit)
			}
			cells = append(cells, formatQuartiles(worm.QuartilesOf(when))+" "+curve.unitName)
		}
		t.Rows = append(t.Rows, cells)
	}
	x.Tables = []report.Table{t}
	x.Plots = []report.Plot{{Name: x.Name, Title: "Figure 2-2", Columns: 2, Drawings: []plot.Drawing{hours, days}}}
	x.Say("k = 10000 networks, z = 10 vulnerable hosts on average, lambda = 1/s, Omega = 300, Phi = 3000, n = 7 days, 10 scans per second, %d seeds per curve (from 1). Bands are quartiles.", x.size.few)
	x.Say("The closed forms for the first three take every found host with its whole network: a network of x hosts is found x times as often and brings x hosts, so infection grows with the mean of x^2 over the mean of x, twice z for exponential sizes. For the temporal limit it is the bound of 2*Omega a day that is in the closed form; the limiter passes 2*Omega only on a host's first day, Omega on each later one.")
	x.Say("The paper's 80 days are met by the mean field with Phi failing scans per network and day; the limiter itself lets small networks send less (Omega per host) and large ones up to twice Phi. The paper's single run stopped at 0.000034 of the hosts, a few hosts of the first network; in ours the worm sometimes gets further, because 2*n*Phi*V/N = %.2f is close to 1.", worm.Reproduction(7, 3000, 100_000, 1<<32))
	return nil
}

// reachOfWhole is how much faster infection grows if whole networks are
// infected instead of single hosts: E[x^2]/E[x] = 2z+1 hosts at a time for
// geometric sizes with z = 10.
const reachOfWhole = 21

// spreadSeries is the median and quartiles of the infected share over time.
func spreadSeries(name string, rs []*worm.Outbreak, most, unit float64) plot.Series {
	const points = 120
	var xs []float64
	var qs []worm.Quartiles
	for i := range points + 1 {
		at := most * float64(i) / points
		shares := make([]float64, len(rs))
		for j, r := range rs {
			shares[j] = r.At(at * unit)
		}
		xs, qs = append(xs, at), append(qs, worm.QuartilesOf(shares))
	}
	return bandSeries(name, xs, qs)
}
