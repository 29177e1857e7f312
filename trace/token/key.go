package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const pemType = "DRAGNET ED25519 SEED"

// LoadKey reads a private key, or makes one if the file does not exist. Hosts
// sign records with their key, investigators authenticate with theirs.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemType || len(block.Bytes) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s is not an Ed25519 seed; move it away to have a new key made", path)
	}
	return ed25519.NewKeyFromSeed(block.Bytes), nil
}

func makeKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	// CreateTemp, which writeFile uses, makes files only the owner may read.
	if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: key.Seed()})); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// FormatKey encodes a public key as used in configuration files.
func FormatKey(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// ParseKey reads what FormatKey wrote.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not a public key: those are 44 characters of base64", s)
	}
	return b, nil
}
