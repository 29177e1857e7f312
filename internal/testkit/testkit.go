// Package testkit says when a test may be skipped, so that a skip cannot hide
// a regression: data may be absent, root may be absent outside CI, but in CI a
// missing tool is a failure.
package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// Data returns the path of a shared capture or log below $DRAGNET_DATA. The test
// is skipped if that is unset: data is not a tool.
func Data(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("DRAGNET_DATA")
	if root == "" {
		t.Skip("DRAGNET_DATA is unset: this test reads shared captures (see CONTRIBUTING.md)")
	}
	path := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("DRAGNET_DATA is set but %v", err)
	}
	return path
}

// Tool returns the path of a program that the test runs. If it is missing, the
// test fails in CI and is skipped elsewhere.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		skipMissing(t, "program "+name+" is not installed ('make tools' installs what the tests need)")
	}
	return path
}

// Long skips a test in the race run (-short), which is many times slower; 'make
// test' runs it afterwards without the race detector.
func Long(t testing.TB) {
	t.Helper()
	if Short(t) {
		t.Skip("long, and left out under -short: 'make test' runs it without the race detector")
	}
}

// Short reports whether a test should shorten itself, as under the race detector
// (-short). It writes the test's package and name to the file
// $DRAGNET_SHORTENED, from which 'make test' reads what to run again, whole. Tests
// call this instead of testing.Short.
func Short(t testing.TB) bool {
	t.Helper()
	if !testing.Short() {
		return false
	}
	record := os.Getenv("DRAGNET_SHORTENED")
	if record == "" {
		return true
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("cannot find out which package this test binary tests")
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	// One write of one line: other test binaries append to the same file.
	f, err := os.OpenFile(record, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, strings.TrimSuffix(build.Path, ".test"), name); err != nil {
		t.Fatal(err)
	}
	return true
}

// Root skips a test that changes the kernel's state (namespaces, nftables, eBPF)
// unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		skipMissing(t, "needs root: it makes network namespaces")
	}
}

func skipMissing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
