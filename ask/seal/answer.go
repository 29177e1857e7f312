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

// encode is unambiguous: every part of variable length has its length before it.
func (c Context) encode(label string) []byte {
	b := append([]byte(label), 0)
	b = append(b, c.Question[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Witness)))
	b = append(b, c.Witness...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Detective)))
	b = append(b, c.Detective...)
	return binary.BigEndian.AppendUint16(b, c.Branch)
}

// AnswerKey opens the answers of one combination of tuples in one exchange.
type AnswerKey struct{ root, commitment [sha256.Size]byte }

// NewKey combines the secrets of a branch's tuples, in the branch's order.
func NewKey(secrets [][]byte, c Context) (AnswerKey, error) {
	var joined []byte
	for _, s := range secrets {
		joined = binary.BigEndian.AppendUint16(joined, uint16(len(s)))
		joined = append(joined, s...)
	}
	root, err := hkdf.Extract(sha256.New, joined, c.encode("dragnet answer v1"))
	if err != nil {
		return AnswerKey{}, fmt.Errorf("derive answer key: %w", err)
	}
	k := AnswerKey{root: [sha256.Size]byte(root)}
	k.commitment = k.deriveKey("commit", nil)
	return k, nil
}

// AppendChosen adds to the secrets of a branch's tuples which clues they are of, where
// the branch leaves that open: two clues may have one tuple.
func AppendChosen(secrets [][]byte, clues []int) [][]byte {
	if len(clues) == 0 {
		return secrets
	}
	var b []byte
	for _, c := range clues {
		b = binary.BigEndian.AppendUint16(b, uint16(c))
	}
	return append(secrets[:len(secrets):len(secrets)], b)
}

// deriveKey is the first block of HKDF-Expand (RFC 5869, section 2.3).
func (k *AnswerKey) deriveKey(purpose string, salt []byte) (out [sha256.Size]byte) {
	mac := hmac.New(sha256.New, k.root[:])
	mac.Write([]byte(purpose))
	mac.Write(salt)
	mac.Write([]byte{1})
	mac.Sum(out[:0])
	return out
}

// Commitment is carried by every answer sealed under the key, and by no other:
// two keys with one commitment would be a collision of SHA-256. So the asker
// looks its key up by the commitment instead of trying all it has, whose number
// times the number of answers a hostile witness could drive into days.
func (k *AnswerKey) Commitment() [sha256.Size]byte { return k.commitment }

// Seal encrypts plaintext, padded to its size class, as an answer.
func (k *AnswerKey) Seal(plaintext []byte, branch uint16) (dossier.SealedAnswer, error) {
	if len(plaintext) > MaxPlaintext {
		return dossier.SealedAnswer{}, fmt.Errorf("answer of %d bytes; at most %d, split it", len(plaintext), MaxPlaintext)
	}
	a := dossier.SealedAnswer{Branch: branch, Commitment: k.commitment}
	rand.Read(a.Salt[:])
	enc := k.deriveKey("encrypt", a.Salt[:])
	aead, err := chacha20poly1305.New(enc[:])
	if err != nil {
		return dossier.SealedAnswer{}, err
	}
	// The key serves once, so the nonce may be zero.
	var nonce [chacha20poly1305.NonceSize]byte
	a.Ciphertext = aead.Seal(nil, nonce[:], padPlaintext(plaintext), nil)
	return a, nil
}

// ErrForged means that an answer commits to the key but does not decrypt: its
// maker knew the tuple and sent garbage.
var ErrForged = errors.New("answer commits to our key but does not decrypt")

// Open decrypts an answer. ok is false, without error, if the answer belongs to
// other tuples. The plaintext is still padded.
func (k *AnswerKey) Open(a *dossier.SealedAnswer) (plaintext []byte, ok bool, err error) {
	if subtle.ConstantTimeCompare(k.commitment[:], a.Commitment[:]) == 0 {
		return nil, false, nil
	}
	enc := k.deriveKey("encrypt", a.Salt[:])
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
// reveals only its order of magnitude, and is at most twice as long.
const smallestClass = 256

// MaxPlaintext is the largest plaintext of one answer.
const MaxPlaintext = dossier.MaxAnswer / 2

func padPlaintext(b []byte) []byte {
	size := smallestClass
	for size < len(b) {
		size *= 2
	}
	out := make([]byte, size)
	copy(out, b)
	return out
}
