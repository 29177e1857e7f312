package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

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
