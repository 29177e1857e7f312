package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

const logHeader = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n"

// logOf writes a conn log of n flows, each of another client to one of up to
// 65,536 servers.
func logOf(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "conn.log")
	var b strings.Builder
	b.WriteString(logHeader)
	for i := range n {
		fmt.Fprintf(&b, "%d.0\t10.%d.%d.%d\t40000\t198.51.%d.%d\t443\ttcp\n", 1700000000+i, i>>16, i>>8&255, i&255, i>>8&255, i&255)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHuntWithALongList asks about 4,000 addresses at once, by the default hash
// and by the one that is slowest to measure: it finds exactly their clients.
// Were the time to grow with keys times answers, the limit of the test run
// would end it.
func TestHuntWithALongList(t *testing.T) {
	testkit.Long(t)
	const listed = 4000
	log := logOf(t, 1<<14)
	list := filepath.Join(t.TempDir(), "servers")
	var b strings.Builder
	for i := range listed {
		fmt.Fprintf(&b, "198.51.%d.%d\n", i>>8, i&255)
	}
	if err := os.WriteFile(list, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	hashes := []string{"linear", "product"}
	if testkit.Short(t) {
		hashes = hashes[:1]
	}
	for _, hash := range hashes {
		cmd := exec.CommandContext(t.Context(), "dragnet", "hunt", "out dst=@"+list+" dport=443 proto=tcp", "-w", log, "-o", "csv", "--hash", hash)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", hash, err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(lines) != 1+listed {
			t.Errorf("%s: %d hosts, want %d", hash, len(lines)-1, listed)
		}
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "10.0.15.159,") { // the 4,000th
			t.Errorf("%s: last host is %q", hash, last)
		}
	}
}

// TestHuntInterrupted: SIGINT ends a hunt in the middle of a log with exit code
// 130 and nothing on stdout.
func TestHuntInterrupted(t *testing.T) {
	log := logOf(t, 1<<16)
	args := []string{"hunt", "out dst=198.51.100.7", "-o", "json"}
	for range 2000 { // far more than is read before the signal comes
		args = append(args, "-w", log)
	}
	cmd := exec.CommandContext(t.Context(), "dragnet", args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok || failed.ExitCode() != 130 {
		t.Errorf("%v, want exit code 130; stderr: %s", err, stderr.String())
	}
	if stdout.Len() > 0 || stderr.String() != "dragnet: interrupted\n" {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
}
