// Package report defines the result of a reproduction: a paper's table or
// figure, reproduced, next to the paper's numbers.
package report

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dragnet/internal/cli"
	"dragnet/internal/plot"
)

// Environment is what a reproduction can use.
type Environment struct {
	// Data is the folder of shared captures and logs; if empty, parts that need
	// it are left out with a note.
	Data string
	// Quick asks for small sizes, of reproductions that have them.
	Quick bool
	// Lab says how often experiments also run in network namespaces.
	Lab Lab
	// Progress, never nil, is called with the stage and how much more is done.
	Progress func(what string, n int)
}

// Lab is runs of an experiment in network namespaces, which need root and real time.
type Lab struct {
	// Runs is how many; 0 leaves them out.
	Runs int
	// Rounds is the length of each, in the experiment's own unit.
	Rounds int
}

// Reproduction is one entry of the list that 'dragnet reproduce' prints.
type Reproduction struct {
	// HasQuick is true if Environment.Quick makes it smaller.
	HasQuick    bool
	Name, Title string
	// Source is the paper with its section, table or figure.
	Source string
	Run    func(context.Context, Environment) (*Report, error)
}

// Report is the result.
type Report struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Title   string `json:"title"`
	Source  string `json:"source"`
	// Text holds paragraphs: the method, and where and why we differ.
	Text   []string `json:"text"`
	Tables []Table  `json:"tables"`
	Plots  []Plot   `json:"plots"`
}

// Table is a table with a title. Rows have as many cells as Header.
type Table struct {
	Title  string     `json:"title"`
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
}

// Plot is one SVG file, called Name plus ".svg".
type Plot struct {
	Name     string         `json:"name"`
	Title    string         `json:"title"`
	Columns  int            `json:"-"`
	Drawings []plot.Drawing `json:"-"`
}

// Wilson is Wilson's 95 % interval of k out of n.
func Wilson(k, n int) (low, high float64) {
	const z = 1.96
	p, m := float64(k)/float64(n), float64(n)
	mid, half := p+z*z/(2*m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(0, (mid-half)/(1+z*z/m)), (mid + half) / (1 + z*z/m)
}

// New starts the report of r.
func New(r Reproduction) *Report {
	return &Report{Version: 1, Name: r.Name, Title: r.Title, Source: r.Source, Text: []string{}, Tables: []Table{}, Plots: []Plot{}}
}

// Say adds a paragraph.
func (r *Report) Say(format string, args ...any) {
	r.Text = append(r.Text, fmt.Sprintf(format, args...))
}

// Write prints r: as text, as one JSON document, as one JSON object per table
// row, or as CSV with one line per cell.
func (r *Report) Write(w io.Writer, f cli.Format) error {
	switch f {
	case cli.JSON:
		return cli.WriteJSON(w, r)
	case cli.JSONL:
		return r.writeLines(w)
	case cli.CSV:
		return r.writeCSV(w)
	}
	return r.writeText(w)
}

func (r *Report) writeText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\n", r.Title, r.Source)
	for _, t := range r.Tables {
		fmt.Fprintf(w, "\n%s:\n", t.Title)
		if err := cli.WriteTable(w, t.Header, t.Rows); err != nil {
			return err
		}
	}
	for _, paragraph := range r.Text {
		fmt.Fprintf(w, "\n%s\n", wrapText(paragraph, 100))
	}
	return nil
}

func (r *Report) writeLines(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			cells := map[string]string{"table": t.Title}
			for i, c := range row {
				cells[t.Header[i]] = c
			}
			if err := enc.Encode(cells); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Report) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	records := [][]string{{"table", "row", "column", "value"}}
	for _, t := range r.Tables {
		for n, row := range t.Rows {
			for i, cell := range row {
				records = append(records, []string{t.Title, strconv.Itoa(n + 1), t.Header[i], cell})
			}
		}
	}
	return c.WriteAll(records)
}

// WritePlots draws every plot into dir and returns the files' paths.
func (r *Report) WritePlots(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	var paths []string
	for _, p := range r.Plots {
		path := filepath.Join(dir, p.Name+".svg")
		f, err := os.Create(path)
		if err != nil {
			return paths, err
		}
		err = plot.WritePage(f, max(1, p.Columns), p.Drawings...)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return paths, fmt.Errorf("write %s: %w", path, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// wrapText breaks text into lines of at most width bytes if words are short
// enough.
func wrapText(text string, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
