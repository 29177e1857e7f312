package emulate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"dragnet/trap/session"
)

func isTLS(first []byte) bool {
	return len(first) >= 3 && first[0] == 0x16 && first[1] == 3 && first[2] <= 4
}

// certificate is one for all connections: a self-signed one without names, as
// devices have them.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-90 * 24 * time.Hour), NotAfter: now.Add(10 * 365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// serveTLS completes a handshake with whatever version the client offers (TLS
// 1.0 to 1.3) and serves what it carries, which is recorded as a separate session
// since the variants of a worm can be compared in clear text only.
func serveTLS(c *Conn) error {
	own, err := certificate()
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	inner := tls.Server(buffered{c}, &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS10})
	if err := inner.Handshake(); err != nil {
		return err
	}
	var r *session.Recorder
	if c.nested != nil {
		r = c.nested("tls")
	}
	if r == nil {
		r = session.NewRecorder(session.Session{}, 0, time.Now)
	}
	carried := NewConn(inner, r, c.idle, c.end, nil)
	name, serve := "generic", serveGeneric
	if isHTTP(carried.peek(bannerAfter)) {
		name, serve = "http", serveHTTP
	}
	r.SetService("tls/" + name)
	return serve(carried)
}

// buffered reads what a Conn has buffered before it reads on.
type buffered struct{ *Conn }

func (b buffered) Read(p []byte) (int, error) { return b.Reader.Read(p) }

var _ net.Conn = buffered{}
