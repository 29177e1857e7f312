package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// TestIdentReloadsAskers: at SIGHUP who is listed may ask about a time, and who is not
// any more may not; what stands between a question and its answer stays open.
func TestIdentReloadsAskers(t *testing.T) {
	testkit.Root(t)
	dir := t.TempDir()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "ident.yaml")
	write := func(askers string) {
		t.Helper()
		text := fmt.Sprintf("state: %s/state\nlisten: [%q]\naskers: %s\n", dir, address, askers)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[]")
	cmd := exec.Command(os.Args[0], "run", "ident", "--config", config)
	cmd.Env = append(os.Environ(), "DRAGNET_AGENT_TEST=1")
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("ended with %v", err)
		}
	}()
	log := bufio.NewScanner(out)
	await := func(text string) string {
		t.Helper()
		for log.Scan() {
			if strings.Contains(log.Text(), text) {
				return log.Text()
			}
		}
		t.Fatalf("the log ended without %q", text)
		return ""
	}
	await("ident daemon started")
	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	replies := bufio.NewReader(c)
	ask := func(want string) {
		t.Helper()
		fmt.Fprintf(c, "1,2:SV@1764278400\r\n")
		if got, err := replies.ReadString('\n'); err != nil || !strings.Contains(got, want) {
			t.Errorf("answer %q, %v, want %s", got, err, want)
		}
	}
	ask("UNKNOWN-ERROR")
	for _, step := range []struct{ askers, want string }{
		{"[{network: 127.0.0.0/8, kinds: [SV]}]", "NO-USER"}, {"[{network: 192.0.2.0/24, kinds: [SV]}]", "UNKNOWN-ERROR"},
	} {
		write(step.askers)
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if line := await("configuration reloaded"); !strings.Contains(line, `"askers"`) {
			t.Errorf("applied: %s", line)
		}
		ask(step.want)
	}
}
