// Package identity is who speaks: an Ed25519 key (RFC 8032) for each
// organisation or program. There is no authority that vouches for keys; those
// who talk know each other's public key, and TLS accepts that key and no other.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dragnet/internal/durable"
)

// ID names a key: the SHA-256 of the public key's 32 bytes.
type ID [sha256.Size]byte

// String is the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return ID{}, fmt.Errorf("%.80q is not a key's identifier: 64 hexadecimal digits", s)
	}
	return ID(b), nil
}

// Public is a public key. The zero Public belongs to no key.
type Public struct{ key [ed25519.PublicKeySize]byte }

const publicPrefix = "ed25519:"

// String is the form people exchange: ed25519: and 43 characters of base64
// (RFC 4648, section 5, without padding).
func (p Public) String() string {
	return publicPrefix + base64.RawURLEncoding.EncodeToString(p.key[:])
}

// ParsePublic reads what String wrote.
func ParsePublic(s string) (Public, error) {
	text, ok := strings.CutPrefix(s, publicPrefix)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(b) != ed25519.PublicKeySize {
		return Public{}, fmt.Errorf("%.80q is not a public key such as ed25519:3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08", s)
	}
	return Public{[ed25519.PublicKeySize]byte(b)}, nil
}

// PublicFromBytes takes the 32 bytes of a public key.
func PublicFromBytes(b []byte) (Public, error) {
	if len(b) != ed25519.PublicKeySize {
		return Public{}, fmt.Errorf("a public key has %d bytes, not %d", ed25519.PublicKeySize, len(b))
	}
	return Public{[ed25519.PublicKeySize]byte(b)}, nil
}

// Bytes is the key's 32 bytes.
func (p Public) Bytes() []byte { return p.key[:] }

// MarshalText is String, for JSON and YAML.
func (p Public) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePublic.
func (p *Public) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePublic(string(b))
	return err
}

// ID names the key.
func (p Public) ID() ID { return sha256.Sum256(p.key[:]) }

// IsZero reports whether p is the zero Public.
func (p Public) IsZero() bool { return p == Public{} }

// Key is a private key.
type Key struct{ private ed25519.PrivateKey }

// Generate makes a new key.
func Generate() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Key{private}, nil
}

// Public is the public half.
func (k *Key) Public() Public {
	return Public{[ed25519.PublicKeySize]byte(k.private.Public().(ed25519.PublicKey))}
}

// ID names the key.
func (k *Key) ID() ID { return k.Public().ID() }

const pemType = "DRAGNET ED25519 SEED"

// Create makes a new key and keeps it in a new file that only its owner may
// read. A file that is there is never written over.
func Create(path string) (*Key, error) {
	k, err := Generate()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = pem.Encode(f, &pem.Block{Type: pemType, Bytes: k.private.Seed()})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return k, nil
}

// Load reads a key that Create kept, and refuses a file that others may read.
func Load(path string) (*Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read this private key (mode %#o); 'chmod 600 %s', and replace the key if they did", path, info.Mode().Perm(), path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemType || len(block.Bytes) != ed25519.SeedSize || len(rest) != 0 {
		return nil, fmt.Errorf("%s: not a private key of dragnet", path)
	}
	return &Key{ed25519.NewKeyFromSeed(block.Bytes)}, nil
}

// ErrLost says that a private key is gone.
var ErrLost = errors.New("this private key was lost: restore it from a backup; a new one would be another identity, unknown to all others")

// publicPath is the file beside a private key that remembers its public half.
func publicPath(path string) string { return path + ".pub" }

// LoadOrCreate reads the key at path, or makes one when there was never any. The public
// half is kept beside it; where only that is left, the error is ErrLost.
func LoadOrCreate(path string) (*Key, error) {
	k, err := Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		if public, lost := os.ReadFile(publicPath(path)); lost == nil {
			return nil, fmt.Errorf("%s: %w (it was %s; remove %s to start with a new identity)", path, ErrLost, strings.TrimSpace(string(public)), publicPath(path))
		}
		if k, err = Create(path); errors.Is(err, fs.ErrExist) {
			k, err = Load(path) // another program was faster
		}
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(publicPath(path)); errors.Is(err, fs.ErrNotExist) {
		// Where it cannot be kept, as beside a key that is mounted, it is done without.
		_ = durable.WriteFile(publicPath(path), []byte(k.Public().String()+"\n"), 0o644)
	}
	return k, nil
}
