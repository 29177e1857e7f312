package plot

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// elements parses b as XML and counts its elements by name.
func elements(t *testing.T, b []byte) map[string]int {
	t.Helper()
	count := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		tok, err := d.Token()
		if err == io.EOF {
			return count
		} else if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, b)
		}
		if e, ok := tok.(xml.StartElement); ok {
			count[e.Name.Local]++
		}
	}
}

func TestChartSkipsWhatAnAxisCannotShow(t *testing.T) {
	c := Chart{Title: `a < "b"`, X: Axis{Log: true}, Series: []Series{
		{Name: "dots & co", Kind: Dots, X: []float64{0, 1, 10, 100}, Y: []float64{1, 2, math.NaN(), 3}},
		{Kind: Line, X: []float64{1, 10}, Y: []float64{1, 2}, Low: []float64{0, 1}, High: []float64{2, 3}},
	}}
	var b bytes.Buffer
	if err := c.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	got := elements(t, b.Bytes())
	if got["circle"] != 2 {
		t.Errorf("%d dots drawn, want 2: x=0 is not on a logarithmic axis and NaN is nowhere", got["circle"])
	}
	if got["polygon"] != 1 {
		t.Errorf("%d bands drawn, want 1", got["polygon"])
	}
	if !strings.Contains(b.String(), "dots &amp; co") {
		t.Error("legend is missing")
	}
}

func TestStepHoldsItsValue(t *testing.T) {
	var b bytes.Buffer
	Chart{X: Axis{Min: 0, Max: 1}, Y: Axis{Min: 0, Max: 1}, Series: []Series{
		{Kind: Step, X: []float64{0, 1}, Y: []float64{0, 1}},
	}}.WriteSVG(&b)
	want := `d="M66.0 328.0L546.0 328.0L546.0 34.0"` // right along the bottom, then up
	if !strings.Contains(b.String(), want) {
		t.Errorf("step path %s not in:\n%s", want, b.String())
	}
}

func TestScaleMapsEndsToEnds(t *testing.T) {
	for _, log := range []bool{false, true} {
		s := newScale(Axis{Log: log}, 10, 110, []float64{1, 100, 10})
		if s.position(1) != 10 || s.position(100) != 110 {
			t.Errorf("log=%v: ends at %v, %v", log, s.position(1), s.position(100))
		}
		if mid := s.position(10); log && math.Abs(mid-60) > 1e-9 {
			t.Errorf("10 lies half-way between 1 and 100 on a log scale, got %v", mid)
		}
		for _, v := range s.tickValues() {
			if v < 0.99 || v > 101 {
				t.Errorf("tick %v beyond the axis", v)
			}
		}
	}
}

func TestDegenerateInputStillDraws(t *testing.T) {
	for name, d := range map[string]Drawing{
		"empty chart": Chart{}, "one point": Chart{Series: []Series{{X: []float64{3}, Y: []float64{3}}}},
		"only NaN": Chart{Y: Axis{Log: true}, Series: []Series{{X: []float64{1}, Y: []float64{math.NaN()}}}},
		"no cells": Heat{}, "ragged": Heat{Cells: [][]float64{{1}, {1, 2, math.Inf(1)}}},
		"uneven": Chart{Series: []Series{{Kind: Bars, X: []float64{1, 2}, Y: []float64{3}}}},
	} {
		var b bytes.Buffer
		if err := WritePage(&b, 2, d, d); err != nil {
			t.Fatal(err)
		}
		if elements(t, b.Bytes()); strings.Contains(b.String(), "NaN") {
			t.Errorf("%s: NaN reached the drawing", name)
		}
	}
}

func TestHeatShadesEveryCellAboveTheLowest(t *testing.T) {
	var b bytes.Buffer
	Heat{Cells: [][]float64{{0, 1}, {2, 3}}}.WriteSVG(&b)
	// Page, background, frame and 32 shades of the bar beside the cells.
	if got := elements(t, b.Bytes())["rect"] - 35; got != 3 {
		t.Errorf("%d cells shaded, want 3", got)
	}
	if shadeOf(0) != "#ffffff" {
		t.Errorf("lowest shade is %s, want white", shadeOf(0))
	}
}

// TestNothingLiesOverTheData: names of series are above the frame, bars inside of it.
func TestNothingLiesOverTheData(t *testing.T) {
	c := Chart{Title: "many", X: Axis{Label: "x", Names: []string{"a", "b", "c"}}}
	for range 9 {
		c.Series = append(c.Series, Series{Name: "a series with quite a long name", Kind: Bars, X: []float64{0, 1, 2}, Y: []float64{1, 2, 3}})
	}
	var b bytes.Buffer
	if err := c.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	legend := regexp.MustCompile(`y="(\d+)">a series`).FindAllStringSubmatch(b.String(), -1)
	frame := regexp.MustCompile(`class="frame" x="(\d+)" y="(\d+)" width="(\d+)"`).FindStringSubmatch(b.String())
	if len(legend) != 9 || frame == nil {
		t.Fatalf("%d names, frame %v", len(legend), frame)
	}
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, l := range legend {
		if number(l[1]) >= number(frame[2]) {
			t.Errorf("a name at %s, the frame begins at %s", l[1], frame[2])
		}
	}
	bars := regexp.MustCompile(`<rect x="(\d+\.\d)" y="[\d.]+" width="([\d.]+)" height="[\d.]+" fill="#`).FindAllStringSubmatch(b.String(), -1)
	if len(bars) != 27 {
		t.Fatalf("%d bars", len(bars))
	}
	for _, bar := range bars {
		if x, w := number(bar[1]), number(bar[2]); x < number(frame[1]) || x+w > number(frame[1])+number(frame[3]) {
			t.Errorf("a bar from %g to %g lies outside of the frame", x, x+w)
		}
	}
}

// TestAPageIsDescribed: for screen readers, and in the reader's colours.
func TestAPageIsDescribed(t *testing.T) {
	var b bytes.Buffer
	Chart{Title: "of <a>", X: Axis{Label: "days"}, Y: Axis{Label: "hosts"}, Series: []Series{{Name: "s", X: []float64{1, 2}, Y: []float64{3, 4}}}}.WriteSVG(&b)
	for _, want := range []string{`role="img"`, "<title>of &lt;a&gt;</title>", "<desc>hosts over days. s: 2 points from 3 to 4</desc>", "prefers-color-scheme:dark"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is not in\n%s", want, b.String())
		}
	}
}
