package identity_test

import (
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dragnet/wire/identity"
)

func generate(t rapid.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "key")
	k, err := identity.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := identity.LoadOrCreate(path)
	if err != nil || again.Public() != k.Public() {
		t.Fatalf("loaded %v, %v", again, err)
	}
	if _, err := identity.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key was written over: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("-----BEGIN X-----"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(bad); err == nil {
		t.Error("a file that is not a key was taken for one")
	}
}

func TestText(t *testing.T) {
	p := generate(t).Public()
	if q, err := identity.ParsePublic(p.String()); err != nil || q != p {
		t.Errorf("%v, %v", q, err)
	}
	if id, err := identity.ParseID(p.ID().String()); err != nil || id != p.ID() {
		t.Errorf("%v, %v", id, err)
	}
	for _, s := range []string{"", "ed25519:", p.String() + "A", p.String()[1:], p.ID().String()} {
		if _, err := identity.ParsePublic(s); err == nil {
			t.Errorf("%q was read as a key", s)
		}
	}
}

// TestSignature: any other key, purpose, message or signature is refused.
func TestSignature(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, msg := generate(t), rapid.SliceOf(rapid.Byte()).Draw(t, "message")
		s, err := k.Sign("a", msg)
		if err != nil {
			t.Fatal(err)
		}
		if !k.Public().Verify("a", msg, s) {
			t.Fatal("own signature refused")
		}
		changed := append([]byte(nil), s...)
		changed[rapid.IntRange(0, len(s)-1).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		if k.Public().Verify("b", msg, s) || k.Public().Verify("a", append(msg, 0), s) ||
			k.Public().Verify("a", msg, changed) || generate(t).Public().Verify("a", msg, s) {
			t.Fatal("a wrong signature was accepted")
		}
	})
	if _, err := generate(t).Sign("", nil); err == nil {
		t.Error("signed without a purpose")
	}
}

// TestTLS talks over loopback: with the right server, with one that holds
// another key, with and without a client key, and below TLS 1.3.
func TestTLS(t *testing.T) {
	server, client := generate(t), generate(t)
	for _, test := range []struct {
		name   string
		key    *identity.Key
		expect identity.Public
		max    uint16
		ok     bool
	}{
		{"both keys", client, server.Public(), 0, true},
		{"no client key", nil, server.Public(), 0, true},
		{"another server", client, client.Public(), 0, false},
		{"nobody's key", client, identity.Public{}, 0, false},
		{"TLS 1.2", client, server.Public(), tls.VersionTLS12, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen, err := talk(t, server, test.key, test.expect, test.max)
			if (err == nil) != test.ok {
				t.Fatalf("error %v", err)
			}
			if test.ok && test.key != nil && seen != client.Public() {
				t.Errorf("the server saw %s", seen)
			}
			if test.ok && test.key == nil && !seen.IsZero() {
				t.Errorf("the server saw %s where no key was shown", seen)
			}
		})
	}
}

// talk reads one byte from the server, which says whose key it saw.
func talk(t *testing.T, server, client *identity.Key, expect identity.Public, highest uint16) (seen identity.Public, err error) {
	sc, err := identity.ServerTLS(server)
	if err != nil {
		t.Fatal(err)
	}
	cc, err := identity.ClientTLS(client, expect)
	if err != nil {
		t.Fatal(err)
	}
	if highest != 0 {
		cc.MinVersion, cc.MaxVersion = highest, highest
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, sc)
		defer s.Close()
		if s.Handshake() == nil {
			seen, _ = identity.PeerOf(s.ConnectionState())
			s.Write([]byte{1})
		}
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), cc)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
		c.Close()
	}
	l.Close()
	<-done
	return seen, err
}
