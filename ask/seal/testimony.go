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
	return Context{Question: q, Witness: witness}.bytes("dragnet testimony v1")
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
	return hpke.Seal(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), testimonyInfo(t.Question, t.Witness), pad(framed))
}

// Open decrypts the testimony that witness gave to question q.
func (k *ReplyKey) Open(sealed []byte, q dossier.QuestionID, witness string) (*dossier.Testimony, error) {
	if len(sealed) > 2*dossier.MaxTestimony {
		return nil, fmt.Errorf("testimony of %s: %d bytes; at most %d", witness, len(sealed), 2*dossier.MaxTestimony)
	}
	framed, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), testimonyInfo(q, witness), sealed)
	if err != nil {
		return nil, fmt.Errorf("testimony of %s is not sealed to this question: %w", witness, err)
	}
	if len(framed) < 8 || binary.BigEndian.Uint64(framed) > uint64(len(framed)-8) {
		return nil, errors.New("testimony: length of the padded content is wrong")
	}
	var t dossier.Testimony
	if err := t.UnmarshalBinary(framed[8 : 8+binary.BigEndian.Uint64(framed)]); err != nil {
		return nil, err
	}
	if t.Question != q || t.Witness != witness {
		return nil, fmt.Errorf("testimony of %q to another question", t.Witness)
	}
	return &t, nil
}
