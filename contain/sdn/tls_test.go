package sdn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates with a common name and no other, as Open
// vSwitch's ovs-pki does.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.issue(t, "authority")
	return a
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: a.cert == nil, BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert == nil {
		a.key = k
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write := func(kind, file string, der []byte) string {
		path := filepath.Join(a.dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("CERTIFICATE", name+".pem", der), write("PRIVATE KEY", name+".key", pkcs8)
}

func TestTLSBothSidesShowCertificates(t *testing.T) {
	w := newCloud(t)
	a, stranger := newAuthority(t), newAuthority(t)
	cert, key := a.issue(t, "br0")
	if _, err := w.v.Set("set-ssl", key, cert, filepath.Join(a.dir, "authority.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.v.Set("set-controller", "br0", "pssl:6653:127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	await(t, w, "127.0.0.1:6653")
	ours, ourKey := a.issue(t, "dragnet")
	theirs, theirKey := stranger.issue(t, "dragnet")
	good := TLS{Authority: filepath.Join(a.dir, "authority.pem"), Certificate: ours, Key: ourKey, Name: "br0"}
	for _, c := range []struct {
		what, problem string
		change        func(*TLS)
	}{
		{"good", "", func(*TLS) {}},
		{"any name", "", func(x *TLS) { x.Name = "" }},
		{"other name", `of "br0", not of "br1"`, func(x *TLS) { x.Name = "br1" }},
		{"other authority", "unknown authority", func(x *TLS) { x.Authority = filepath.Join(stranger.dir, "authority.pem") }},
		{"our certificate is a stranger's", "the switch cannot be reached", func(x *TLS) { x.Certificate, x.Key = theirs, theirKey }},
		{"no authority", "no such file", func(x *TLS) { x.Authority += "x" }},
	} {
		config := w.c
		config.Address, config.TLS = "ssl:127.0.0.1:6653", good
		c.change(&config.TLS)
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		err = w.host.Do(func() error { _, err := s.Rules(t.Context()); return err })
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: %v", c.what, err)
		}
		if c.problem != "" && c.what != "no authority" && !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: the state is not clear: %v", c.what, err)
		}
	}
}

// await waits until something listens in the switch's node.
func await(t *testing.T, w *cloud, address string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := w.host.Do(func() error {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
