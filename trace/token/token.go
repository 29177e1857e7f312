// Package token keeps the records behind tokens.
//
// A token is hex SHA-256(salt || record) with a salt of 256 random bits: it
// says nothing about the record, all have one length, and a record that is
// changed later no longer matches the token that has left the host. That gives
// both properties that the paper asks for and contradicts itself about (section
// III-B: nothing of the request in a token; section IV: the hash of the file,
// so that tampering shows).
//
// Records are frames in segment files. Every frame extends a hash chain, and
// checkpoints sign the chain with the host's Ed25519 key, so removing or
// reordering records shows too. The store is bounded; see Limits.
//
// Not guaranteed: an attacker with the host's key can write a new store with a
// valid chain, but cannot make its records match tokens given before.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Size is the length of salts, commitments and links in bytes.
const Size = 32

// Hash is a commitment or a link of the chain.
type Hash [Size]byte

// String is the token of a commitment.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseToken reads a token.
func ParseToken(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*Size {
		return h, fmt.Errorf("%q is not a token: those are %d hex digits", s, 2*Size)
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return h, fmt.Errorf("%q is not a token: %w", s, err)
	}
	return h, nil
}

// Commit is the hash that binds a record and its salt.
func Commit(salt Hash, record []byte) Hash {
	d := sha256.New()
	d.Write(salt[:])
	d.Write(record)
	var h Hash
	d.Sum(h[:0])
	return h
}

// Random is a token without record, indistinguishable from the others: the
// answer if an error would reveal too much.
func Random() string {
	var h Hash
	rand.Read(h[:]) // never fails since Go 1.24
	return h.String()
}
