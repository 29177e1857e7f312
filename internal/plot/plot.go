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
	"slices"
	"strings"
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
	// Names stand in place of the numbers 0, 1, 2, ...
	Names []string
}

// Drawing is something WritePage can place: a Chart or a Heat.
type Drawing interface {
	draw(b *bytes.Buffer)
	// describe says what is shown, to those who cannot see it.
	describe() (title, description string)
}

// Chart is a set of series over common axes.
type Chart struct {
	Title  string
	X, Y   Axis
	Series []Series
}

// Size of one drawing, in SVG user units (pixels at scale 1).
const (
	width, height = 560, 380
	left, right   = 66, 14
	top, bottom   = 34, 52
)

// style has the colours of a page, light or dark as the reader's system is.
const style = `<style>.page{fill:#fff}.text{fill:#222}.grid{stroke:#ddd}.frame{stroke:#444;fill:none}
@media(prefers-color-scheme:dark){.page{fill:#15181c}.text{fill:#d8dce2}.grid{stroke:#333941}.frame{stroke:#8a929c}
.ink{stroke:#fff}.fill{fill:#fff}}</style>
`

// palette is Okabe and Ito's set of colours, which colour-blind readers can
// distinguish (jfly.uni-koeln.de/color).
var palette = [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a", "#000000"}

// classOf makes what is drawn in black white on a dark page: class is ink for a stroke and
// fill for an area.
func classOf(colour, class string) string {
	if colour == "#000000" {
		return ` class="` + class + `"`
	}
	return ""
}

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
	fmt.Fprintf(&b, style+`<rect class="page" fill="#fff" width="100%%" height="100%%"/>`+"\n")
	for i, d := range drawings {
		title, description := d.describe()
		fmt.Fprintf(&b, `<g role="img" transform="translate(%d,%d)"><title>%s</title><desc>%s</desc>`+"\n",
			i%columns*width, i/columns*height, html.EscapeString(title), html.EscapeString(description))
		d.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (c Chart) describe() (title, description string) {
	var parts []string
	for _, s := range c.Series {
		name := s.Name
		if name == "" {
			name = c.Y.Label
		}
		if lo, hi, ok := rangeOf(s.Y); ok {
			parts = append(parts, fmt.Sprintf("%s: %d points from %s to %s", name, s.countPoints(), tickText(lo), tickText(hi)))
		}
	}
	return c.Title, fmt.Sprintf("%s over %s. %s", c.Y.Label, c.X.Label, strings.Join(parts, "; "))
}

// rangeOf is the smallest and the largest finite value.
func rangeOf(values []float64) (lo, hi float64, ok bool) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	return lo, hi, lo <= hi
}

func (c Chart) draw(b *bytes.Buffer) {
	drawTitle(b, c.Title)
	above := top + c.drawLegend(b)
	x := newScale(c.X, left, width-right, c.axisValues(func(s Series) [][]float64 { return [][]float64{s.X} }))
	y := newScale(c.Y, height-bottom, float64(above), c.axisValues(func(s Series) [][]float64 { return [][]float64{s.Y, s.Low, s.High} }))
	spacing := c.barSpacing()
	if c.hasBars() {
		if !c.Y.Log && c.Y.Min == 0 && c.Y.Max == 0 {
			y.min = min(y.min, 0)
		}
		if c.X.Min == 0 && c.X.Max == 0 && !c.X.Log { // room for half of the outermost bars
			x.min, x.max = x.min-spacing/2, x.max+spacing/2
		}
	}
	drawFrame(b, above, x, y, c.X, c.Y)
	// An inner document cuts off what does not fit.
	fmt.Fprintf(b, `<svg x="%[1]d" y="%[2]d" width="%[3]d" height="%[4]d" viewBox="%[1]d %[2]d %[3]d %[4]d">`+"\n", left, above, width-left-right, height-bottom-above)
	for i, s := range c.Series {
		s.draw(b, x, y, spacing, palette[i%len(palette)])
	}
	b.WriteString("</svg>\n")
}

// barSpacing is the smallest distance between bars.
func (c Chart) barSpacing() float64 {
	least := math.Inf(1)
	for _, s := range c.Series {
		if s.Kind != Bars {
			continue
		}
		at := slices.Sorted(slices.Values(s.X))
		for i := 1; i < len(at); i++ {
			if d := at[i] - at[i-1]; d > 0 {
				least = min(least, d)
			}
		}
	}
	if math.IsInf(least, 1) {
		return 1
	}
	return least
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

// drawLegend writes the names of the series in rows between the title and the frame, and
// returns the height they take.
func (c Chart) drawLegend(b *bytes.Buffer) int {
	x, y := left, top
	for i, s := range c.Series {
		if s.Name == "" {
			continue
		}
		name := s.Name
		if r := []rune(name); len(r) > 76 {
			name = string(r[:75]) + "…"
		}
		need := 32 + len([]rune(name))*13/2 // a letter of this size is at most about 6.5 wide
		if x > left && x+need > width-right {
			x, y = left, y+14
		}
		colour := palette[i%len(palette)]
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="14" height="4" fill="%s"%s/>`, x, y-5, colour, classOf(colour, "fill"))
		fmt.Fprintf(b, `<text class="text" x="%d" y="%d">%s</text>`+"\n", x+18, y, html.EscapeString(name))
		x += need
	}
	if x == left && y == top {
		return 0
	}
	return y - top + 8
}

func (s Series) draw(b *bytes.Buffer, x, y scale, spacing float64, colour string) {
	s.drawBand(b, x, y, colour)
	switch s.Kind {
	case Dots:
		for i := range s.countPoints() {
			if px, py, ok := placePoint(x, y, s.X[i], s.Y[i]); ok {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.2" fill="%s"%s/>`, px, py, colour, classOf(colour, "fill"))
			}
		}
	case Bars:
		w := max(1, 0.8*math.Abs(x.position(spacing)-x.position(0)))
		base := y.position(max(y.min, 0))
		for i := range s.countPoints() {
			if px, py, ok := placePoint(x, y, s.X[i], s.Y[i]); ok {
				fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"%s/>`, px-w/2, min(py, base), w, math.Abs(base-py), colour, classOf(colour, "fill"))
			}
		}
	default:
		s.drawLine(b, x, y, colour)
	}
	b.WriteByte('\n')
}

func (s Series) drawLine(b *bytes.Buffer, x, y scale, colour string) {
	fmt.Fprintf(b, `<path fill="none" stroke="%s"%s stroke-width="1.6"`, colour, classOf(colour, "ink"))
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
		fmt.Fprintf(b, `<polygon points="%s%s" fill="%s" fill-opacity="0.18"%s/>`, there, back, colour, classOf(colour, "fill"))
	}
}

func (s Series) countPoints() int { return min(len(s.X), len(s.Y)) }

func drawTitle(b *bytes.Buffer, text string) {
	fmt.Fprintf(b, `<text class="text" x="%d" y="18" text-anchor="middle" font-size="13">%s</text>`+"\n", width/2, html.EscapeString(text))
}
