package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dragnet/internal/testkit"
)

// troublePage lists wrong inputs with what the programs say of them. Its tables are
// this test's data.
const troublePage = "../../docs/how-to/troubleshoot.md"

// troubleRow is a row of such a table: | `command` | `message` | hint | exit code |.
// The hint may be followed by more advice in brackets.
var troubleRow = regexp.MustCompile("^\\| `(dragnet.*?)` \\| `(.*?)` \\| (.*?)(?: \\((.*)\\))? \\| (\\d+) \\|$")

// TestTroubleshooting runs the command of each row of the page, in the folder that the
// page's first block makes, and compares what it prints and its exit code. "go test
// ./cmd/dragnet -run TestTroubleshooting -update" writes these into the page.
func TestTroubleshooting(t *testing.T) {
	testkit.Long(t)
	text, err := os.ReadFile(troublePage)
	if err != nil {
		t.Fatal(err)
	}
	programs, dir := buildAgent(t), checkout(t)
	run := func(script string) (string, int) {
		cmd := pageShell(t, t.Context(), script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "HOME="+filepath.Join(dir, "home"), "COLUMNS=")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		failed, _ := errors.AsType[*exec.ExitError](err)
		if err != nil && failed == nil {
			t.Fatal(err)
		}
		return stderr.String(), cmd.ProcessState.ExitCode()
	}
	if out, code := run(setUp(t, string(text))); code != 0 {
		t.Fatalf("the page's first block: exit code %d\n%s", code, out)
	}
	lines := strings.Split(string(text), "\n")
	rows := 0
	for i, line := range lines {
		m := troubleRow.FindStringSubmatch(line)
		if m == nil {
			if strings.HasPrefix(line, "| `dragnet ") || strings.HasPrefix(line, "| `dragnet-agent ") {
				t.Errorf("line %d is not | `command` | `message` | hint | exit code |", i+1)
			}
			continue
		}
		rows++
		command := strings.ReplaceAll(m[1], `\|`, "|")
		out, code := run(command)
		said, hint := lastError(out)
		if more := m[4]; more != "" {
			hint += " (" + more + ")"
		}
		got := fmt.Sprintf("| `%s` | `%s` | %s | %d |", m[1], strings.ReplaceAll(said, "|", `\|`), strings.ReplaceAll(hint, "|", `\|`), code)
		switch {
		case code == 0, said == "", hint == "" && code != 3:
			t.Errorf("line %d: %s: exit code %d, want an error of two lines:\n%s", i+1, command, code, out)
		case got != line && *update:
			lines[i] = got
		case got != line:
			t.Errorf("line %d: the program says\n%s\nthe page says\n%s", i+1, got, line)
		}
	}
	if rows < 40 {
		t.Errorf("%d rows were run, want at least 40", rows)
	}
	if *update {
		if err := os.WriteFile(troublePage, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// lastError returns the error and the hint with which a program ended.
func lastError(out string) (said, hint string) {
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "hint: "); ok {
			hint = rest
			continue
		}
		for _, program := range []string{"dragnet: ", "dragnet-agent: "} {
			if rest, ok := strings.CutPrefix(line, program); ok {
				said, hint = rest, ""
			}
		}
	}
	return said, hint
}

// TestLibrariesDoNotSpeak: no message of the page is in the words of a library.
func TestLibrariesDoNotSpeak(t *testing.T) {
	text, err := os.ReadFile(troublePage)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if m := troubleRow.FindStringSubmatch(line); m != nil {
			if bad := regexp.MustCompile(`invalid character|cannot unmarshal|yaml:|json:|SQL|arg\(s\)|!!|unexpected EOF|runtime error|strconv|netip\.`).FindString(m[2]); bad != "" {
				t.Errorf("%s: %q is a library's word: %s", m[1], bad, m[2])
			}
		}
	}
}

// setUp is the block of the page that makes the folder in which its commands are run.
func setUp(t *testing.T, page string) string {
	t.Helper()
	_, rest, _ := strings.Cut(page, "## Wrong inputs\n")
	all := blocks(rest)
	if len(all) == 0 {
		t.Fatal("the page makes no folder for its wrong inputs")
	}
	return all[0].text
}
