package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// block is a fenced block of a Markdown page.
type block struct {
	line int    // of its opening fence
	lang string // the first word after the fence
	mark string // the rest, such as "test"
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
//	```sh test               each line must succeed
//	```console test          lines after "$ " must succeed and print what follows
//	                         them; a line "..." matches any lines
//	```sh test as root       the same, left out without root
//	```sh test with data     the same, left out without $DRAGNET_DATA
//	```sh untested: REASON   is not run; its commands and flags must exist
//
// A page is pasted, block after block, into one shell by somebody who is in a
// checkout, has run 'make build' and has bin/ on PATH. So the blocks run in a
// folder of links to what the checkout holds. Where a page needs shared
// captures it names $DRAGNET_DATA, and that block is skipped without.
func TestExamplesInDocs(t *testing.T) {
	testkit.Long(t)
	programs := buildAgent(t)
	for _, page := range pages(t) {
		t.Run(strings.TrimPrefix(page, "../../"), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			var all []block
			for _, b := range blocks(string(text)) {
				if b.lang != "sh" && b.lang != "console" {
					continue
				}
				wantTargets(t, b)
				switch {
				case strings.HasPrefix(b.mark, "untested"):
					if reason := strings.TrimPrefix(b.mark, "untested: "); len(reason) < 4 || reason == b.mark {
						t.Errorf("line %d: say why this block is not run: untested: REASON", b.line)
					}
				case b.mark != "test" && b.mark != "test as root" && b.mark != "test with data":
					t.Errorf("line %d: mark this block as test, test as root, test with data, or untested: REASON", b.line)
				case b.mark == "test as root" && os.Geteuid() != 0:
					t.Logf("line %d: not run, needs root", b.line)
					continue
				case (b.mark == "test with data" || strings.Contains(b.text, "$DRAGNET_DATA")) && os.Getenv("DRAGNET_DATA") == "":
					t.Logf("line %d: not run, DRAGNET_DATA is unset", b.line)
					continue
				}
				all = append(all, b)
			}
			runPage(t, programs, checkout(t), all)
		})
	}
}

// buildAgent returns a folder with the program dragnet-agent; dragnet itself is
// this test binary, see TestMain.
func buildAgent(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir, "../dragnet-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// checkout returns a folder with a link to each file and folder of the tree, so
// that a page may name them and leaves nothing among them.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Name() == "bin" {
			continue
		}
		if err := os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantTargets checks that the targets of "make TARGET" and the packages of "go
// test ./PACKAGE" exist, since these blocks are not run.
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
	for _, m := range regexp.MustCompile(`(?m)^(?:\S+=\S+ )*go test .*$`).FindAllString(b.text, -1) {
		for _, word := range strings.Fields(m) {
			dir, ok := strings.CutPrefix(word, "./")
			if !ok {
				continue
			}
			if dir = filepath.Join("../..", strings.TrimSuffix(dir, "...")); !isFolder(dir) {
				t.Errorf("line %d: there is no folder %s", b.line, word)
			} else if !hasBenchmark(t, dir, m) {
				t.Errorf("line %d: %s has no benchmark that %q names", b.line, word, m)
			}
		}
	}
}

// hasBenchmark reports whether a folder has a benchmark that the flag -bench of a
// call of 'go test' names, if there is one.
func hasBenchmark(t *testing.T, dir, call string) bool {
	t.Helper()
	flag := regexp.MustCompile(`-bench (?:'([^']*)'|(\S+))`).FindStringSubmatch(call)
	if flag == nil {
		return true
	}
	wanted, err := regexp.Compile(flag[1] + flag[2])
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range regexp.MustCompile(`(?m)^func (Benchmark\w*)`).FindAllSubmatch(text, -1) {
			if wanted.Match(f[1]) {
				return true
			}
		}
	}
	return false
}

// step is what a page's script does between two marks in its output.
type step struct {
	line   int // of the block
	text   string
	output bool   // want is to be compared
	want   string // what the page says this prints
}

// steps cuts the blocks of a page into commands. Of a block that is not run
// remain the calls of our programs, with --help: so they fail on a command or a
// flag that does not exist, and do nothing.
func steps(t *testing.T, all []block) []step {
	t.Helper()
	var cut []step
	for _, b := range all {
		switch {
		case strings.HasPrefix(b.mark, "untested"):
			for _, call := range ourCalls(b.text) {
				cut = append(cut, step{line: b.line, text: "askHelp() { \"$@\" --help >/dev/null; }\nat=; askHelp " + call})
			}
		case b.lang == "sh":
			cut = append(cut, step{line: b.line, text: b.text})
		default:
			parts := strings.Split("\n"+b.text, "\n$ ")
			if strings.TrimSpace(parts[0]) != "" {
				t.Errorf("line %d: a console block starts with '$ '", b.line)
			}
			for _, part := range parts[1:] {
				command, want, _ := strings.Cut(part, "\n")
				cut = append(cut, step{b.line, command, true, want})
			}
		}
	}
	return cut
}

// ourCalls returns the lines of a block that call one of our programs.
func ourCalls(text string) []string {
	text = strings.ReplaceAll(text, "\\\n", " ")
	return regexp.MustCompile(`(?m)^dragnet(?:-agent)? .*$`).FindAllString(text, -1)
}

// runPage runs the blocks of a page in one shell, as root in a network
// namespace with nothing but a loopback, and compares what they print.
func runPage(t *testing.T, programs, dir string, all []block) {
	t.Helper()
	cut := steps(t, all)
	var script strings.Builder
	for i, s := range cut {
		fmt.Fprintf(&script, "printf '\\n@@%d\\n'\n%s\n", i, s.text)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	cmd := pageShell(t, ctx, script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	// What the page started in the background and did not stop.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	printed := strings.Split(stdout.String(), "\n@@")[1:]
	if err != nil && len(printed) > 0 {
		last := cut[len(printed)-1]
		t.Errorf("line %d: %v\n%s\n%s\n%s", last.line, err, last.text, printed[len(printed)-1], stderr.Bytes())
		printed = printed[:len(printed)-1]
	} else if err != nil {
		t.Errorf("%v\n%s", err, stderr.Bytes())
	}
	for i, got := range printed {
		_, got, _ = strings.Cut(got, "\n")
		if s := cut[i]; s.output && !agree(strings.TrimRight(s.want, "\n"), strings.TrimRight(got, "\n")) {
			t.Errorf("line %d: %s\nprints:\n%s\nthe page says:\n%s", s.line, s.text, got, s.want)
		}
	}
}

// pageShell is a shell that runs script and stops at the first failure.
func pageShell(t *testing.T, ctx context.Context, script string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		cmd := exec.CommandContext(ctx, "bash", "-euc", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = time.Second
		return cmd
	}
	nodes, err := netlab.For(t).Nodes("page")
	if err != nil {
		t.Fatal(err)
	}
	return nodes[0].Command(ctx, "bash", "-euc", script)
}

// agree compares whole lines; a line "..." in want matches any lines.
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
	all := []block{
		{1, "sh", "untested: none", "make x\ndragnet hunt \\\n  x\n# dragnet y\ndragnet-agent z\n"},
		{5, "console", "test", "$ a\nb\n$ c\n"},
	}
	calls := ourCalls(all[0].text)
	if len(calls) != 2 || calls[0] != "dragnet hunt    x" || calls[1] != "dragnet-agent z" {
		t.Errorf("calls: %q", calls)
	}
	cut := steps(t, all)
	if len(cut) != 4 || cut[2] != (step{5, "a", true, "b"}) || cut[3] != (step{5, "c", true, ""}) {
		t.Errorf("steps: %v", cut)
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
