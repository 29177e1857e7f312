package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                     "plain",
		"Zürich, 日本":                "Zürich, 日本",
		"\x1b]0;title\a\x1b[2Jgone": `\u001b]0;title\u0007\u001b[2Jgone`,
		"a\nb\tc\rd":                `a\u000ab\u0009c\u000dd`,
		"\u009b2J":                  `\u009b2J`,
		"evil\u202egnp.exe":         `evil\u202egnp.exe`,
		"zero\u200bwidth":           `zero\u200bwidth`,
		"not \xff\xfeUTF-8":         `not \xff\xfeUTF-8`,
		"tag\U000e0041":             `tag\udb40\udc41`,
		"line\u2028separator":       `line\u2028separator`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

type believed struct {
	Host string `json:"host"`
	Why  string `json:"why"`
}

// TestRowsCannotBeForged: a value that ends its row, or its column, begins no other.
func TestRowsCannotBeForged(t *testing.T) {
	evil := "x\n203.0.113.9  believed\x1b[31m\tquorum"
	for _, f := range []Format{Table, CSV} {
		var out bytes.Buffer
		if err := WriteRows(&out, f, Rows[believed]{Header: []string{"host", "why"}, Cells: [][]string{{evil, "own-word"}}, Items: []believed{{evil, "own-word"}}}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n != 2 || strings.ContainsAny(out.String(), "\x1b\r") {
			t.Errorf("%s: %d lines: %q", f, n, out.String())
		}
	}
	for _, f := range []Format{JSON, JSONL} {
		var out bytes.Buffer
		if err := WriteRows(&out, f, Rows[any]{Items: []any{map[string]string{"host": "\u009b2J\u202e\x1b"}}}); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\u009b\u202e") || !strings.Contains(out.String(), `\u009b`) {
			t.Errorf("%s: %q", f, out.String())
		}
	}
}

// TestTextIsEscapedHoweverItIsCut writes the same text in pieces of each size.
func TestTextIsEscapedHoweverItIsCut(t *testing.T) {
	text := "Zürich\x1b[2J 日本\n\tlast\u202e"
	want := "Zürich\\u001b[2J 日本\n\tlast\\u202e"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		w := &escapeText{to: &out}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if out.String() != want {
			t.Errorf("pieces of %d: %q", size, out.String())
		}
	}
}

func TestErrorsAreEscaped(t *testing.T) {
	var out bytes.Buffer
	printError(&out, "dragnet", Hint(errors.New("witness says \x1b]0;owned\a"), "ask \x1b[8m again"))
	if strings.ContainsRune(out.String(), '\x1b') || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%q", out.String())
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[2J")
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || Printable(got) != got {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}
