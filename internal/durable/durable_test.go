package durable

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/testkit"
)

// TestMain lets a test run WriteFile in a separate process, under strace.
func TestMain(m *testing.M) {
	if path := os.Getenv("DURABLE_WRITE"); path != "" {
		runtime.LockOSThread() // strace counts the calls of each thread apart
		if err := WriteFile(path, []byte("new"), 0o640); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// traced writes "new" to path under strace with further options, and returns
// the system calls on the folder's files in order.
func traced(t *testing.T, path string, options ...string) (calls []string, err error) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	args := append([]string{"-f", "-y", "-o", trace, "-e", "trace=openat,write,fchmod,fsync,close,renameat,unlinkat"}, options...)
	cmd := exec.Command(testkit.Tool(t, "strace"), append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), "DURABLE_WRITE="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	log, readErr := os.ReadFile(trace)
	if readErr != nil {
		t.Fatalf("strace left no trace: %v, %v", readErr, err)
	}
	call := regexp.MustCompile(`^\d+ +([a-z]+)\(`)
	for line := range strings.Lines(string(log)) {
		if m := call.FindStringSubmatch(line); m != nil && strings.Contains(line, filepath.Dir(path)) {
			calls = append(calls, m[1])
		}
	}
	return calls, err
}

func TestSystemCallsAreThoseTheCommentLists(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	calls, err := traced(t, path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"openat", "write", "fchmod", "fsync", "close", "renameat", "openat", "fsync", "close"}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("system calls (-want +got):\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v, want 0640", info.Mode())
	}
}

// TestFaults makes each system call fail in turn: the file must stay whole and
// no temporary file may remain.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ inject, want string }{
		{"fchmod:error=EPERM", "old"},
		{"fsync:error=EIO:when=1", "old"},
		{"renameat:error=ENOSPC", "old"},
		{"fsync:error=EIO:when=2", "new"},
	} {
		t.Run(c.inject, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := traced(t, path, "-e", "inject="+c.inject); err == nil {
				t.Error("WriteFile hid the fault")
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != c.want {
				t.Errorf("file holds %q, %v; want %q", got, err, c.want)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 1 {
				t.Errorf("folder holds %v, %v; want the file alone", entries, err)
			}
		})
	}
}

func TestMissingFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "file")
	if err := WriteFile(path, nil, 0o600); err == nil {
		t.Error("WriteFile made a folder")
	}
}
