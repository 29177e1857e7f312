package survey

import "dragnet/internal/plot"

// Figure draws the distribution of tuples per key, a curve per hash: the
// paper's Figure 1.
func (r *Result) Figure(title string) plot.Chart {
	c := plot.Chart{
		Title: title,
		X:     plot.Axis{Label: "tuples per key (" + r.Mask + ")", Log: true},
		Y:     plot.Axis{Label: "share of keys with at most that many", Min: 0, Max: 1},
	}
	most := 10.0
	for _, h := range r.Hashes {
		x, y := h.Sizes.Curve()
		if len(x) == 0 {
			continue
		}
		most = max(most, x[len(x)-1])
		c.Series = append(c.Series, plot.Series{Name: h.Hash, Kind: plot.Step, X: x, Y: y})
	}
	c.X.Min, c.X.Max = 1, most
	// Every curve starts at no keys and ends at all of them.
	for i := range c.Series {
		s := &c.Series[i]
		s.X = append(append([]float64{s.X[0]}, s.X...), most)
		s.Y = append(append([]float64{0}, s.Y...), 1)
	}
	return c
}
