package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ErrPeer says that the other end of a connection holds another key than the
// one expected.
var ErrPeer = errors.New("the other end does not hold the key it is known by")

// certificate is a certificate that the key signed for itself. Nothing in it
// but the key is looked at, so it does not expire.
func (k *Key) certificate() (tls.Certificate, error) {
	id := k.ID()
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:16]),
		Subject:      pkix.Name{CommonName: "dragnet " + id.String()[:16]},
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, section 4.1.2.5: no expiry
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.private.Public(), k.private)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.private}, nil
}

// ServerTLS serves TLS 1.3 under the key. Clients may show a key of theirs;
// PeerOf returns the key, and the caller decides what it may do.
func ServerTLS(k *Key) (*tls.Config, error) {
	c, err := k.certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:            tls.VersionTLS13,
		Certificates:          []tls.Certificate{c},
		ClientAuth:            tls.RequestClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { return anyKey(raw) },
		NextProtos:            []string{"h2", "http/1.1"},
	}, nil
}

// ClientTLS accepts a server that holds the given key and no other, whatever
// its name. A client without a key passes nil.
func ClientTLS(k *Key, server Public) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		// The names and authorities of the web are replaced by the key itself.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if p, ok := PeerOf(s); !ok || p != server || server.IsZero() {
				return fmt.Errorf("%w (%s)", ErrPeer, server)
			}
			return nil
		},
	}
	if k != nil {
		c, err := k.certificate()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{c}
	}
	return config, nil
}

// anyKey passes clients without a certificate and those that TLS has seen prove
// an Ed25519 key.
func anyKey(raw [][]byte) error {
	if len(raw) == 0 {
		return nil
	}
	c, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return err
	}
	if _, ok := c.PublicKey.(ed25519.PublicKey); !ok {
		return errors.New("client certificates carry an Ed25519 key")
	}
	return nil
}

// PeerOf returns the key that the other end proved to hold.
func PeerOf(s tls.ConnectionState) (Public, bool) {
	if len(s.PeerCertificates) == 0 {
		return Public{}, false
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return Public{}, false
	}
	p, err := PublicFromBytes(key)
	return p, err == nil
}
