package trace_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEachTrickNamesATest: each row of the table of tricks in docs/explanation/trace.md
// names tests, and each of them is one of this room or of trace/.
func TestEachTrickNamesATest(t *testing.T) {
	page, err := os.ReadFile("../../docs/explanation/trace.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	tests := map[string]bool{}
	for _, dir := range []string{".", "../../trace"} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				tests[string(m[1])] = true
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	_, table, ok := strings.Cut(string(page), "| trick |")
	table, _, ended := strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[2:]
	if !ok || !ended || len(rows) < 25 {
		t.Fatalf("%d rows found", len(rows))
	}
	for _, row := range rows {
		cells := strings.Split(row, "|")
		if len(cells) != 5 {
			t.Errorf("%d cells in %q", len(cells), row)
			continue
		}
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(cells[3], -1)
		if len(named) == 0 {
			t.Errorf("no test tries %q", cells[1])
		}
		for _, n := range named {
			if !tests[n[1]] {
				t.Errorf("%s: no test is called %s", cells[1], n[1])
			}
		}
	}
}
