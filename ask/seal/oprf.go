// Package seal makes answers that only those can read who already know what
// was asked: the encryption under the tuple itself of Allman et al. 2006,
// section 3.1, hardened against guessing.
//
// A tuple has little entropy, so a key made from it alone falls to anyone who
// tries all tuples. In OPRF mode the key comes from the tuple through the
// witness's oblivious pseudorandom function (RFC 9497, mode OPRF,
// ristretto255-SHA512): the asker learns the function's value at its own tuple
// without showing the tuple, and every further guess costs one more evaluation
// by the witness. Each question has another key, derived from the witness's
// master key and the question's hash: an evaluation serves that question and no
// other. (RFC 9497's mode POPRF binds public input in the same way, for askers
// who verify the key; here only the witness evaluates.) Paper mode makes the key
// from the tuple by Argon2id.
//
// Each answer carries a commitment to its key, checked first, so that no
// ciphertext opens under two tuples; it is padded to a size class; and the
// whole testimony is sealed to the asker by HPKE (RFC 9180).
package seal

import (
	"crypto/rand"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
	"golang.org/x/crypto/argon2"

	"dragnet/dossier"
	"dragnet/flow/key"
)

var suite = oprf.SuiteRistretto255

// MasterKey is the secret from which a witness derives the OPRF key of each
// question. It is safe for concurrent use.
type MasterKey struct{ seed [32]byte }

// NewMasterKey draws a master key.
func NewMasterKey() *MasterKey {
	k := &MasterKey{}
	rand.Read(k.seed[:]) // never fails
	return k
}

// ForQuestion derives the key of a question (RFC 9497, section 3.2.1, with the
// question's hash as info).
func (k *MasterKey) ForQuestion(id dossier.QuestionID) (*WitnessKey, error) {
	derived, err := oprf.DeriveKey(suite, oprf.BaseMode, k.seed[:], id[:])
	if err != nil {
		return nil, fmt.Errorf("derive the question's OPRF key: %w", err)
	}
	return &WitnessKey{oprf.NewServer(suite, derived)}, nil
}

// WitnessKey is a secret OPRF key. It is safe for concurrent use.
type WitnessKey struct{ server oprf.Server }

// NewWitnessKey draws a key, for uses without questions.
func NewWitnessKey() (*WitnessKey, error) {
	k, err := oprf.GenerateKey(suite, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("draw the witness's OPRF key: %w", err)
	}
	return &WitnessKey{oprf.NewServer(suite, k)}, nil
}

// Evaluate applies the function to a blinded element, for the asker.
func (k *WitnessKey) Evaluate(blinded []byte) ([]byte, error) {
	e := suite.Group().NewElement()
	if err := e.UnmarshalBinary(blinded); err != nil || e.IsIdentity() {
		return nil, fmt.Errorf("blinded element is not a valid group element")
	}
	out, err := k.server.Evaluate(&oprf.EvaluationRequest{Elements: []group.Element{e}})
	if err != nil {
		return nil, fmt.Errorf("evaluate blinded element: %w", err)
	}
	return out.Elements[0].MarshalBinaryCompress()
}

// Secret is the function's value at a tuple, for the witness's own records.
func (k *WitnessKey) Secret(t key.Tuple) ([]byte, error) {
	b, err := t.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return k.server.FullEvaluate(b)
}

// Blinded is a tuple on its way to a witness and back. It is used with one
// witness after another: the same element may be sent to all.
type Blinded struct {
	state *oprf.FinalizeData
	// Element is sent; it is uniformly random whatever the tuple.
	Element []byte
}

// Blind hides a tuple.
func Blind(t key.Tuple) (*Blinded, error) {
	input, err := t.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	state, req, err := oprf.NewClient(suite).Blind([][]byte{input})
	if err != nil {
		return nil, fmt.Errorf("blind: %w", err)
	}
	element, err := req.Elements[0].MarshalBinaryCompress()
	return &Blinded{state, element}, err
}

// Secret is the function's value at the tuple, from the witness's evaluation
// of Element.
func (b *Blinded) Secret(evaluated []byte) ([]byte, error) {
	e := suite.Group().NewElement()
	if err := e.UnmarshalBinary(evaluated); err != nil || e.IsIdentity() {
		return nil, fmt.Errorf("the witness's evaluation is not a valid group element")
	}
	out, err := oprf.NewClient(suite).Finalize(b.state, &oprf.Evaluation{Elements: []group.Element{e}})
	if err != nil {
		return nil, fmt.Errorf("finalize: %w", err)
	}
	return out[0], nil
}

// PaperSecret is the secret of Paper mode: Argon2id (RFC 9106) of the tuple
// with memory in KiB, one pass, one lane. The salt is the question and the
// witness, so that no table serves twice.
func PaperSecret(t key.Tuple, question dossier.QuestionID, witness string, memory uint32) ([]byte, error) {
	b, err := t.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	salt := append(question[:len(question):len(question)], witness...)
	return argon2.IDKey(b, salt, 1, memory, 1, 32), nil
}
