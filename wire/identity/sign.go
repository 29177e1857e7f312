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

// SignItem signs a mutable item of a distributed hash table, which strangers
// check (BEP 44, "Mutable items"). Value is in bencoding. What is signed begins
// with "4:salt" or "3:seq", as nothing else does that the key signs: other
// signatures are of Ed25519ph, and those within TLS begin with spaces (RFC 8446,
// section 4.4.3) or the first byte of a certificate.
func (k *Key) SignItem(salt []byte, sequence int64, value []byte) [ed25519.SignatureSize]byte {
	var b []byte
	if len(salt) > 0 {
		b = append(fmt.Appendf(b, "4:salt%d:", len(salt)), salt...)
	}
	b = append(fmt.Appendf(b, "3:seqi%de1:v", sequence), value...)
	return [ed25519.SignatureSize]byte(ed25519.Sign(k.private, b))
}
