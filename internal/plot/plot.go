// Package plot draws small charts as SVG: lines, steps, dots and bars over
// linear or logarithmic axes, and heat maps. It knows nothing of the domain, keeps
// no state, and the same input gives the same bytes.
package plot

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
)

// Kind is how a series is drawn.
type Kind int

// The kinds. A Step holds each value until the next X.
const (
	Line Kind = iota
	Step
	Dots
	Bars
)

// Series is one curve. X and Y have the same length; points that are not
// finite, or not positive on a logarithmic axis, are left out and break the
// line. Low and High, when given, bound an interval around Y, drawn as a band.
type Series struct {
	Name      string
	Kind      Kind
	Dashed    bool
	X, Y      []float64
	Low, High []float64
}

// Axis is a scale. Min and Max both 0 mean "fit the data".
type Axis struct {
	Label    string
	Log      bool
	Min, Max float64
}

// Drawing is something WritePage can place: a Chart or a Heat.
type Drawing interface {
	draw(b *bytes.Buffer)
}

// Chart is a set of series over common axes.
type Chart struct {
	Title  string
	X, Y   Axis
	Series []Series
	// LegendLow puts the legend at the lower right, for curves that end high.
	LegendLow bool
}

// Size of one drawing, in SVG user units (pixels at scale 1).
const (
	width, height = 560, 380
	left, right   = 66, 14
	top, bottom   = 34, 52
)

// palette is Okabe and Ito's set of colours, which colour-blind readers can
// distinguish (jfly.uni-koeln.de/color).
var palette = [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a8a"}

// WriteSVG writes c as one SVG document.
func (c Chart) WriteSVG(w io.Writer) error { return WritePage(w, 1, c) }

// WritePage writes drawings as one SVG document, in rows of the given number
// of columns.
func WritePage(w io.Writer, columns int, drawings ...Drawing) error {
	columns = max(1, min(columns, len(drawings)))
	rows := (len(drawings) + columns - 1) / columns
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n",
		columns*width, rows*height, columns*width, rows*height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, d := range drawings {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%columns*width, i/columns*height)
		d.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (c Chart) draw(b *bytes.Buffer) {
	x := newScale(c.X, left, width-right, c.axisValues(func(s Series) [][]float64 { return [][]float64{s.X} }))
	y := newScale(c.Y, height-bottom, top, c.axisValues(func(s Series) [][]float64 { return [][]float64{s.Y, s.Low, s.High} }))
	if !c.Y.Log && c.Y.Min == 0 && c.Y.Max == 0 && c.hasBars() {
		y.min = min(y.min, 0)
	}
	drawTitle(b, c.Title)
	drawFrame(b, x, y, c.X.Label, c.Y.Label)
	for i, s := range c.Series {
		s.draw(b, x, y, palette[i%len(palette)])
	}
	c.drawLegend(b)
}

func (c Chart) hasBars() bool {
	for _, s := range c.Series {
		if s.Kind == Bars {
			return true
		}
	}
	return false
}

func (c Chart) axisValues(of func(Series) [][]float64) []float64 {
	var all []float64
	for _, s := range c.Series {
		for _, v := range of(s) {
			all = append(all, v...)
		}
	}
	return all
}

func (c Chart) drawLegend(b *bytes.Buffer) {
	row, first, longest := 0, top+12, 0
	for _, s := range c.Series {
		longest = max(longest, len(s.Name))
	}
	// A letter of this size is at most about 6.5 wide.
	x := min(width-right-150, width-right-26-longest*13/2)
	if c.LegendLow {
		first = height - bottom - 8
		for _, s := range c.Series {
			if s.Name != "" {
				first -= 14
			}
		}
	}
	for i, s := range c.Series {
		if s.Name == "" {
			continue
		}
		y := first + 14*row
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="14" height="4" fill="%s"/>`, x, y-5, palette[i%len(palette)])
		fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", x+18, y, html.EscapeString(s.Name))
		row++
	}
}

func (s Series) draw(b *bytes.Buffer, x, y scale, colour string) {
	s.drawBand(b, x, y, colour)
	switch s.Kind {
	case Dots:
		for i := range s.countPoints() {
			if px, py, ok := placePoint(x, y, s.X[i], s.Y[i]); ok {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.2" fill="%s"/>`, px, py, colour)
			}
		}
	case Bars:
		w := max(1, 0.8*(x.to-x.from)/float64(max(1, s.countPoints())))
		base := y.position(max(y.min, 0))
		for i := range s.countPoints() {
			if px, py, ok := placePoint(x, y, s.X[i], s.Y[i]); ok {
				fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, px-w/2, min(py, base), w, math.Abs(base-py), colour)
			}
		}
	default:
		s.drawLine(b, x, y, colour)
	}
	b.WriteByte('\n')
}

func (s Series) drawLine(b *bytes.Buffer, x, y scale, colour string) {
	fmt.Fprintf(b, `<path fill="none" stroke="%s" stroke-width="1.6"`, colour)
	if s.Dashed {
		b.WriteString(` stroke-dasharray="5,3"`)
	}
	b.WriteString(` d="`)
	pen, last := false, 0.0
	for i := range s.countPoints() {
		px, py, ok := placePoint(x, y, s.X[i], s.Y[i])
		switch {
		case !ok:
			pen = false
			continue
		case !pen:
			fmt.Fprintf(b, "M%.1f %.1f", px, py)
		case s.Kind == Step:
			fmt.Fprintf(b, "L%.1f %.1fL%.1f %.1f", px, last, px, py)
		default:
			fmt.Fprintf(b, "L%.1f %.1f", px, py)
		}
		pen, last = true, py
	}
	b.WriteString(`"/>`)
}

func (s Series) drawBand(b *bytes.Buffer, x, y scale, colour string) {
	n := min(s.countPoints(), len(s.Low), len(s.High))
	var there, back []byte
	for i := range n {
		px, lo, ok := placePoint(x, y, s.X[i], s.Low[i])
		_, hi, ok2 := placePoint(x, y, s.X[i], s.High[i])
		if !ok || !ok2 {
			continue
		}
		there = fmt.Appendf(there, "%.1f,%.1f ", px, hi)
		back = append(fmt.Appendf(nil, "%.1f,%.1f ", px, lo), back...)
	}
	if len(there) > 0 {
		fmt.Fprintf(b, `<polygon points="%s%s" fill="%s" fill-opacity="0.18"/>`, there, back, colour)
	}
}

func (s Series) countPoints() int { return min(len(s.X), len(s.Y)) }

func drawTitle(b *bytes.Buffer, text string) {
	fmt.Fprintf(b, `<text x="%d" y="18" text-anchor="middle" font-size="13">%s</text>`+"\n", width/2, html.EscapeString(text))
}
