package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"

	"dragnet/dossier"
)

// ReplyKey is the asker's HPKE key: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
// ChaCha20-Poly1305 (RFC 9180, section 7).
type ReplyKey struct{ private hpke.PrivateKey }

func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// NewReplyKey draws a key.
func NewReplyKey() (*ReplyKey, error) {
	k, err := kem().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("draw the reply key: %w", err)
	}
	return &ReplyKey{k}, nil
}

// Public is what the question carries.
func (k *ReplyKey) Public() []byte { return k.private.PublicKey().Bytes() }

func testimonyInfo(q dossier.QuestionID, witness string) []byte {
	return Context{Question: q, Witness: witness}.encode("dragnet testimony v1")
}

// SealTestimony encrypts t to the asker. Its size is padded too: a relay must
// not count the answers.
func SealTestimony(t *dossier.Testimony, replyKey []byte) ([]byte, error) {
	public, err := kem().NewPublicKey(replyKey)
	if err != nil {
		return nil, fmt.Errorf("question's reply key: %w", err)
	}
	b, err := t.MarshalBinary()
	if err != nil {
		return nil, err
	}
	framed := append(binary.BigEndian.AppendUint64(nil, uint64(len(b))), b...)
	return hpke.Seal(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), testimonyInfo(t.Question, t.Witness), padPlaintext(framed))
}

// ErrTestimony says that what a witness sent is not a testimony of that witness
// to that question.
var ErrTestimony = errors.New("not a testimony of this witness to this question")

// Open decrypts the testimony that witness gave to question q.
func (k *ReplyKey) Open(sealed []byte, q dossier.QuestionID, witness string) (*dossier.Testimony, error) {
	if len(sealed) > 2*dossier.MaxTestimony {
		return nil, fmt.Errorf("testimony of %s: %d bytes; at most %d", witness, len(sealed), 2*dossier.MaxTestimony)
	}
	framed, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), testimonyInfo(q, witness), sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: not sealed to it: %w", ErrTestimony, witness, err)
	}
	if len(framed) < 8 || binary.BigEndian.Uint64(framed) > uint64(len(framed)-8) {
		return nil, fmt.Errorf("%w: %s: length of the padded content is wrong", ErrTestimony, witness)
	}
	var t dossier.Testimony
	if err := t.UnmarshalBinary(framed[8 : 8+binary.BigEndian.Uint64(framed)]); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrTestimony, witness, err)
	}
	if t.Question != q || t.Witness != witness {
		return nil, fmt.Errorf("%w: it is of %q, to question %x", ErrTestimony, t.Witness, t.Question)
	}
	return &t, nil
}
