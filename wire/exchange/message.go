// Package exchange carries questions to witnesses and testimony back: as signed
// envelopes, straight over TLS 1.3 or over a relay's relay. It looks into
// neither; those bytes are the dossier's.
//
// A question is signed by the detective, addressed to one witness and expires.
// A testimony is sealed to the question's reply key, wrapped with the
// question's ID in an envelope that the witness signs and addresses to the
// detective. Over a relay the question travels sealed to the witness's mailbox
// as well, so that the relay sees who writes to whom, when and how much, and
// nothing else.
package exchange

import (
	"errors"
	"fmt"
	"time"

	"dragnet/dossier"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
)

// Kinds of envelopes.
const (
	QuestionKind  = "question"
	TestimonyKind = "testimony"
	CardKind      = "card"
)

// Bounds of what travels, in bytes.
const (
	// MaxTestimony bounds the sealed testimony that a detective takes unless
	// told otherwise.
	MaxTestimony = 64 << 20
	// chunk is the size of one message of a stream.
	chunk = 64 << 10
)

// Skew is how far the clocks of two organisations may differ.
const Skew = 2 * time.Minute

// SealQuestion addresses a question to one witness.
func SealQuestion(k *identity.Key, to identity.ID, now time.Time, life time.Duration, question []byte) ([]byte, error) {
	return envelope.Seal(k, envelope.Header{Kind: QuestionKind, To: to, Issued: now, Expires: now.Add(life)}, question)
}

// OpenQuestion checks an envelope that reached the witness; signer finds the
// detectives of the roster. Copies are for the caller to notice.
func OpenQuestion(data []byte, to identity.ID, now time.Time, signer func(identity.ID) (identity.Public, bool)) (*envelope.Envelope, error) {
	e, err := envelope.Open(data, envelope.Expect{Kind: QuestionKind, To: to, Now: now, Skew: Skew, MaxBody: dossier.MaxQuestion, Signer: signer})
	if err == nil && e.To != to {
		return nil, envelope.ErrAudience // a question is for one witness, never for everybody
	}
	return e, err
}

// SealTestimony wraps a sealed testimony for the detective who asked.
func SealTestimony(k *identity.Key, to identity.ID, now time.Time, life time.Duration, q dossier.QuestionID, sealed []byte) ([]byte, error) {
	body := append(q[:len(q):len(q)], sealed...)
	return envelope.Seal(k, envelope.Header{Kind: TestimonyKind, To: to, Issued: now, Expires: now.Add(life)}, body)
}

// ErrOtherQuestion says that a testimony is genuine and answers another
// question than the one asked: an old answer was played again.
var ErrOtherQuestion = errors.New("the testimony answers another question")

// OpenTestimony checks what came back from a witness to question q and gives
// the sealed testimony.
func OpenTestimony(data []byte, to identity.ID, from identity.Public, now time.Time, q dossier.QuestionID) ([]byte, error) {
	e, err := envelope.Open(data, envelope.Expect{
		Kind: TestimonyKind, To: to, Now: now, Skew: Skew, MaxBody: len(data),
		Signer: func(id identity.ID) (identity.Public, bool) { return from, id == from.ID() },
	})
	switch {
	case err != nil:
		return nil, err
	case e.To != to:
		return nil, envelope.ErrAudience
	case len(e.Body) < len(q):
		return nil, envelope.ErrMalformed
	case string(e.Body[:len(q)]) != string(q[:]):
		return nil, ErrOtherQuestion
	}
	return e.Body[len(q):], nil
}

// ErrTooLarge says that a witness sent more than the detective takes.
var ErrTooLarge = errors.New("the answer is larger than the limit")

// ErrUnfinished says that a witness was still sending when its time was over.
var ErrUnfinished = errors.New("the answer did not end in time")

// chunkReader puts the chunks of a stream together, within a limit.
type chunkReader struct {
	data  []byte
	limit int
}

func (g *chunkReader) add(chunk []byte) error {
	if len(g.data)+len(chunk) > g.limit {
		return fmt.Errorf("%w of %d bytes", ErrTooLarge, g.limit)
	}
	g.data = append(g.data, chunk...)
	return nil
}

// Chunks calls send with one piece of data after another.
func Chunks(data []byte, send func([]byte) error) error {
	for len(data) > 0 {
		n := min(len(data), chunk)
		if err := send(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
