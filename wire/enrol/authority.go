package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"dragnet/internal/durable"
)

// authorityFile holds an authority's certificate and key, PEM.
const authorityFile = "authority.pem"

// authorityLife is how long a node's authority lasts. To replace it is to enrol
// every agent again, so it outlives the hardware.
const authorityLife = 20 * 365 * 24 * time.Hour

// early is how far a certificate reaches back, for clocks that are behind.
const early = time.Hour

// Authority gives certificates to a node's agents and operators, and to the
// node itself. Its keys are of P-256, which every TLS library and browser
// takes.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// OpenAuthority reads the authority in folder dir, or makes one where there is
// none. Only the owner may read its file.
func OpenAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, authorityFile)
	a, err := loadAuthority(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Two programs may be here at once; the second waits for the first.
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if a, err := loadAuthority(path); !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if err := makeAuthority(path, time.Now()); err != nil {
		return nil, err
	}
	return loadAuthority(path)
}

func makeAuthority(path string, now time.Time) error {
	k, der, err := selfSigned(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "authority of a dragnet node"},
		NotBefore: now.Add(-early), NotAfter: now.Add(authorityLife),
		IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	if err != nil {
		return err
	}
	text, err := encodePair(k, der)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, text, 0o600)
}

func selfSigned(template *x509.Certificate) (*ecdsa.PrivateKey, []byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	return k, der, err
}

func loadAuthority(path string) (*Authority, error) {
	k, certificate, err := readPair(path)
	if err != nil {
		return nil, err
	}
	if !certificate.IsCA {
		return nil, fmt.Errorf("%s: holds no authority's certificate", path)
	}
	return &Authority{certificate, k}, nil
}

// Certificate is the authority's own, DER.
func (a *Authority) Certificate() []byte { return a.certificate.Raw }

// PEM is the authority's own certificate as programs such as curl want it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Pin is what a token carries of the authority.
func (a *Authority) Pin() Pin { return pinOf(a.certificate) }

func pinOf(c *x509.Certificate) Pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Pool accepts what the authority gave.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// KeyOf is the digest of the key that a certificate signing request (RFC 2986,
// DER) asks for, and proves to have.
func KeyOf(request []byte) ([sha256.Size]byte, error) {
	r, err := parseRequest(request)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(r.RawSubjectPublicKeyInfo), nil
}

// maxRequest bounds a signing request; those of our agents have 200 bytes.
const maxRequest = 8 << 10

func parseRequest(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("a certificate signing request of %d bytes; at most %d are read", len(der), maxRequest)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate signing request: %w", err)
	}
	if k, ok := r.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("certificate signing request: want a key of P-256")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate signing request: %w", err)
	}
	return r, nil
}

// Issue gives the key of a request a certificate for a client: name becomes its
// common name, role its organisational unit.
func (a *Authority) Issue(request []byte, name, role string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	r, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	der, err := a.sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: name, OrganizationalUnit: []string{role}},
		NotBefore: now.Add(-early), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, r.PublicKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *Authority) sign(template *x509.Certificate, public any) (der []byte, err error) {
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
}

// newSerial is a positive number of at most 20 octets (RFC 5280, section
// 4.1.2.2), too long to guess.
func newSerial() (*big.Int, error) {
	b := make([]byte, 19)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// server makes a node's certificate for these names and addresses.
func (a *Authority) server(names []string, now time.Time, life time.Duration) (k *ecdsa.PrivateKey, der []byte, err error) {
	if k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "dragnet node"},
		NotBefore: now.Add(-early), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if n != "" {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err = a.sign(template, k.Public())
	return k, der, err
}
