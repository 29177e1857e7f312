package sharingfigures

import (
	"strings"
	"testing"

	"dragnet/reproduce/report"
)

// TestLiars checks what readers of the report rely on: every share and quorum
// has its cell, no lie costs nothing, and colluders are told apart.
func TestLiars(t *testing.T) {
	size := liarsSize{seeds: 2, shares: []float64{0, 0.5}, organisations: 10}
	r, err := runLiars(t.Context(), report.Environment{Progress: func(string, int) {}}, report.New(liarsEntry()), size)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != 6 || len(r.Plots) != 2 {
		t.Fatalf("%d tables and %d plots", len(r.Tables), len(r.Plots))
	}
	for i, table := range r.Tables {
		want := len(size.shares)
		if i == 4 {
			want = 8 // four lies, apart and colluding
		}
		if len(table.Rows) != want {
			t.Errorf("%s: %d rows, want %d", table.Title, len(table.Rows), want)
		}
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: row %q has %d cells, header has %d", table.Title, row[0], len(row), len(table.Header))
			}
		}
	}
	for _, table := range r.Tables[:4] {
		if cell := table.Rows[0][1]; !strings.HasPrefix(cell, "1.00 ±0.00 / 1.00") && !strings.HasPrefix(cell, "1.00 ±0.00 / 0.9") {
			t.Errorf("%s: without liars %s", table.Title, cell)
		}
		if cell := table.Rows[1][1]; strings.HasPrefix(cell, "1.00") {
			t.Errorf("%s: half of them lie, and one voice is enough: %s", table.Title, cell)
		}
	}
	for _, text := range r.Text {
		if strings.Contains(text, "%!") {
			t.Errorf("a number is missing in: %s", text)
		}
	}
}

func TestEstimate(t *testing.T) {
	if e := estimateOf([]float64{1, 3}); e.mean != 2 || e.half < 1.95 || e.half > 1.97 {
		t.Errorf("%+v", e) // s = sqrt(2), s/sqrt(2) = 1
	}
	if s := estimateOf(nil).String(); s != "-" {
		t.Error(s)
	}
}
