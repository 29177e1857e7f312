package cli

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	gap    = 2 // between the columns of a table
	indent = 4 // of the columns of a folded table that go on below
)

// WriteTable prints a table for people. On a terminal that is too narrow for it, long
// cells go on in further lines; where that is not enough, so do the last columns.
func WriteTable(w io.Writer, header []string, cells [][]string) error {
	names := make([]string, len(header))
	for i, h := range header {
		names[i] = strings.ToUpper(h)
	}
	rows := [][]string{names}
	for _, row := range cells {
		clean := make([]string, len(row))
		for i, c := range row {
			clean[i] = Printable(c)
		}
		rows = append(rows, clean)
	}
	columns := 0
	if t, ok := w.(interface{ Columns() int }); ok {
		columns = t.Columns()
	}
	widths, least := measure(rows, len(header))
	folds := [][2]int{{0, len(header)}}
	switch {
	case columns == 0:
	case sumOf(least) <= columns:
		narrow(widths, least, columns)
	default:
		folds = foldColumns(widths, least, columns)
	}
	out := bufio.NewWriter(w)
	for _, row := range rows {
		for n, f := range folds {
			if from, to := min(f[0], len(row)), min(f[1], len(row)); from < to {
				writeRow(out, row[from:to], widths[f[0]:f[1]], indent*min(n, 1))
			}
		}
	}
	return out.Flush()
}

// measure returns the widths that columns want, and those below which words break.
func measure(rows [][]string, columns int) (widths, least []int) {
	widths, least = make([]int, columns), make([]int, columns)
	for _, row := range rows {
		for i, c := range row[:min(len(row), columns)] {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
			for _, word := range splitWords(c) {
				least[i] = max(least[i], utf8.RuneCountInString(strings.TrimRight(word, " ")))
			}
		}
	}
	return widths, least
}

// sumOf is the width of a table.
func sumOf(widths []int) int {
	total := gap * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	return total
}

// narrow takes from the widest columns, none of which gets less than its least width,
// until all fit into a number of columns of the terminal.
func narrow(widths, least []int, columns int) {
	for total := sumOf(widths); total > columns; total-- {
		widest := -1
		for i, n := range widths {
			if n > least[i] && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// foldColumns cuts a table into parts that go below each other, each narrow enough for
// the terminal if its words are.
func foldColumns(widths, least []int, columns int) (folds [][2]int) {
	from, used := 0, 0
	for i, n := range widths {
		if n = min(n, max(least[i], columns-indent)); i > from && used+n > columns {
			folds, from, used = append(folds, [2]int{from, i}), i, indent
		}
		used += n + gap
	}
	folds = append(folds, [2]int{from, len(widths)})
	for _, f := range folds {
		narrow(widths[f[0]:f[1]], least[f[0]:f[1]], columns-indent)
	}
	return folds
}

// splitWords cuts text after blanks and commas.
func splitWords(text string) (words []string) {
	from := 0
	for i, r := range text {
		if r == ' ' || r == ',' {
			words = append(words, text[from:i+1])
			from = i + 1
		}
	}
	return append(words, text[from:])
}

// wrapCell breaks text into lines of a width.
func wrapCell(text string, width int) (lines []string) {
	line, used := "", 0
	for _, word := range splitWords(text) {
		n := utf8.RuneCountInString(word)
		if bare := utf8.RuneCountInString(strings.TrimRight(word, " ")); used > 0 && used+bare > width {
			lines, line, used = append(lines, strings.TrimRight(line, " ")), "", 0
		}
		line, used = line+word, used+n
	}
	return append(lines, line)
}

// writeRow writes the lines of a row; bufio.Writer keeps an error.
func writeRow(out *bufio.Writer, row []string, widths []int, margin int) {
	cells, height := make([][]string, len(row)), 1
	for i, c := range row {
		cells[i] = []string{c}
		if i < len(widths) && utf8.RuneCountInString(c) > widths[i] {
			cells[i] = wrapCell(c, widths[i])
		}
		height = max(height, len(cells[i]))
	}
	for n := range height {
		line, pad := "", margin
		for i, c := range cells {
			text := ""
			if n < len(c) {
				text = c[n]
			}
			line += strings.Repeat(" ", pad) + text
			if i < len(widths) {
				pad = max(0, widths[i]-utf8.RuneCountInString(text)) + gap
			}
		}
		out.WriteString(strings.TrimRight(line, " "))
		out.WriteByte('\n')
	}
}
