package enrol

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
)

// Pin is the SHA-256 of an authority's public key (its SubjectPublicKeyInfo).
type Pin [sha256.Size]byte

// Token lets one agent or operator enrol, once.
type Token struct {
	// Pin identifies the node.
	Pin Pin
	// Secret proves to the node that it made the token.
	Secret [16]byte
}

// tokenPrefix carries the token's version.
const tokenPrefix = "dragnet1-"

// NewToken makes a token of the node whose authority has this pin.
func NewToken(pin Pin) (Token, error) {
	t := Token{Pin: pin}
	_, err := rand.Read(t.Secret[:])
	return t, err
}

// String is the form in which people pass a token on.
func (t Token) String() string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(t.Pin[:], t.Secret[:]...))
}

// ParseToken reads what String wrote.
func ParseToken(s string) (t Token, err error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(b) != len(t.Pin)+len(t.Secret) {
		return t, errors.New("not a token: want " + tokenPrefix + " and 64 characters, as 'dragnet agent token' prints it")
	}
	copy(t.Pin[:], b)
	copy(t.Secret[:], b[len(t.Pin):])
	return t, nil
}

// Digest is what a node remembers of a token.
func (t Token) Digest() [sha256.Size]byte { return sha256.Sum256(t.Secret[:]) }

// ClientTLS accepts the token's node and shows no certificate.
func (t Token) ClientTLS() *tls.Config { return clientTLS(t.Pin, nil) }
