//go:build linux

package walk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"dragnet/internal/testkit"
)

// TestLargeExecutablesAreHashedLater runs programs that take up no room on the
// disk and are too large to be hashed before the answer.
func TestLargeExecutablesAreHashedLater(t *testing.T) {
	testkit.Root(t)
	f, err := New(DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	w := &Walked{finder: f, snapshot: newSnapshot(0)}
	want := map[string]string{}
	for name, size := range map[string]int64{"large": hashAtOnce + 4096, "larger": maxExecutable + 1} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile("/bin/sleep")
		if err == nil {
			err = os.WriteFile(path, b, 0o755)
		}
		if err == nil {
			err = os.Truncate(path, size)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		waitUntil(t, func() bool {
			exe, _ := os.Readlink("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/exe")
			return exe == path
		})
		w.Steps = append(w.Steps, Step{PID: int32(cmd.Process.Pid), Via: Owner})
		if size <= maxExecutable {
			file, _ := os.Open(path)
			hash := sha256.New()
			io.Copy(hash, file)
			file.Close()
			want[path] = hex.EncodeToString(hash.Sum(nil))
		}
	}
	for _, p := range w.Record() {
		if p.SHA256 != "" || p.Executable == "" {
			t.Errorf("%s is hashed at once", p.Executable)
		}
	}
	later := w.HashLater(context.Background())
	w.Close()
	if len(later) != 2 {
		t.Fatalf("%+v", later)
	}
	for _, e := range later {
		if e.SHA256 != want[e.Path] || len(e.PIDs) != 1 || (e.SHA256 == "") != (e.Failure != "") {
			t.Errorf("%+v, want hash %q", e, want[e.Path])
		}
	}
	again := &Walked{finder: f, snapshot: newSnapshot(0), Closure: Closure{Steps: w.Steps}}
	known := 0
	for _, p := range again.Record() {
		if p.SHA256 != "" && p.SHA256 == want[p.Executable] {
			known++
		}
	}
	if again.Close(); known != 1 {
		t.Errorf("%d hashes are known the next time, want that of the smaller one", known)
	}
}
