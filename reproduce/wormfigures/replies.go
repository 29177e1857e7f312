package wormfigures

import (
	"fmt"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/worm"
)

// fewReplies tests the statement that DAW works well when p1 + p2 + p3', the share
// of failing scans that are reported, is a tenth: with the published limits, and
// with limits that are scaled by the share.
func fewReplies(x *reproduction) error {
	t := report.Table{
		Title:  "Full DAW, and days until 5 % without blocks",
		Header: []string{"p1+p2+p3'", "limits", "R", "finally infected", "runs stopped below 5 %", "days to 5 %, temporal + spatial"},
	}
	chart := plot.Chart{Title: x.Title, X: plot.Axis{Label: "p1+p2+p3'", Min: 0, Max: 1}, Y: plot.Axis{Label: "finally infected share", Min: 0, Max: 1}}
	w := world{10000, 10}
	for _, scaled := range []bool{false, true} {
		name := "as published"
		if scaled {
			name = "times p"
		}
		var xs []float64
		var shares []worm.Quartiles
		for _, p := range []float64{1, 0.7, 0.5, 0.3, 0.1} {
			q, stopped, c, err := x.finalShare(w, p, scaled)
			if err != nil {
				return err
			}
			c.Defence, c.MaxDays = worm.Both, 400
			days, err := x.daysTo(share5, c)
			if err != nil {
				return err
			}
			r := worm.Reproduction(c.Days, c.Phi/p, float64(w.k)*w.z, 1<<32)
			t.Rows = append(t.Rows, []string{formatNumber(p), name, fmt.Sprintf("%.2f", r),
				fmt.Sprintf("%.2g (%.2g..%.2g)", q.Median, q.Low, q.High), fmt.Sprintf("%d of %d", stopped, x.size.few), formatQuartiles(days)})
			xs, shares = append(xs, p), append(shares, q)
		}
		chart.Series = append(chart.Series, bandSeries("limits "+name, xs, shares))
	}
	x.Tables = []report.Table{t}
	x.Plots = []report.Plot{{Name: x.Name, Title: chart.Title, Drawings: []plot.Drawing{chart}}}
	x.Say("k = 10000, z = 10, 10 scans per second, n = 7 days, limits Omega = 300 and Phi = 3000 or these times p1+p2+p3'; the limiter itself, %d seeds (from 1). R is theorem 1's 2*n*Phi*V/(N*p): an edge that sees a share p of the failures lets 1/p times as many scans pass.", x.size.few)
	x.Say("The paper says that its simulation works well at 10 %%, without a figure. With the published limits it does not: R is ten times 0.98, and nearly all hosts fall. It must have assumed one of three things: limits scaled by the measured share, which section 2.3.10 describes how to measure and which restores what full replies give; a vulnerable population or a time until blocks so small that R stays below 1 at 10 %%, V = 10000 or n below a day; or it calls a worm that takes days instead of minutes to 5 %% well contained.")
	x.Say("Guards here count silence as a failure (limits.silence), so that the share they see does not depend on who answers.")
	return nil
}

// finalShare runs whole epidemics under full DAW; c is what they were run with.
func (x *reproduction) finalShare(w world, p float64, scaled bool) (q worm.Quartiles, stopped int, c worm.Configuration, err error) {
	c = configurationFor(w, worm.Full, worm.Agent)
	c.Replies, c.MaxDays, c.Until = p, 400, 1
	if scaled {
		c.Omega, c.Phi, c.Lambda, c.Tau = c.Omega*p, c.Phi*p, c.Lambda*p, c.Tau*p
	}
	rs, err := x.runEnsemble(c, x.size.few)
	if err != nil {
		return q, 0, c, err
	}
	var shares []float64
	for _, r := range rs {
		shares = append(shares, r.Share())
		if r.Stopped && r.Share() < share5 {
			stopped++
		}
	}
	return worm.QuartilesOf(shares), stopped, c, nil
}
