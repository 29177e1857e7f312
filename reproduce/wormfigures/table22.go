package wormfigures

import (
	"fmt"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/worm"
)

// published22 is Table 2-2: days until 5 %, for Phi = 1000, 3000, 5000, 7000.
var published22 = []struct {
	world
	days [4]float64
}{
	{world{5000, 10}, [4]float64{350.3, 116.8, 69.6, 50.2}},
	{world{5000, 20}, [4]float64{237.2, 79.1, 47.2, 33.9}},
	{world{10000, 10}, [4]float64{190.1, 63.5, 38.1, 27.1}},
	{world{10000, 20}, [4]float64{127.9, 42.5, 25.5, 18.3}},
	{world{15000, 10}, [4]float64{133.6, 44.4, 26.3, 19.3}},
	{world{15000, 20}, [4]float64{89.3, 29.7, 17.8, 12.7}},
	{world{20000, 10}, [4]float64{103.3, 34.2, 20.6, 14.6}},
	{world{20000, 20}, [4]float64{68.9, 22.9, 13.8, 10.0}},
}

var phis22 = [4]float64{1000, 3000, 5000, 7000}

// share5 is the share used for the paper's propagation time.
const share5 = 0.05

func table22(x *reproduction) error {
	t := report.Table{
		Title:  "Days until 5 %",
		Header: []string{"k", "z", "phi", "paper", "closed form", "2 phi a day", "phi a day", "limiter"},
	}
	chart := plot.Chart{Title: "Table 2-2: simulated beside published", X: plot.Axis{Label: "published, days", Log: true}, Y: plot.Axis{Label: "days until 5 %", Log: true}}
	var published []float64
	var closed plot.Series
	columns := make([][]worm.Quartiles, 3)
	for _, row := range published22 {
		for i, phi := range phis22 {
			cells := []string{fmt.Sprint(row.k), formatNumber(row.z), formatNumber(phi), fmt.Sprintf("%.1f", row.days[i])}
			form := worm.TableTime(share5, float64(row.k), row.z, phi, 2, 1<<32) / worm.Day
			cells = append(cells, fmt.Sprintf("%.1f", form))
			published, closed.X, closed.Y = append(published, row.days[i]), append(closed.X, row.days[i]), append(closed.Y, form)
			for j, how := range []struct {
				defence worm.Defence
				budget  worm.Budget
			}{{worm.Spatial, worm.Twice}, {worm.Spatial, worm.Once}, {worm.Both, worm.Agent}} {
				c := configurationFor(row.world, how.defence, how.budget)
				c.Phi = phi
				q, err := x.daysTo(share5, c)
				if err != nil {
					return err
				}
				columns[j] = append(columns[j], q)
				cells = append(cells, formatQuartiles(q))
			}
			t.Rows = append(t.Rows, cells)
		}
	}
	closed.Name, closed.Kind = "closed form", plot.Dots
	same := plot.Series{Name: "as published", Dashed: true, X: []float64{10, 350}, Y: []float64{10, 350}}
	chart.Series = []plot.Series{same, closed, dotSeries("2 phi a day", published, columns[0]), dotSeries("phi a day", published, columns[1]), dotSeries("limiter", published, columns[2])}
	x.Tables = []report.Table{t}
	x.Plots = []report.Plot{{Name: x.Name, Title: chart.Title, Drawings: []plot.Drawing{chart}}}
	x.Say("Simulated columns are the median and, in brackets, the quartiles over %d seeds per cell (seeds 1 to %d).", x.size.seeds, x.size.seeds)
	x.Say("The closed form is N*D/(2*Phi*k*z') * ln(a(V-1)/(1-a)), where z' is the mean of min(X, 30) for X exponential with mean z. The 30 is fitted by us, and is not in the paper: with 28 the largest deviation is 4.0 %%, with 25 9.3 %%, with 35 7.6 %%. With it the form meets all 32 published cells within 3 %%. The published columns scale as 1/Phi, so Omega never binds in the table: it describes networks that each send 2*Phi failing scans a day (the bound of theorem 3), however few hosts they have.")
	x.Say("The simulated networks have sizes that are not cut at 30. With phi failing scans a day, half the theorem's bound, the medians meet the published cells within about 4 %% where z = 20, and take about 30 %% longer where z = 10. So the table can be had from 2*Phi and sizes cut at 30, or for z = 20 from Phi and sizes as they are; Figure 2-2's 80 days follow from Phi. The paper's table and figure rest on different assumptions, and no single one that we tried gives both.")
	x.Say("'limiter' follows the algorithm itself, temporal and spatial: a small network is held to Omega per host, and a large one sends Phi before the spatial limit starts, Phi after, and Tau for each of its hosts, which theorem 3 leaves out: for z = 20 and a small Phi that makes the worm faster than the bound.")
	return nil
}

func dotSeries(name string, xs []float64, qs []worm.Quartiles) plot.Series {
	s := bandSeries(name, xs, qs)
	s.Kind, s.Low, s.High = plot.Dots, nil, nil
	return s
}
