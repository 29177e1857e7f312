package sdn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
)

func dial(ctx context.Context, c *Configuration) (net.Conn, error) {
	network, address := c.splitAddress()
	secure := network == "tls"
	if secure {
		network = "tcp"
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !secure {
		return conn, nil
	}
	config, err := c.TLS.loadConfig()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	t := tls.Client(conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnreachable, err), conn.Close())
	}
	return t, nil
}

func (t *TLS) loadConfig() (*tls.Config, error) {
	pem, err := os.ReadFile(t.Authority)
	if err != nil {
		return nil, fmt.Errorf("tls.authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.authority: %s holds no certificate", t.Authority)
	}
	own, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate and tls.key: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own},
		// The certificates that Open vSwitch's tools make carry no name of a host,
		// which Go would demand. The chain is verified below instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return t.verifyChain(state.PeerCertificates, roots)
		},
	}, nil
}

func (t *TLS) verifyChain(chain []*x509.Certificate, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return errors.New("the switch shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return err
	}
	if t.Name != "" && leaf.Subject.CommonName != t.Name && !slices.Contains(leaf.DNSNames, t.Name) {
		return fmt.Errorf("the certificate is of %q, not of %q", leaf.Subject.CommonName, t.Name)
	}
	return nil
}
