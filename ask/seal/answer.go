package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"dragnet/dossier"
)

// Context binds an answer to the exchange it belongs to, so that it cannot be
// replayed in another.
type Context struct {
	Question dossier.QuestionID
	Witness  string
	// Detective is the asker's HPKE public key.
	Detective []byte
	// Branch is the alternative, or the clue, that is answered.
	Branch uint16
}

// bytes is unambiguous: every part of variable length has its length before it.
func (c Context) bytes(label string) []byte {
	b := append([]byte(label), 0)
	b = append(b, c.Question[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Witness)))
	b = append(b, c.Witness...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Detective)))
	b = append(b, c.Detective...)
	return binary.BigEndian.AppendUint16(b, c.Branch)
}

// Key opens the answers of one combination of tuples in one exchange.
type Key [sha256.Size]byte

// NewKey combines the secrets of a branch's tuples, in the branch's order.
func NewKey(secrets [][]byte, c Context) (Key, error) {
	var joined []byte
	for _, s := range secrets {
		joined = binary.BigEndian.AppendUint16(joined, uint16(len(s)))
		joined = append(joined, s...)
	}
	prk, err := hkdf.Extract(sha256.New, joined, c.bytes("dragnet answer v1"))
	if err != nil {
		return Key{}, fmt.Errorf("derive answer key: %w", err)
	}
	return Key(prk), nil
}

// subkeys are HKDF-Expand with the answer's salt as info: 32 bytes to encrypt,
// 32 to commit. Written with HMAC directly because this is the inner loop of
// opening: the two blocks of RFC 5869, section 2.3.
func (k *Key) subkeys(salt *[16]byte) (enc, commitment [32]byte) {
	mac := hmac.New(sha256.New, k[:])
	mac.Write(salt[:])
	mac.Write([]byte{1})
	mac.Sum(enc[:0])
	mac.Reset()
	mac.Write(enc[:])
	mac.Write(salt[:])
	mac.Write([]byte{2})
	mac.Sum(commitment[:0])
	return enc, commitment
}

// Seal encrypts plaintext, padded to its size class, as an answer.
func (k *Key) Seal(plaintext []byte, branch uint16) (dossier.SealedAnswer, error) {
	if len(plaintext) > MaxPlaintext {
		return dossier.SealedAnswer{}, fmt.Errorf("answer of %d bytes; at most %d, split it", len(plaintext), MaxPlaintext)
	}
	a := dossier.SealedAnswer{Branch: branch}
	rand.Read(a.Salt[:])
	enc, commitment := k.subkeys(&a.Salt)
	a.Commitment = commitment
	aead, err := chacha20poly1305.New(enc[:])
	if err != nil {
		return dossier.SealedAnswer{}, err
	}
	// The key serves once, so the nonce may be zero.
	var nonce [chacha20poly1305.NonceSize]byte
	a.Ciphertext = aead.Seal(nil, nonce[:], pad(plaintext), nil)
	return a, nil
}

// ErrForged means that an answer commits to the key but does not decrypt: its
// maker knew the tuple and sent garbage.
var ErrForged = errors.New("answer commits to our key but does not decrypt")

// Open decrypts an answer. ok is false, without error, if the answer belongs to
// other tuples. The plaintext is still padded.
func (k *Key) Open(a *dossier.SealedAnswer) (plaintext []byte, ok bool, err error) {
	enc, commitment := k.subkeys(&a.Salt)
	if subtle.ConstantTimeCompare(commitment[:], a.Commitment[:]) == 0 {
		return nil, false, nil
	}
	aead, err := chacha20poly1305.New(enc[:])
	if err != nil {
		return nil, false, err
	}
	var nonce [chacha20poly1305.NonceSize]byte
	plaintext, err = aead.Open(nil, nonce[:], a.Ciphertext, nil)
	if err != nil {
		return nil, false, ErrForged
	}
	return plaintext, true, nil
}

// smallestClass is the least padded size; classes double from there, so a size
// tells only its order of magnitude, at a price of at most 2 x.
const smallestClass = 256

// MaxPlaintext is the largest plaintext of one answer.
const MaxPlaintext = dossier.MaxAnswer / 2

func pad(b []byte) []byte {
	size := smallestClass
	for size < len(b) {
		size *= 2
	}
	out := make([]byte, size)
	copy(out, b)
	return out
}
