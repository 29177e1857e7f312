package plot

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
)

// Heat is a matrix shown by shade. Cells[row][column]; row 0 is drawn at the
// bottom. Rows may differ in length; cells that are not finite stay blank.
type Heat struct {
	Title          string
	XLabel, YLabel string
	// ValueLabel names what the shade means.
	ValueLabel string
	Cells      [][]float64
}

// WriteSVG writes h as one SVG document.
func (h Heat) WriteSVG(w io.Writer) error { return WritePage(w, 1, h) }

func (h Heat) describe() (title, description string) {
	low, high, _ := rangeOf(slices.Concat(h.Cells...))
	return h.Title, fmt.Sprintf("%s by %s and %s, %d rows, from %s to %s", h.ValueLabel, h.XLabel, h.YLabel, len(h.Cells), tickText(low), tickText(high))
}

func (h Heat) draw(b *bytes.Buffer) {
	columns, low, high := 0, math.Inf(1), math.Inf(-1)
	for _, row := range h.Cells {
		columns = max(columns, len(row))
		for _, v := range row {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	const bar = 60 // width of the key of shades
	x := scale{min: 0, max: float64(max(1, columns)), from: left, to: width - right - bar}
	y := scale{min: 0, max: float64(max(1, len(h.Cells))), from: height - bottom, to: top}
	drawTitle(b, h.Title)
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.0f" height="%d" fill="#fff"/>`+"\n", left, top, x.to-x.from, height-top-bottom) // of the lowest shade
	for r, row := range h.Cells {
		for c, v := range row {
			if math.IsNaN(v) || math.IsInf(v, 0) || v == low {
				continue // drawn below all
			}
			fmt.Fprintf(b, `<rect x="%.2f" y="%.2f" width="%.2f" height="%.2f" fill="%s"/>`,
				x.position(float64(c)), y.position(float64(r+1)), x.position(1)-x.position(0)+0.3, y.position(0)-y.position(1)+0.3, shadeOf((v-low)/(high-low)))
		}
		b.WriteByte('\n')
	}
	h.drawAxes(b, x, y)
	if low > high {
		return
	}
	for i := range 32 {
		fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="12" height="9.3" fill="%s"/>`, width-right-46, float64(height-bottom)-9.2*float64(i+1), shadeOf(float64(i)/31))
	}
	fmt.Fprintf(b, `<text class="text" x="%d" y="%d">%s</text><text class="text" x="%d" y="%d">%s</text>`+"\n",
		width-right-32, height-bottom, tickText(low), width-right-32, top+8, tickText(high))
	fmt.Fprintf(b, `<text class="text" x="%d" y="%d" text-anchor="end">%s</text>`+"\n", width-right, height-14, html.EscapeString(h.ValueLabel))
}

func (h Heat) drawAxes(b *bytes.Buffer, x, y scale) {
	fmt.Fprintf(b, `<rect class="frame" x="%d" y="%d" width="%.0f" height="%d" fill="none" stroke="#444"/>`+"\n", left, top, x.to-x.from, height-top-bottom)
	for _, v := range x.tickValues() {
		fmt.Fprintf(b, `<text class="text" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x.position(v), height-bottom+15, tickText(v))
	}
	for _, v := range y.tickValues() {
		fmt.Fprintf(b, `<text class="text" x="%d" y="%.1f" text-anchor="end">%s</text>`, left-5, y.position(v)+4, tickText(v))
	}
	fmt.Fprintf(b, "\n"+`<text class="text" x="%.0f" y="%d" text-anchor="middle">%s</text>`, (x.from+x.to)/2, height-14, html.EscapeString(h.XLabel))
	fmt.Fprintf(b, `<text class="text" transform="translate(15,%d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+height-bottom)/2, html.EscapeString(h.YLabel))
}

// shadeOf runs from white through blue to black; t is in 0..1.
func shadeOf(t float64) string {
	t = min(max(t, 0), 1)
	red := 255 * (1 - min(1, 1.6*t))
	green := 255 * (1 - min(1, 1.1*t))
	blue := 255 * (1 - 0.75*t*t)
	return fmt.Sprintf("#%02x%02x%02x", int(red), int(green), int(blue))
}
