package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

type narrowTerminal struct {
	bytes.Buffer
	columns int
}

func (t *narrowTerminal) Columns() int { return t.columns }

// TestWideTableIsFolded: where cells cannot be narrow enough, the last columns go below.
func TestWideTableIsFolded(t *testing.T) {
	out := narrowTerminal{columns: 40}
	header := []string{"id", "host", "first", "why"}
	cells := [][]string{{"LVF6OM2DS6EZAVPV", "198.51.100.7", "2026-11-22T03:46:40Z", "refused by 6 hosts, and silent at 4 others, within 5s"}}
	if err := WriteTable(&out, header, cells); err != nil {
		t.Fatal(err)
	}
	want := `ID                HOST
    FIRST
    WHY
LVF6OM2DS6EZAVPV  198.51.100.7
    2026-11-22T03:46:40Z
    refused by 6 hosts, and silent at 4
    others, within 5s
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestTableFitsTerminal: on a narrow terminal long cells go on below, and no word is lost
// or moved to another column; elsewhere a row is a line.
func TestTableFitsTerminal(t *testing.T) {
	header := []string{"part", "text", "hint"}
	cells := [][]string{
		{"store", "12 of 40 segments were read and two of them are damaged", "copy them from another disk, then run 'dragnet store repair'"},
		{"übersicht", strings.Repeat("ä", 20), ""},
	}
	for _, columns := range []int{0, 60, 80, 200} {
		out := narrowTerminal{columns: columns}
		if err := WriteTable(&out, header, cells); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
		if wide := columns == 0 || columns == 200; wide != (len(lines) == 3) {
			t.Errorf("%d columns: %d lines:\n%s", columns, len(lines), out.String())
		}
		at := strings.Index(lines[0], "HINT")
		hint := ""
		for _, line := range lines[1:] {
			if n := utf8.RuneCountInString(line); columns > 0 && n > columns {
				t.Errorf("a line of %d characters on a terminal of %d", n, columns)
			}
			if r := []rune(line); len(r) > at {
				hint += strings.TrimSpace(string(r[at:])) + " "
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%q ends with blanks", line)
			}
		}
		if want := cells[0][2]; strings.TrimSpace(hint) != want {
			t.Errorf("%d columns: the third column holds %q, want %q", columns, hint, want)
		}
	}
}
