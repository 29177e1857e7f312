package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/cli"
	"dragnet/internal/testkit"
	"dragnet/trace/protocol"
	"dragnet/trace/token"
)

// TestMain makes the test binary the agent when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv("DRAGNET_AGENT_TEST") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// agent runs the program to its end.
func agent(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "DRAGNET_AGENT_TEST=1")
	b, err := cmd.CombinedOutput()
	if exit, ok := err.(*exec.ExitError); ok {
		return string(b), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b), 0
}

// freeAddress is an address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestSocketActivation starts the daemon as systemd does, with a listening
// socket as descriptor 3, and goes through the life of a token.
func TestSocketActivation(t *testing.T) {
	testkit.Root(t)
	dir := t.TempDir()
	state, config := filepath.Join(dir, "state"), filepath.Join(dir, "ident.yaml")
	admin := freeAddress(t)
	os.WriteFile(config, fmt.Appendf(nil, "listen: [\"127.0.0.1:1\"]\nstate: %s\naskers: [{network: 127.0.0.0/8, kinds: [SV]}]\nadmin: {listen: \"%s\"}\n", state, admin), 0o600)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" run ident --config "$1"`, os.Args[0], config)
	cmd.Env = append(os.Environ(), "DRAGNET_AGENT_TEST=1")
	cmd.ExtraFiles = []*os.File{file}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	address := l.Addr().String()
	l.Close() // from now on the agent alone holds it
	file.Close()

	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	// The connection it is asked about is one that we opened.
	local, remote := c.LocalAddr().(*net.TCPAddr).Port, c.RemoteAddr().(*net.TCPAddr).Port
	fmt.Fprintf(c, "%d,%d:SV\r\n", local, remote)
	line, err := protocol.ReadLine(protocol.NewReader(c))
	if err != nil {
		t.Fatalf("%v; the agent says %s", err, log.String())
	}
	r, err := protocol.ParseReply(line)
	tok, ok := r.Token()
	if err != nil || !ok {
		t.Fatalf("%q, %v", line, err)
	}
	c.Close()
	if _, text := testkit.Get(t, "http://"+admin+"/metrics"); !strings.Contains(text, "dragnet_ident_tokens_total 1\n") {
		t.Error(text)
	}

	out, code := agent(t, "token", "list", "--config", config, "-o", "json")
	rows, err := cli.ReadItems[map[string]any](strings.NewReader(out))
	if err != nil || code != 0 || len(rows) != 1 || rows[0]["token"] != tok || rows[0]["kind"] != "SV" {
		t.Errorf("list: %d, %v: %s", code, err, out)
	}
	redemption := filepath.Join(dir, "redemption")
	if out, code := agent(t, "token", "redeem", tok, "--config", config, "--out", redemption, "--for", "case 7"); code != 0 {
		t.Errorf("redeem: %d %s", code, out)
	}
	b, err := os.ReadFile(redemption)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := token.ParseSignedRedemption(b)
	if err != nil {
		t.Fatal(err)
	}
	if red, err := parsed.Open(); err != nil || red.Token != tok || red.For != "case 7" {
		t.Errorf("redemption %+v, %v", red, err)
	}
	if out, code := agent(t, "token", "verify", "--config", config); code != 0 || !strings.HasPrefix(out, "1 records") {
		t.Errorf("verify: %d %s", code, out)
	}
	if out, code := agent(t, "token", "redeem", token.Random(), "--config", config); code != 3 || !strings.Contains(out, "no record of this token") {
		t.Errorf("unknown token: %d %s", code, out)
	}
	if out, code := agent(t, "token", "redeem", "x", "--config", config); code != 2 {
		t.Errorf("no token: %d %s", code, out)
	}

	cmd.Process.Signal(os.Interrupt)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the daemon ends with %v: %s", err, log.String())
		}
	case <-time.After(15 * time.Second):
		t.Error("the daemon does not stop")
	}
	if _, err := net.Dial("tcp4", address); err == nil {
		t.Error("the port still has a listener")
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	os.WriteFile(bad, []byte("listen: []\nlookpus: 3\n"), 0o600)
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"run", "ident", "--config", bad}, 1, "bad.yaml:2: lookpus"},
		{[]string{"run", "ident", "--config", filepath.Join(dir, "none.yaml")}, 1, "none.yaml"},
		{[]string{"run", "nothing"}, 2, "unknown command"},
		{[]string{"token", "verify", "--state", dir}, 1, "no host key"},
		{[]string{"token", "redeem"}, 2, "usage"},
	} {
		if out, code := agent(t, c.args...); code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%v: %d %s; want %d and %q", c.args, code, out, c.code, c.say)
		}
	}
}

// TestStatic builds the agent as it is released: without cgo, with nothing to
// load at run time.
func TestStatic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("/lib64/ld-linux")) {
		t.Error("the agent needs a dynamic loader")
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"database/sql", "dragnet/store", "dragnet/node", "dragnet/console"} {
		for pkg := range strings.Lines(string(out)) {
			if p := strings.TrimSpace(pkg); p == banned || strings.HasPrefix(p, banned+"/") {
				t.Errorf("the agent links %s", p)
			}
		}
	}
}
