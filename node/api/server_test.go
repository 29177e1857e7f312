package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/hint"
	"dragnet/node/api"
	"dragnet/wire/enrol"
)

// folder is a short-named folder: a socket's path has 107 bytes.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// server is one whose services tell who called, and read what was sent.
type server struct {
	*api.Server
	authority *enrol.Authority
	log       *bytes.Buffer
}

var errRevoked = errors.New("revoked")

func start(t *testing.T, c api.Configuration) *server {
	t.Helper()
	authority, err := enrol.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		fmt.Fprintf(w, "%s sent %d", api.PeerOf(r.Context()), n)
	})
	wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-api.Stopping(r.Context())
		io.WriteString(w, "stopping")
	})
	s := &server{authority: authority, log: &bytes.Buffer{}}
	s.Server, err = api.New(c, api.Dependencies{
		Log: slog.New(slog.NewTextHandler(s.log, nil)), TLS: func() *tls.Config { return authority.ServerTLS(nil) },
		Member: func(_ context.Context, c *x509.Certificate) (string, string, error) {
			if c.Subject.CommonName == "gone" {
				return "", "", errRevoked
			}
			return c.Subject.CommonName, c.Subject.OrganizationalUnit[0], nil
		},
		Services: []api.Service{{Path: "/open/", Handler: answer, Access: api.Everyone}, {Path: "/wait/", Handler: wait}, {Path: "/", Handler: answer}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func configuration(dir string) api.Configuration {
	c := api.DefaultConfiguration()
	c.Socket, c.Listen = filepath.Join(dir, "node.sock"), "127.0.0.1:0"
	return c
}

func unix(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
}

// member is a client with a certificate, or with none for an empty name.
func (s *server) member(t *testing.T, name, role string) *http.Client {
	t.Helper()
	token, err := enrol.NewToken(s.authority.Pin())
	if err != nil {
		t.Fatal(err)
	}
	c := token.ClientTLS()
	if name != "" {
		dir := t.TempDir()
		request, err := enrol.Request(dir)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := s.authority.Issue(request, name, role, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := enrol.Save(dir, enrol.Member{}, certificate.Raw, s.authority.Certificate()); err != nil {
			t.Fatal(err)
		}
		f, err := enrol.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		c = f.ClientTLS()
	}
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func post(c *http.Client, url string, body io.Reader) (int, string) {
	r, err := c.Post(url, "application/json", body)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(b)
}

func TestWhoMayDoWhat(t *testing.T) {
	dir := folder(t)
	s := start(t, configuration(dir))
	local, over := "http://node", "https://"+s.Address()
	for _, c := range []struct {
		what   string
		client *http.Client
		url    string
		code   int
		text   string
	}{
		{"this machine", unix(s.Socket()), local + "/x", 200, fmt.Sprintf("uid %d, process %d sent 2", os.Getuid(), os.Getpid())},
		{"an operator", s.member(t, "alice", "operator"), over + "/x", 200, "operator alice sent 2"},
		{"an agent as an operator", s.member(t, "edge-1", "guard"), over + "/x", 403, "only operators may call this"},
		{"an agent", s.member(t, "edge-1", "guard"), over + "/open/", 200, "guard edge-1 sent 2"},
		{"a stranger as an operator", s.member(t, "", ""), over + "/x", 401, "only operators may call this"},
		{"a stranger", s.member(t, "", ""), over + "/open/", 200, "unknown peer sent 2"},
		{"a revoked operator", s.member(t, "gone", "operator"), over + "/x", 401, "revoked"},
		{"a revoked guard where everyone may", s.member(t, "gone", "guard"), over + "/open/", 401, "revoked"},
	} {
		if code, text := post(c.client, c.url, strings.NewReader("{}")); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d %s; want %d with %q", c.what, code, text, c.code, c.text)
		}
	}
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}}}
	if code, _ := post(plain, over+"/open/", nil); code != 0 {
		t.Errorf("TLS 1.2 was answered with %d", code)
	}
}

func TestSocket(t *testing.T) {
	dir := folder(t)
	c := configuration(dir)
	c.Listen = ""
	// What a crash left.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s := start(t, c)
	info, err := os.Stat(c.Socket)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, err := api.New(c, api.Dependencies{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "served by another program") {
		t.Errorf("a second program: %v", err)
	}
	if code, _ := post(unix(c.Socket), "http://node/x", nil); code != 200 {
		t.Errorf("after that: %d", code)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Socket); err == nil {
		t.Error("the socket outlived the server")
	}
	if err := os.WriteFile(c.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := again.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a file in the place of the socket: %v", err)
	}
}

// endless is a body that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestABodyHasBounds(t *testing.T) {
	s := start(t, configuration(folder(t)))
	code, text := post(s.member(t, "alice", "operator"), "https://"+s.Address()+"/x", endless{})
	if code == 200 || code == 0 && !strings.Contains(text, "EOF") && !strings.Contains(text, "reset") && !strings.Contains(text, "closed") {
		t.Errorf("a body without end: %d %s", code, text)
	}
	if code, text := post(unix(s.Socket()), "http://node/x", bytes.NewReader(make([]byte, api.MaxRequest))); code != 200 || !strings.HasSuffix(text, fmt.Sprint(api.MaxRequest)) {
		t.Errorf("the largest body: %d %s", code, text)
	}
}

// TestConnectionsHaveBounds: beyond them the oldest that never named a member is
// closed, so that idle ones lock no caller out.
func TestConnectionsHaveBounds(t *testing.T) {
	c := configuration(folder(t))
	c.MaxConnections = 2
	s := start(t, c)
	client := s.member(t, "alice", "operator")
	for range 3 {
		for range 5 {
			conn, err := net.Dial("tcp", s.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		if code, text := post(client, "https://"+s.Address()+"/x", nil); code != 200 {
			t.Errorf("beside idle connections: %d %s", code, text)
		}
	}
}

// TestStopEndsWaiting: a request that only waits is answered when the server
// stops, and does not hold it up.
func TestStopEndsWaiting(t *testing.T) {
	s := start(t, configuration(folder(t)))
	done := make(chan string, 1)
	go func() {
		_, text := post(unix(s.Socket()), "http://node/wait/", nil)
		done <- text
	}()
	time.Sleep(50 * time.Millisecond) // for the request to begin
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if text := <-done; text != "stopping" && !strings.Contains(text, "refused") && !strings.Contains(text, "no such file") {
		t.Errorf("the waiting request got %q", text)
	}
}

func TestGate(t *testing.T) {
	g := api.NewGate(1)
	leave, err := g.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 8)
	for range 8 {
		go func() { _, err := g.Enter(ctx); waiting <- err }()
	}
	time.Sleep(200 * time.Millisecond) // for them to wait
	if _, err := g.Enter(t.Context()); err == nil {
		t.Fatal("a tenth request was let wait")
	}
	cancel()
	for range 8 {
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	leave()
	if leave, err = g.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave()
}

func TestDialSays(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for address, want := range map[string]string{
		"http://node":       "is not the address of a node",
		"unix://node.sock":  "three slashes",
		"https://node:9121": "dragnet operator enrol https://node:9121 TOKEN",
		"/run/dragnet.sock": "is not the address of a node",
	} {
		if _, err := api.Dial(address, ""); err == nil || !strings.Contains(err.Error()+"\n"+hint.Of(err), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
