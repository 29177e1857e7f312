package plot

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"
)

// scale maps values to user units between from and to.
type scale struct {
	log      bool
	min, max float64
	from, to float64
}

func newScale(a Axis, from, to float64, values []float64) scale {
	s := scale{log: a.Log, min: a.Min, max: a.Max, from: from, to: to}
	if a.Min == 0 && a.Max == 0 {
		s.min, s.max = math.Inf(1), math.Inf(-1)
		for _, v := range values {
			if s.isShown(v) {
				s.min, s.max = min(s.min, v), max(s.max, v)
			}
		}
	}
	switch {
	case s.min > s.max: // no point can be shown
		s.min, s.max = 1, 10
	case s.min == s.max && s.log:
		s.min, s.max = s.min/2, s.max*2
	case s.min == s.max:
		s.min, s.max = s.min-1, s.max+1
	}
	if s.log && s.min <= 0 {
		s.min = s.max / 1e6
	}
	return s
}

func (s scale) isShown(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!s.log || v > 0)
}

func (s scale) position(v float64) float64 {
	lo, hi := s.min, s.max
	if s.log {
		lo, hi, v = math.Log(lo), math.Log(hi), math.Log(v)
	}
	return s.from + (v-lo)/(hi-lo)*(s.to-s.from)
}

// placePoint is where a point lies; values beyond the axis are drawn at its edge.
func placePoint(x, y scale, vx, vy float64) (px, py float64, ok bool) {
	if !x.isShown(vx) || !y.isShown(vy) {
		return 0, 0, false
	}
	return x.position(min(max(vx, x.min), x.max)), y.position(min(max(vy, y.min), y.max)), true
}

// tickValues are round values: powers of ten on a logarithmic scale (with 2 and 5
// when there are few), multiples of 1, 2 or 5 times a power of ten elsewhere.
func (s scale) tickValues() []float64 {
	var all []float64
	if s.log {
		steps := []float64{1, 2, 5}
		if s.max/s.min > 1000 {
			steps = steps[:1]
		}
		for e := math.Floor(math.Log10(s.min)); e <= math.Log10(s.max); e++ {
			for _, m := range steps {
				if v := m * math.Pow(10, e); v >= s.min*0.999 && v <= s.max*1.001 {
					all = append(all, v)
				}
			}
		}
		return all
	}
	raw := (s.max - s.min) / 6
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * unit
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw {
			step = m * unit
			break
		}
	}
	first := math.Ceil(s.min/step - 1e-9)
	for i := range 16 { // more than 7 never fit
		if v := (first + float64(i)) * step; v <= s.max+1e-9*step {
			all = append(all, v)
		}
	}
	return all
}

func tickText(v float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	return fmt.Sprintf("%.4g", v)
}

// ticks are the values at which an axis is labelled, and their labels.
func (s scale) ticks(a Axis) (at []float64, text []string) {
	if len(a.Names) == 0 {
		for _, v := range s.tickValues() {
			at, text = append(at, v), append(text, tickText(v))
		}
		return at, text
	}
	for i, name := range a.Names {
		at, text = append(at, float64(i)), append(text, name)
	}
	return at, text
}

func drawFrame(b *bytes.Buffer, above int, x, y scale, xAxis, yAxis Axis) {
	fmt.Fprintf(b, `<g class="grid" stroke="#ddd">`)
	xAt, xText := x.ticks(xAxis)
	yAt, yText := y.ticks(yAxis)
	for _, v := range xAt {
		fmt.Fprintf(b, `<path d="M%.1f %dV%d"/>`, x.position(v), above, height-bottom)
	}
	for _, v := range yAt {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d"/>`, left, y.position(v), width-right)
	}
	fmt.Fprintf(b, "</g>\n"+`<rect class="frame" x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#444"/>`+"\n",
		left, above, width-left-right, height-above-bottom)
	// Names that would not fit beside one another are written at two heights.
	stagger := 0
	if len(xAxis.Names) > 0 && len(strings.Join(xText, "  "))*6 > width-left-right {
		stagger = 12
	}
	for i, v := range xAt {
		fmt.Fprintf(b, `<text class="text" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x.position(v), height-bottom+15+i%2*stagger, html.EscapeString(xText[i]))
	}
	for i, v := range yAt {
		fmt.Fprintf(b, `<text class="text" x="%d" y="%.1f" text-anchor="end">%s</text>`, left-5, y.position(v)+4, html.EscapeString(yText[i]))
	}
	fmt.Fprintf(b, "\n"+`<text class="text" x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-10, html.EscapeString(xAxis.Label))
	fmt.Fprintf(b, `<text class="text" transform="translate(15,%d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (above+height-bottom)/2, html.EscapeString(yAxis.Label))
}
