package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/cli"
	"dragnet/internal/plot"
)

func example() *Report {
	r := New(Reproduction{Name: "table-1", Title: "Worms", Source: "Tang 2006"})
	r.Tables = []Table{{Title: "Rates, per second", Header: []string{"worm", "paper"}, Rows: [][]string{{"slow, \"a\"", "1"}, {"fast", "10"}}}}
	r.Plots = []Plot{{Name: "curve", Title: "A curve", Drawings: []plot.Drawing{plot.Chart{Series: []plot.Series{{X: []float64{1, 2}, Y: []float64{3, 4}}}}}}}
	r.Say("We differ by %d %%.", 5)
	return r
}

func write(t *testing.T, f cli.Format) string {
	t.Helper()
	var b bytes.Buffer
	if err := example().Write(&b, f); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	want := `Worms
Tang 2006

Rates, per second:
WORM       PAPER
slow, "a"  1
fast       10

We differ by 5 %.
`
	if d := cmp.Diff(want, write(t, cli.Table)); d != "" {
		t.Error(d)
	}
}

func TestJSON(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal([]byte(write(t, cli.JSON)), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"version": 1.0, "name": "table-1", "title": "Worms", "source": "Tang 2006", "text": []any{"We differ by 5 %."},
		"tables": []any{map[string]any{
			"title": "Rates, per second", "header": []any{"worm", "paper"}, "rows": []any{[]any{"slow, \"a\"", "1"}, []any{"fast", "10"}},
		}},
		"plots": []any{map[string]any{"name": "curve", "title": "A curve"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCSVAndLines(t *testing.T) {
	records, err := csv.NewReader(bytes.NewReader([]byte(write(t, cli.CSV)))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Rates, per second", "1", "worm", "slow, \"a\""}, records[1]); d != "" || len(records) != 5 {
		t.Errorf("%d records: %s", len(records), d)
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(write(t, cli.JSONL))))
	var last map[string]string
	n := 0
	for ; ; n++ {
		if err := dec.Decode(&last); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(map[string]string{"table": "Rates, per second", "worm": "fast", "paper": "10"}, last); d != "" || n != 2 {
		t.Errorf("%d lines: %s", n, d)
	}
}

func TestPlotsAreFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	paths, err := example().WritePlots(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{filepath.Join(dir, "curve.svg")}, paths); d != "" {
		t.Fatal(d)
	}
	b, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b, new(struct{ XMLName xml.Name })); err != nil {
		t.Error(err)
	}
}

func TestWrapKeepsWords(t *testing.T) {
	if d := cmp.Diff("one two\nthree-four\nfive", wrapText("  one two\n three-four five ", 8)); d != "" {
		t.Error(d)
	}
}
