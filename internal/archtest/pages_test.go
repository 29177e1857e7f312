package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	pagesRoot = "../../docs/"
	glossary  = pagesRoot + "explanation/glossary.md"
)

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// linksTo returns the targets of Markdown links in text that are files below
// docs/ or beside it, relative to docs/.
func linksTo(text string) []string {
	var targets []string
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// TestIndexNamesEveryPageOnce holds docs/README.md to one link for each page.
func TestIndexNamesEveryPageOnce(t *testing.T) {
	times := map[string]int{}
	for _, target := range linksTo(readPage(t, pagesRoot+"README.md")) {
		times[target]++
	}
	pages := 0
	err := filepath.WalkDir(pagesRoot, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, pagesRoot)
		if err != nil || filepath.Ext(name) != ".md" || name == "README.md" {
			return err
		}
		pages++
		if times[name] != 1 {
			t.Errorf("docs/README.md links to %s %d times, want once", name, times[name])
		}
		return nil
	})
	if err != nil || pages == 0 {
		t.Fatalf("checked %d pages: %v", pages, err)
	}
}

// TestLinksLeadSomewhere checks the links between files of all pages, and the
// folders and files of the source that they name.
func TestLinksLeadSomewhere(t *testing.T) {
	names := []string{"../../README.md", "../../ARCHITECTURE.md", "../../CONTRIBUTING.md", "../../SECURITY.md"}
	err := filepath.WalkDir(pagesRoot, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	built := map[string]bool{}
	for _, p := range packages(t) {
		built[room(p.ImportPath)] = true
	}
	for _, name := range names {
		for _, target := range linksTo(readPage(t, name)) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), target)); err != nil {
				t.Errorf("%s links to %s: %v", name, target, err)
			}
		}
		for _, path := range pathsIn(readPage(t, name)) {
			if _, err := os.Stat(filepath.Join("../..", strings.TrimPrefix(path, module))); err != nil && built[room(path)] {
				t.Errorf("%s names %s: %v", name, path, err)
			}
		}
	}
}

// pathsIn returns the paths in backticks of text, such as "ask/witness".
func pathsIn(text string) []string {
	var paths []string
	for _, m := range regexp.MustCompile("`([a-z0-9]+/[a-z0-9/._-]*)`").FindAllStringSubmatch(text, -1) {
		paths = append(paths, m[1])
	}
	return paths
}

// glossaryRow is one line of a table of the glossary.
type glossaryRow struct {
	words []string // before the first "(", separated by commas
	types []string // such as "dossier/pattern.Clue"
	// qualified words mean what the parenthesis says, as in "key (of a member)".
	qualified bool
}

func glossaryRows(text string) []glossaryRow {
	var rows []glossaryRow
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 4 || strings.HasPrefix(line, "|---") {
			continue
		}
		words, _, qualified := strings.Cut(strings.TrimSpace(cells[0]), " (")
		row := glossaryRow{words: strings.Split(words, ", "), qualified: qualified}
		for _, m := range regexp.MustCompile("`([a-z0-9/]+\\.[A-Z]\\w*)`").FindAllStringSubmatch(cells[2], -1) {
			row.types = append(row.types, m[1])
		}
		rows = append(rows, row)
	}
	return rows
}

// TestGlossaryCoversTheCommands wants a row for every noun of the command
// lines: what follows the program's name, and what follows "run".
func TestGlossaryCoversTheCommands(t *testing.T) {
	var known []string
	for _, row := range glossaryRows(readPage(t, glossary)) {
		known = append(known, row.words...)
	}
	nouns := 0
	for _, page := range []string{"cli.md", "agent.md"} {
		for _, m := range regexp.MustCompile(`(?m)^## dragnet(?:-agent)? (.*)$`).FindAllStringSubmatch(readPage(t, pagesRoot+"reference/"+page), -1) {
			words := strings.Fields(m[1])
			noun := words[0]
			if at := slices.Index(words, "run"); at >= 0 && at+1 < len(words) {
				noun = words[at+1]
			} else if at == 0 {
				continue
			}
			nouns++
			if !slices.Contains(known, noun) {
				t.Errorf("%s: no row explains %q, a noun of 'dragnet %s'", glossary, noun, m[1])
			}
		}
	}
	if nouns == 0 {
		t.Fatal("the reference pages name no commands")
	}
}

// TestGlossaryExplainsAWordOnce: a second row for a word, which two branches may
// add, leaves open which one is meant.
func TestGlossaryExplainsAWordOnce(t *testing.T) {
	rows := map[string]int{}
	for _, row := range glossaryRows(readPage(t, glossary)) {
		if row.qualified || row.words[0] == "word" { // the heads of the tables
			continue
		}
		for _, w := range row.words {
			if rows[w]++; rows[w] == 2 {
				t.Errorf("%s: %q has two rows", glossary, w)
			}
		}
	}
}

// TestGlossaryNamesTypesThatExist looks up each Go type of the glossary.
func TestGlossaryNamesTypesThatExist(t *testing.T) {
	looked := 0
	for _, row := range glossaryRows(readPage(t, glossary)) {
		for _, name := range row.types {
			looked++
			dir, typ, _ := strings.Cut(name, ".")
			if !declares(t, "../../"+dir, typ) {
				t.Errorf("%s: no type %s in %s", glossary, typ, dir)
			}
		}
	}
	if looked == 0 {
		t.Fatal("the glossary names no types")
	}
}

// declares reports whether the package in dir declares the type.
func declares(t *testing.T, dir, typ string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok || group.Tok != token.TYPE {
				continue
			}
			for _, spec := range group.Specs {
				if spec.(*ast.TypeSpec).Name.Name == typ {
					return true
				}
			}
		}
	}
	return false
}

// TestPageChecksBite plants pages, so that a mistake in the checks shows.
func TestPageChecksBite(t *testing.T) {
	got := glossaryRows("| word | x | y | z |\n|---|---|---|---|\n| a, b (of c) | p | `flow/key.K` | m |\n")
	if len(got) != 2 || !slices.Equal(got[1].words, []string{"a", "b"}) || !slices.Equal(got[1].types, []string{"flow/key.K"}) {
		t.Errorf("rows: %v", got)
	}
	if got := linksTo("[a](b.md#c) [d](https://e) [f](#g)"); !slices.Equal(got, []string{"b.md"}) {
		t.Errorf("links: %v", got)
	}
	if got := pathsIn("`a/b` `c` d/e"); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("paths: %v", got)
	}
	if !declares(t, ".", "glossaryRow") || declares(t, ".", "absent") {
		t.Error("declares does not distinguish types that exist from those that do not")
	}
}

// TestPagesNameTestsThatExist: what a page says is shown by a test names one that exists.
func TestPagesNameTestsThatExist(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	walk := func(root, suffix string, read func(path, text string)) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, suffix) {
				read(path, readPage(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk("../..", "_test.go", func(_, text string) {
		for _, m := range declared.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = true
		}
	})
	named := 0
	walk(pagesRoot, ".md", func(path, text string) {
		for _, m := range regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			if named++; !tests[m[1]] {
				t.Errorf("%s: no test is called %s", path, m[1])
			}
		}
	})
	if named < 50 {
		t.Errorf("%d tests are named in docs/", named)
	}
}
