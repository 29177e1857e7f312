package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dragnet/internal/durable"
)

// Files of a folder. client.pem is written last: with it, one is enrolled.
const (
	clientFile  = "client.pem"  // certificate and key
	nodeCAFile  = "node-ca.pem" // certificate of the node's authority
	memberFile  = "member.json" // Member
	pendingFile = "pending.pem" // the key that was asked for, until it has its certificate
)

// ErrNotEnrolled says that a folder holds no certificate.
var ErrNotEnrolled = errors.New("not enrolled")

// Member is who is enrolled where.
type Member struct {
	// Version of this file; fields are added, never changed.
	Version int `json:"version"`
	// Node is the node's address, such as https://node.example.org:9121.
	Node string `json:"node"`
	// Name and Role are what the node's operator chose.
	Name string `json:"name"`
	Role string `json:"role"`
}

// Folder holds an agent's or operator's certificate, in files that only its
// owner may read. It is safe for concurrent use.
type Folder struct {
	dir    string
	member Member
	pin    Pin

	mu   sync.Mutex // guards all below
	own  *tls.Certificate
	leaf *x509.Certificate
}

// Open reads the folder of an enrolled member.
func Open(dir string) (*Folder, error) {
	f := &Folder{dir: dir}
	if err := f.load(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, memberFile))
	if err == nil {
		err = json.Unmarshal(data, &f.member)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, memberFile), err)
	}
	path := filepath.Join(dir, nodeCAFile)
	data, err = os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: holds no certificate", path)
	}
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.pin = pinOf(authority)
	return f, nil
}

func (f *Folder) load() error {
	k, leaf, err := readPair(filepath.Join(f.dir, clientFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", f.dir, ErrNotEnrolled)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own, f.leaf = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: k, Leaf: leaf}, leaf
	return nil
}

// Member returns who is enrolled, and where.
func (f *Folder) Member() Member { return f.member }

// ClientTLS accepts the node only, and shows the certificate that the folder
// holds at the time.
func (f *Folder) ClientTLS() *tls.Config {
	return clientTLS(f.pin, func() *tls.Certificate {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.own
	})
}

// Validity is the span of the certificate.
func (f *Folder) Validity() (from, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaf.NotBefore, f.leaf.NotAfter
}

// Request is the signing request for a key that is kept in dir until its
// certificate comes. Asked again before that, it is for the same key, so that a
// lost answer can be asked for again.
func Request(dir string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, pendingFile)
	k, err := readKey(path)
	// A crash may have left a key whose certificate had come.
	if used, _, e := readPair(filepath.Join(dir, clientFile)); errors.Is(err, fs.ErrNotExist) || err == nil && e == nil && used.Equal(k) {
		k, err = newKey(path)
	}
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := encodePair(k, nil)
	if err != nil {
		return nil, err
	}
	return k, durable.WriteFile(path, text, 0o600)
}

// Save keeps the first certificate (DER) for the key of the last Request, and
// who gave it.
func Save(dir string, m Member, certificate, authority []byte) error {
	m.Version = 1
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, memberFile), append(data, '\n'), 0o600); err != nil {
		return err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})
	if err := durable.WriteFile(filepath.Join(dir, nodeCAFile), ca, 0o600); err != nil {
		return err
	}
	return saveClient(dir, certificate)
}

// Renewed keeps a new certificate for the key of the last Request, and uses it
// from now on.
func (f *Folder) Renewed(certificate []byte) error {
	if err := saveClient(f.dir, certificate); err != nil {
		return err
	}
	return f.load()
}

// saveClient replaces key and certificate in one step.
func saveClient(dir string, certificate []byte) error {
	pending := filepath.Join(dir, pendingFile)
	k, err := readKey(pending)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return fmt.Errorf("certificate from the node: %w", err)
	}
	if !k.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("certificate from the node: it is for another key")
	}
	text, err := encodePair(k, certificate)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, clientFile), text, 0o600); err != nil {
		return err
	}
	return os.Remove(pending)
}
