package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dragnet/internal/testkit"
)

// block is a fenced block of a Markdown page.
type block struct {
	line int    // of its opening fence
	lang string // the first word after the fence
	mark string // the rest: "test", or "untested"
	text string
}

func blocks(markdown string) []block {
	var all []block
	var open *block
	number := 0
	for line := range strings.Lines(markdown) {
		number++
		info, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			lang, mark, _ := strings.Cut(info, " ")
			open = &block{line: number, lang: lang, mark: mark}
		case fence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	return all
}

// pages are the documents whose examples must work.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{"../../README.md", "../../CONTRIBUTING.md"}
	err := filepath.WalkDir("../../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" && filepath.Base(filepath.Dir(path)) != "reference" {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestExamplesInDocs runs what the pages tell a reader to type. A block of
// shell says in its fence what it is:
//
//	```sh test         each line must succeed
//	```console test    lines after "$ " must succeed and print what follows
//	                   them; a line "..." stands for any lines
//	```sh untested     is not run: it needs the tree, root, or minutes
//
// The blocks of one page share a folder, which starts with a link to the
// page's repository named "repo". Where a page needs shared captures it names
// $DRAGNET_DATA, and is skipped without.
func TestExamplesInDocs(t *testing.T) {
	testkit.Long(t)
	for _, page := range pages(t) {
		t.Run(strings.TrimPrefix(page, "../../"), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			root, err := filepath.Abs("../..")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(root, filepath.Join(dir, "repo")); err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks(string(text)) {
				if b.lang != "sh" && b.lang != "console" {
					continue
				}
				wantTargets(t, b)
				switch {
				case b.mark == "untested":
				case b.mark != "test":
					t.Errorf("line %d: mark this block as test or untested", b.line)
				case strings.Contains(b.text, "$DRAGNET_DATA") && os.Getenv("DRAGNET_DATA") == "":
					t.Logf("line %d: not run, DRAGNET_DATA is unset", b.line)
				case b.lang == "sh":
					shell(t, dir, b.line, b.text)
				default:
					console(t, dir, b)
				}
			}
		})
	}
}

// wantTargets checks that a target named in "make TARGET" exists, since these
// blocks are not run.
func wantTargets(t *testing.T, b block) {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:\$ |sudo )*make ([a-z-]+)`).FindAllStringSubmatch(b.text, -1) {
		if !bytes.Contains(makefile, []byte("\n"+m[1]+":")) {
			t.Errorf("line %d: Makefile has no target %s", b.line, m[1])
		}
	}
}

func shell(t *testing.T, dir string, line int, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("line %d: %v\n%s\n%s%s", line, err, script, out, stderr.Bytes())
	}
	return string(out)
}

func console(t *testing.T, dir string, b block) {
	t.Helper()
	parts := strings.Split("\n"+b.text, "\n$ ")
	if strings.TrimSpace(parts[0]) != "" {
		t.Errorf("line %d: a console block starts with '$ '", b.line)
	}
	for _, part := range parts[1:] {
		command, want, _ := strings.Cut(part, "\n")
		got := shell(t, dir, b.line, command)
		if !agree(strings.TrimRight(want, "\n"), strings.TrimRight(got, "\n")) {
			t.Errorf("line %d: %s\nprints:\n%s\nthe page says:\n%s", b.line, command, got, want)
		}
	}
}

// matches compares whole lines; a line "..." in want stands for any lines.
func agree(want, got string) bool {
	pattern := regexp.QuoteMeta(want + "\n")
	pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta("...\n"), "(?s:.*)")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got + "\n")
}

// TestExampleRunnerBites plants mistakes, so that one in the runner shows.
func TestExampleRunnerBites(t *testing.T) {
	got := blocks("a\n```sh test\ntrue\n```\n\n```console untested\n$ x\n```\n")
	want := []block{{2, "sh", "test", "true\n"}, {6, "console", "untested", "$ x\n"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("blocks: %v, want %v", got, want)
	}
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a\nb", "a\nb", true}, {"a\nb", "a\nc", false}, {"a\n...", "a\nb\nc", true}, {"...\nc", "a\nb\nc", true},
		{"a.c", "abc", false}, {"a", "a\nb", false},
	} {
		if agree(c.want, c.got) != c.ok {
			t.Errorf("agree(%q, %q) = %v", c.want, c.got, !c.ok)
		}
	}
}
