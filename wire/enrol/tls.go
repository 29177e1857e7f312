package enrol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// serverLife is how long a node's own certificate lasts; a new one is made when
// half of it is over.
const serverLife = 30 * 24 * time.Hour

// ServerTLS is how a node that is reached under these names and addresses
// serves: TLS 1.3, with a certificate that is renewed before it ends. A client
// need not show a certificate, since one that enrols has none; one that it
// shows must be of this authority.
func (a *Authority) ServerTLS(names []string) *tls.Config {
	var mu sync.Mutex // guards current and until
	var current *tls.Certificate
	var until time.Time
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  a.Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			if current != nil && now.Before(until) && now.After(until.Add(-serverLife)) {
				return current, nil
			}
			k, der, err := a.server(names, now, serverLife)
			if err != nil {
				return nil, err
			}
			current = &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: k}
			until = now.Add(serverLife / 2)
			return current, nil
		},
	}
}

// ErrOtherNode says that the server is not the node that gave the token.
var ErrOtherNode = errors.New("this is not the node that the token or certificate is of")

// clientTLS accepts the node whose authority has this pin, whatever its
// address. own gives the client's certificate and may be nil.
func clientTLS(pin Pin, own func() *tls.Certificate) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		// What VerifyConnection does takes the place of names and of the
		// system's authorities.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return verify(s.PeerCertificates, pin, time.Now()) },
	}
	if own != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own(), nil }
	}
	return c
}

// verify wants a chain of two: a server's certificate, and the authority with
// this pin that gave it.
func verify(chain []*x509.Certificate, pin Pin, now time.Time) error {
	if len(chain) != 2 || pinOf(chain[1]) != pin {
		return ErrOtherNode
	}
	roots := x509.NewCertPool()
	roots.AddCert(chain[1])
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("certificate of the node: %w (is this machine's clock right?)", err)
	}
	return nil
}
