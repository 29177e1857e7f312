package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dragnet/internal/cli"
	"dragnet/internal/testkit"
)

// TestMain installs this test binary as the program dragnet on PATH, for the
// scripts and for the examples in the documentation.
func TestMain(m *testing.M) {
	// Built for the race detector, a program sleeps a second before it exits;
	// the scripts start dozens.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	testscript.Main(m, map[string]func(){"dragnet": main})
}

// TestScripts runs testdata/script/*.txtar. Beyond testscript's own they have
// the command "exits CODE PROGRAM ARG...", the condition [data] (shared
// captures are at hand, in $DRAGNET_DATA) and $REPO, the root of the tree.
// "go test ./cmd/dragnet -run TestScripts -update" writes what 'cmp' expects.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// TestScriptsOnClickHouse runs testdata/clickhouse/*.txtar, which have $STORE, the
// address of an empty database.
func TestScriptsOnClickHouse(t *testing.T) {
	testkit.Long(t)
	runScripts(t, "testdata/clickhouse", "STORE="+testkit.StartClickHouse(t).Address("flows"))
}

// TestLongScripts runs testdata/long/*.txtar.
func TestLongScripts(t *testing.T) {
	testkit.Long(t)
	runScripts(t, "testdata/long")
}

func runScripts(t *testing.T, dir string, environment ...string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition: func(condition string) (bool, error) {
			if condition == "data" {
				return os.Getenv("DRAGNET_DATA") != "", nil
			}
			return false, errors.New("unknown condition " + condition)
		},
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, environment...)
			env.Setenv("REPO", root)
			// An address for servers that no other run of these scripts uses.
			env.Setenv("LOOPBACK", fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("DRAGNET_DATA", os.Getenv("DRAGNET_DATA"))
			return nil
		},
	})
}

// exits runs a program and wants this exit code; output is kept for 'stdout'
// and 'stderr' as after exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if args[1] == "dragnet" && (want == 0 || want == 3) {
		checkFormats(ts, args[2:])
	}
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// changing are the verbs that change something, or take long: they are not run once for
// each format.
var changing = map[string]bool{
	"add": true, "remove": true, "propose": true, "approve": true, "undo": true, "submit": true, "import": true, "apply": true,
	"ask": true, "repair": true, "centre": true, "reproduce": true, "simulate": true, "learn": true, "cluster": true, "hunt": true,
}

// checkFormats runs a verb that only shows something in every format that it has, and
// requires that all of them can be read and have as many rows.
func checkFormats(ts *testscript.TestScript, args []string) {
	cmd, rest, err := newRoot().Find(args)
	if err != nil || cmd.Flags().Lookup("output") == nil || changing[cmd.Name()] || cmd.CommandPath() == "dragnet config show" || slices.Contains(args, "--limit") && slices.Contains(args, "0") {
		return
	}
	out := map[cli.Format]string{}
	for _, f := range []cli.Format{cli.Table, cli.JSON, cli.JSONL, cli.CSV} {
		_ = ts.Exec("dragnet", append(slices.Clone(args), "-o", string(f))...) // the caller looks at its exit code
		out[f] = ts.ReadFile("stdout")
	}
	name := strings.Join(append([]string{cmd.CommandPath()}, rest...), " ")
	var document struct {
		Version int
		Items   []any
	}
	if err := json.Unmarshal([]byte(out[cli.JSON]), &document); err != nil || document.Version < 1 {
		ts.Fatalf("%s -o json: not a document with a version: %v", name, err)
	}
	lines := 0
	for line := range strings.Lines(out[cli.JSONL]) {
		if lines++; !json.Valid([]byte(line)) {
			ts.Fatalf("%s -o jsonl: line %d is not JSON", name, lines)
		}
	}
	records, err := csv.NewReader(strings.NewReader(out[cli.CSV])).ReadAll()
	if err != nil || len(records) == 0 {
		ts.Fatalf("%s -o csv: no header, or not CSV: %v", name, err)
	}
	if n := len(records) - 1; n != lines || document.Items != nil && n != len(document.Items) {
		ts.Fatalf("%s: %d records of CSV, %d lines of JSON, %d items", name, n, lines, len(document.Items))
	}
	for i, line := range strings.Split(strings.TrimRight(out[cli.Table], "\n"), "\n") {
		if strings.TrimRight(line, " ") != line {
			ts.Fatalf("%s: line %d of the table ends with blanks", name, i+1)
		}
	}
}
