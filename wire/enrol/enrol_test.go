package enrol

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := OpenAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// member enrols in a new folder.
func member(t *testing.T, a *Authority, name string, life time.Duration) *Folder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	request, err := Request(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue(request, name, "guard", time.Now(), life)
	if err != nil {
		t.Fatal(err)
	}
	if err := Save(dir, Member{Node: "https://node.example:9121", Name: name, Role: "guard"}, c.Raw, a.Certificate()); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// serve answers with the name in the client's certificate.
func serve(t *testing.T, a *Authority) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", a.ServerTLS([]string{"localhost", "127.0.0.1"}))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if c := r.TLS.PeerCertificates; len(c) > 0 {
			name = c[0].Subject.CommonName
		}
		io.WriteString(w, name)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "https://" + l.Addr().String()
}

func get(c *tls.Config, url string) (string, error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func TestWhoIsKnown(t *testing.T) {
	ours, other := authority(t), authority(t)
	url := serve(t, ours)
	token, err := NewToken(ours.Pin())
	if err != nil {
		t.Fatal(err)
	}
	if name, err := get(token.ClientTLS(), url); err != nil || name != "nobody" {
		t.Errorf("with a token: %q, %v", name, err)
	}
	if name, err := get(member(t, ours, "edge-1", time.Hour).ClientTLS(), url); err != nil || name != "edge-1" {
		t.Errorf("enrolled: %q, %v", name, err)
	}
	foreign, err := NewToken(other.Pin())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(foreign.ClientTLS(), url); !errors.Is(err, ErrOtherNode) {
		t.Errorf("a token of another node: %v", err)
	}
	if _, err := get(member(t, other, "x", time.Hour).ClientTLS(), url); !errors.Is(err, ErrOtherNode) {
		t.Errorf("enrolled elsewhere: %v", err)
	}
	if name, err := get(member(t, ours, "old", -time.Minute).ClientTLS(), url); err == nil {
		t.Errorf("with a certificate that has ended: %q", name)
	}
	// The client trusts the server; it is the server that must refuse.
	stranger := member(t, other, "stranger", time.Hour)
	stranger.pin = ours.Pin()
	if name, err := get(stranger.ClientTLS(), url); err == nil {
		t.Errorf("with another authority's certificate: %q", name)
	}
}

// TestAClientIsNoServer: an agent must not be able to play the node towards
// other agents.
func TestAClientIsNoServer(t *testing.T) {
	a := authority(t)
	f := member(t, a, "edge-1", time.Hour)
	own := *f.own
	own.Certificate = append(own.Certificate, a.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) { io.Copy(io.Discard, c); c.Close() }(c)
		}
	}()
	token, err := NewToken(a.Pin())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := tls.Dial("tcp", l.Addr().String(), token.ClientTLS()); err == nil {
		c.Close()
		t.Error("an agent's certificate passed for a node's")
	}
}

func TestRenewal(t *testing.T) {
	a := authority(t)
	f := member(t, a, "edge-1", time.Hour)
	before := f.leaf.SerialNumber
	lost, err := Request(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Request(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	k1, err1 := KeyOf(lost)
	k2, err2 := KeyOf(again)
	if err1 != nil || err2 != nil || k1 != k2 {
		t.Errorf("an answer that was lost is asked for with another key: %v %v", err1, err2)
	}
	foreign, err := Request(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue(foreign, "edge-1", "guard", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Renewed(c.Raw); err == nil {
		t.Error("kept a certificate for another key")
	}
	if c, err = a.Issue(again, "edge-1", "guard", time.Now(), 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := f.Renewed(c.Raw); err != nil {
		t.Fatal(err)
	}
	g, err := Open(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if g.leaf.SerialNumber.Cmp(before) == 0 || g.leaf.SerialNumber.Cmp(f.leaf.SerialNumber) != 0 {
		t.Error("the folder does not hold the new certificate")
	}
	third, err := Request(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if k3, err := KeyOf(third); err != nil || k3 == k1 {
		t.Errorf("the next request is for the key in use, %v", err)
	}
}

// TestFilesArePrivate: only their owner may read keys, and a key that others could
// read is not used.
func TestFilesArePrivate(t *testing.T) {
	a := authority(t)
	f := member(t, a, "edge-1", time.Hour)
	files, err := filepath.Glob(filepath.Join(f.dir, "*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(f.dir, clientFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f.dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotEnrolled) {
		t.Error(err)
	}
}

func TestOneAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	pins := make([]Pin, 8)
	var wg sync.WaitGroup
	for i := range pins {
		wg.Go(func() {
			a, err := OpenAuthority(dir)
			if err != nil {
				t.Error(err)
				return
			}
			pins[i] = a.Pin()
		})
	}
	wg.Wait()
	for _, p := range pins {
		if p != pins[0] {
			t.Fatal("programs that start together made more than one authority")
		}
	}
}

func TestTokenText(t *testing.T) {
	token, err := NewToken(authority(t).Pin())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseToken(" " + token.String() + "\n"); err != nil || got != token {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "dragnet1-", token.String()[1:], token.String() + "AAAA", strings.Replace(token.String(), "1-", "2-", 1)} {
		if _, err := ParseToken(s); err == nil {
			t.Errorf("%q was read as a token", s)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("dragnet1-")
	f.Add(Token{Pin: Pin{1}, Secret: [16]byte{2}}.String())
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s)
		if err == nil && token.String() != strings.TrimSpace(s) {
			t.Errorf("%q is read as %q", s, token)
		}
	})
}

func FuzzIssue(f *testing.F) {
	request, err := Request(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	a, err := OpenAuthority(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := a.Issue(der, "n", "guard", time.Unix(1<<30, 0), time.Hour)
		if err == nil && (c.IsCA || c.Subject.CommonName != "n" || len(c.DNSNames) > 0) {
			t.Errorf("the request decided on the certificate: %v", c.Subject)
		}
	})
}

func FuzzDecode(f *testing.F) {
	dir := f.TempDir()
	if _, err := Request(dir); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, pendingFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, _, err := decode(data); err == nil && k == nil {
			t.Error("no key and no error")
		}
	})
}
