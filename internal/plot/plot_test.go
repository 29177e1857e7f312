package plot

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
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
	// Page, frame and 32 shades of the bar beside the cells.
	if got := elements(t, b.Bytes())["rect"] - 34; got != 3 {
		t.Errorf("%d cells shaded, want 3", got)
	}
	if shadeOf(0) != "#ffffff" {
		t.Errorf("lowest shade is %s, want white", shadeOf(0))
	}
}
