package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"fmt"
)

// Sign signs msg for a purpose of 1 to 255 bytes: a signature made for one
// purpose is none for another (Ed25519ph with a context, RFC 8032, section
// 5.1).
func (k *Key) Sign(purpose string, msg []byte) ([]byte, error) {
	if purpose == "" {
		return nil, fmt.Errorf("a signature needs a purpose")
	}
	return k.private.Sign(nil, hashed(msg), options(purpose))
}

// Verify reports whether the key signed msg for this purpose.
func (p Public) Verify(purpose string, msg, signature []byte) bool {
	return ed25519.VerifyWithOptions(p.key[:], hashed(msg), signature, options(purpose)) == nil
}

func hashed(msg []byte) []byte {
	sum := sha512.Sum512(msg)
	return sum[:]
}

func options(purpose string) *ed25519.Options {
	return &ed25519.Options{Hash: crypto.SHA512, Context: purpose}
}
