// Package treehead signs the state of an append-only record: how many entries it has and
// the root of the Merkle tree over them (RFC 6962, section 2.1). Others to whom a head was
// shown can tell later whether a record still continues it.
//
// A head is a note in the form of golang.org/x/mod/sumdb/note, under the record's
// own key and under those of who saw it.
package treehead

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"dragnet/wire/identity"
)

// TreeHead is the state of the record of a key.
type TreeHead struct {
	Origin identity.Public
	Size   int64
	Root   tlog.Hash
}

const (
	title   = "dragnet record 1"
	purpose = "dragnet record head 1"
	// MaxHead bounds the text of a head, with its signatures.
	MaxHead = 4096
)

func (h *TreeHead) text() string {
	return fmt.Sprintf("%s\n%s\n%d\n%s\n", title, h.Origin, h.Size, base64.StdEncoding.EncodeToString(h.Root[:]))
}

// signer signs notes with an identity's key. It is a note.Signer.
type signer struct{ key *identity.Key }

func (s signer) Name() string                    { return s.key.Public().String() }
func (s signer) KeyHash() uint32                 { return keyHash(s.key.Public()) }
func (s signer) Sign(msg []byte) ([]byte, error) { return s.key.Sign(purpose, msg) }

// verifier checks them. It is a note.Verifier.
type verifier struct{ key identity.Public }

func (v verifier) Name() string                { return v.key.String() }
func (v verifier) KeyHash() uint32             { return keyHash(v.key) }
func (v verifier) Verify(msg, sig []byte) bool { return v.key.Verify(purpose, msg, sig) }

// keyHash distinguishes keys of one name; 0xd1 is no algorithm of package note.
func keyHash(p identity.Public) uint32 {
	sum := sha256.Sum256(append([]byte(p.String()+"\n\xd1"), p.Bytes()...))
	return binary.BigEndian.Uint32(sum[:])
}

// Sign makes a head of the key's own record.
func Sign(k *identity.Key, size int64, root tlog.Hash) (string, error) {
	h := TreeHead{Origin: k.Public(), Size: size, Root: root}
	text, err := note.Sign(&note.Note{Text: h.text()}, signer{k})
	return string(text), err
}

// ErrHead says that a text is no head, or none of whom it should be.
var ErrHead = errors.New("this is no signed head of the record")

// Open checks that the origin signed a head, and reads it.
func Open(text string, origin identity.Public) (TreeHead, error) {
	h, _, err := open(text, origin)
	return h, err
}

func open(text string, keys ...identity.Public) (h TreeHead, n *note.Note, err error) {
	if len(text) > MaxHead {
		return h, nil, ErrHead
	}
	all := make([]note.Verifier, len(keys))
	for i, k := range keys {
		all[i] = verifier{k}
	}
	if n, err = note.Open([]byte(text), note.VerifierList(all...)); err != nil {
		return h, nil, fmt.Errorf("%w: %w", ErrHead, err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 5 {
		return h, nil, ErrHead
	}
	root, err := base64.StdEncoding.DecodeString(lines[3])
	size, bad := strconv.ParseInt(lines[2], 10, 64)
	if err != nil || bad != nil || size < 0 || len(root) != len(h.Root) {
		return h, nil, ErrHead
	}
	h = TreeHead{Origin: keys[0], Size: size, Root: tlog.Hash(root)}
	if h.text() != n.Text || !signedBy(n, keys[0]) {
		return h, nil, ErrHead
	}
	return h, n, nil
}

func signedBy(n *note.Note, k identity.Public) bool {
	for _, s := range n.Sigs {
		if s.Name == k.String() && s.Hash == keyHash(k) {
			return true
		}
	}
	return false
}

// Cosign adds the signature of who saw the head.
func Cosign(text string, origin identity.Public, k *identity.Key) (string, error) {
	_, n, err := open(text, origin)
	if err != nil {
		return "", err
	}
	out, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs}, signer{k})
	return string(out), err
}

// OpenCosigned checks that the origin signed a head and another saw it.
func OpenCosigned(text string, origin, by identity.Public) (TreeHead, error) {
	h, n, err := open(text, origin, by)
	if err == nil && !signedBy(n, by) {
		err = fmt.Errorf("%w: %s has not signed it", ErrHead, by)
	}
	return h, err
}
