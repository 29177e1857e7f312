package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dragnet/internal/testkit"
)

// logLine is one line of a role's log.
type logLine struct {
	Msg     string
	Level   string
	Keys    []string
	Applied []string
	Err     string
}

// TestReload: at SIGHUP a guard applies its allow list and log level and names what
// it did not apply; a file that cannot be read changes nothing.
func TestReload(t *testing.T) {
	testkit.Root(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "guard.yaml")
	write := func(text string) {
		t.Helper()
		const first = "live: {interface: lo}\nscope: {sources: [10.0.0.0/8], ports: [80]}\nstate: ''\n"
		if err := os.WriteFile(config, []byte(first+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cmd := exec.Command(os.Args[0], "run", "guard", "--config", config)
	cmd.Env = append(os.Environ(), "DRAGNET_AGENT_TEST=1")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("ended with %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	next := func(has string) logLine {
		t.Helper()
		for lines.Scan() {
			var l logLine
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Fatalf("%v: %s", err, lines.Text())
			}
			if strings.Contains(l.Msg, has) {
				return l
			}
		}
		t.Fatalf("the log ended without %q", has)
		return logLine{}
	}
	sendHangup := func(text string) {
		t.Helper()
		write(text)
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	next("guard started")

	sendHangup("allow: [10.0.0.7/32]\nmost: 7\nlogging: {level: DEBUG}\n")
	if l := next("configuration reloaded"); !slices.Equal(l.Applied, []string{"logging.level", "allow"}) {
		t.Errorf("applied %v", l.Applied)
	}
	if l := next("need a restart"); l.Level != "WARN" || !slices.Equal(l.Keys, []string{"most"}) {
		t.Errorf("%+v", l)
	}
	sendHangup("allow: [10.0.0.7/33]\n")
	if l := next("reload failed"); !strings.Contains(l.Err, "guard.yaml:4") {
		t.Errorf("%+v", l)
	}
}
