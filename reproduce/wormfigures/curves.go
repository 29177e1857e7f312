package wormfigures

import (
	"fmt"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/worm"
)

func figure23(x *reproduction) error {
	err := x.plotAgainst("omega", 700, worm.Temporal, func(c *worm.Configuration, v float64) { c.Omega = v },
		func(w world, omega float64) float64 {
			return worm.TableTime(share5, float64(w.k), w.z, w.z*omega, 2, 1<<32)
		})
	x.Say("The paper's one figure in the text: k = 10000, z = 10, Omega = 300 (printed 3000): 63.6 days, which is Table 2-2's cell for Phi = z*Omega = 3000. The closed form is that of the table with Phi = z*Omega: it takes every network to have z scanning hosts, while in the simulation a network found has 2z+1 on average (large ones are found more often) and sends accordingly more.")
	x.Say("The paper calls the temporal limit as strong as the spatial one where Phi = z*Omega. In the simulation it is weaker, about twofold: at k = 10000, z = 10 compare Omega = 350 here with Phi = 3500 in Figure 2-4. A network that is found has 2z+1 hosts on average, since large ones are found more often: what Omega lets it send grows with them, what Phi lets it send does not.")
	return err
}

func figure24(x *reproduction) error {
	err := x.plotAgainst("phi", 7000, worm.Spatial, func(c *worm.Configuration, v float64) { c.Phi = v },
		func(w world, phi float64) float64 { return worm.TableTime(share5, float64(w.k), w.z, phi, 2, 1<<32) })
	x.Say("The paper's one figure in the text: k = 10000, z = 10, Phi = 7000: 27.2 days. That is Table 2-2's cell (27.1), and so the closed form. The simulation with 2*Phi is half again as fast: the closed form begins with one host of k*z, and ln(0.05*k*z) = 8.5 times e-fold until 5 %%; in the simulation whole networks fall, the large ones first, so that 5 %% of the hosts are some 2.4 %% of the networks, 240 of them, which takes 5.5.")
	return err
}

// plotAgainst plots the days until 5 % against a parameter, with budgets Twice
// and Once and the closed form.
func (x *reproduction) plotAgainst(name string, most float64, d worm.Defence, set func(*worm.Configuration, float64), closed func(world, float64) float64) error {
	t := report.Table{Title: "Days until 5 %", Header: []string{"k", "z", name, "closed form", "twice " + name + " a day", name + " a day"}}
	chart := plot.Chart{Title: x.Title, X: plot.Axis{Label: name}, Y: plot.Axis{Label: "days until 5 %", Min: 0, Max: 300}}
	for _, w := range x.size.worlds {
		var xs, ys []float64
		var twice []worm.Quartiles
		for i := range x.size.points {
			v := most * float64(i+1) / float64(x.size.points)
			cells := []string{fmt.Sprint(w.k), formatNumber(w.z), formatNumber(v)}
			xs, ys = append(xs, v), append(ys, closed(w, v)/worm.Day)
			cells = append(cells, formatNumber(ys[i]))
			for _, b := range []worm.Budget{worm.Twice, worm.Once} {
				c := configurationFor(w, d, b)
				set(&c, v)
				q, err := x.daysTo(share5, c)
				if err != nil {
					return err
				}
				if b == worm.Twice {
					twice = append(twice, q)
				}
				cells = append(cells, formatQuartiles(q))
			}
			t.Rows = append(t.Rows, cells)
		}
		chart.Series = append(chart.Series, bandSeries(w.String(), xs, twice))
		if w == (world{10000, 10}) {
			chart.Series = append(chart.Series, plot.Series{Name: "closed form, " + w.String(), Dashed: true, X: xs, Y: ys})
		}
	}
	x.Tables = []report.Table{t}
	x.Plots = []report.Plot{{Name: x.Name, Title: chart.Title, Drawings: []plot.Drawing{chart}}}
	x.Say("Median and quartiles over %d seeds per point (from 1). The curves and bands show twice %s a day, the bound of the theorems.", x.size.seeds, name)
	return nil
}

func figure25(x *reproduction) error {
	err := x.plotBlocking("finally infected share", plot.Axis{Label: "infected share", Min: 0, Max: 1}, func(r *worm.Outbreak) float64 { return r.Share() })
	x.Say("Theorem 1's condition: below 1, 2*n*Phi*V/N (R in the table) stops the worm; the number of networks is then 1/(1-R) on average. The paper says nearly all hosts fall for k = 20000, z = 20, n = 10.")
	return err
}

func figure26(x *reproduction) error {
	err := x.plotBlocking("days until the last infection, of runs above 5 %", plot.Axis{Label: "days"}, func(r *worm.Outbreak) float64 {
		if r.Share() <= share5 {
			return nothing
		}
		return r.Last / worm.Day
	})
	x.Say("As in the paper, only runs that infect more than 5 %% are shown. Its one figure in the text: k = 20000, z = 20, n = 10: 71.7 days. It lies between our two budgets, the bound of the theorems (2*Phi) and half of it, as do the cells of Table 2-2 for z = 10.")
	return err
}

// nothing marks a run that is left out of a figure.
const nothing = -1

// plotBlocking runs whole epidemics under full DAW for n = 1 to 10.
func (x *reproduction) plotBlocking(what string, axis plot.Axis, value func(*worm.Outbreak) float64) error {
	t := report.Table{Title: what, Header: []string{"k", "z", "n", "R", "2 limits a day", "runs", "1 limit a day", "runs"}}
	chart := plot.Chart{Title: x.Title, X: plot.Axis{Label: "n (days)", Min: 0, Max: 10}, Y: axis}
	for _, w := range x.size.worlds {
		var xs []float64
		var twice []worm.Quartiles
		for i := range min(10, x.size.points+2) {
			n := float64(i + 1)
			r := worm.Reproduction(n, 3000, float64(w.k)*w.z, 1<<32)
			cells := []string{fmt.Sprint(w.k), formatNumber(w.z), formatNumber(n), fmt.Sprintf("%.2f", r)}
			for _, b := range []worm.Budget{worm.Twice, worm.Once} {
				c := configurationFor(w, worm.Full, b)
				c.Days, c.MaxDays = n, 3000
				rs, err := x.runEnsemble(c, x.size.few)
				if err != nil {
					return err
				}
				var values []float64
				for _, r := range rs {
					if v := value(r); v != nothing {
						values = append(values, v)
					}
				}
				q := worm.QuartilesOf(values)
				if b == worm.Twice {
					xs, twice = append(xs, n), append(twice, q)
				}
				cells = append(cells, formatQuartiles(q), fmt.Sprintf("%d of %d", len(values), len(rs)))
			}
			t.Rows = append(t.Rows, cells)
		}
		chart.Series = append(chart.Series, bandSeries(w.String(), xs, twice))
	}
	x.Tables = []report.Table{t}
	x.Plots = []report.Plot{{Name: x.Name, Title: chart.Title, Drawings: []plot.Drawing{chart}}}
	x.Say("Temporal and spatial limit (Omega = 300, Phi = 3000) with every infected network blocked n days after it fell; median and quartiles over %d seeds (from 1). An epidemic that dies out early and one that takes off are two different outcomes, so the quartiles of the share can lie far apart.", x.size.few)
	return nil
}
