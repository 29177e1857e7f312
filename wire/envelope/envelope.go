// Package envelope is the signed wrapping of every message between
// organisations: who says it, to whom, what kind of thing it is, until when it
// holds, and a number that lets the receiver notice a copy. It carries bytes
// and never looks into them.
package envelope

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"dragnet/wire/identity"
)

// Why an envelope is not accepted.
var (
	ErrMalformed = errors.New("envelope: truncated, oversized or malformed")
	ErrVersion   = errors.New("envelope: written in a version this program does not speak")
	ErrKind      = errors.New("envelope: the content is of another kind")
	ErrAudience  = errors.New("envelope: addressed to another key")
	ErrEarly     = errors.New("envelope: issued in the future; are both clocks right?")
	ErrExpired   = errors.New("envelope: expired")
	ErrSigner    = errors.New("envelope: signed by a key that is not known here")
	ErrSignature = errors.New("envelope: the signature is wrong")
)

// Header is what an envelope says about its body.
type Header struct {
	// Kind is what the body is, such as "question": at most 64 bytes.
	Kind string
	// To is the receiver's key; zero addresses everybody.
	To identity.ID
	// Issued and Expires bound when it holds; expiry is at most MaxLife later.
	Issued, Expires time.Time
}

// Envelope is an opened one.
type Envelope struct {
	Header
	// From is the key that signed.
	From identity.ID
	// Nonce is this envelope's own random number.
	Nonce [16]byte
	// Body is what was carried; it shares memory with the opened bytes.
	Body []byte
}

// Bounds of an envelope.
const (
	MaxKind = 64
	// MaxLife bounds how long a receiver has to remember a nonce.
	MaxLife = 400 * 24 * time.Hour
)

const (
	version = 1
	purpose = "dragnet envelope 1"
	// signatureSize is that of Ed25519.
	signatureSize = 64
)

// Overhead is the largest number of bytes that an envelope adds to its body.
const Overhead = 1 + 1 + MaxKind + 32 + 32 + 8 + 8 + 16 + 4 + signatureSize

// Seal signs body. The layout, integers big-endian: version 1, kind (a length
// byte before it), from, to, issued, expires (nanoseconds since 1970), nonce,
// body (four length bytes before it), signature over everything before it.
func Seal(k *identity.Key, h Header, body []byte) ([]byte, error) {
	if h.Kind == "" || len(h.Kind) > MaxKind {
		return nil, fmt.Errorf("envelope: a kind has 1 to %d bytes", MaxKind)
	}
	if life := h.Expires.Sub(h.Issued); life <= 0 || life > MaxLife {
		return nil, fmt.Errorf("envelope: it must hold for more than nothing and at most %v, not %v", MaxLife, life)
	}
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	from := k.ID()
	var b cryptobyte.Builder
	b.AddUint8(version)
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(h.Kind)) })
	b.AddBytes(from[:])
	b.AddBytes(h.To[:])
	b.AddUint64(uint64(h.Issued.UnixNano()))
	b.AddUint64(uint64(h.Expires.UnixNano()))
	b.AddBytes(nonce[:])
	b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(body) })
	signed, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	signature, err := k.Sign(purpose, signed)
	return append(signed, signature...), err
}

// Expect is what a receiver accepts.
type Expect struct {
	// Kind is the only kind accepted.
	Kind string
	// To is the receiver's own key; envelopes to everybody pass too.
	To identity.ID
	// Now is the time; Skew is how far the sender's clock may be ahead or
	// behind.
	Now  time.Time
	Skew time.Duration
	// MaxBody bounds the body in bytes.
	MaxBody int
	// Signer finds the key of an ID and says whether it may sign this.
	Signer func(identity.ID) (identity.Public, bool)
}

// Open checks an envelope and returns what it carries. The
// error names the check that failed, as one of those above.
func Open(data []byte, x Expect) (*Envelope, error) {
	e, signed, signature, err := parse(data, x.MaxBody)
	if err != nil {
		return nil, err
	}
	switch {
	case e.Kind != x.Kind:
		return nil, ErrKind
	case e.To != identity.ID{} && e.To != x.To:
		return nil, ErrAudience
	case e.Issued.After(x.Now.Add(x.Skew)):
		return nil, ErrEarly
	case !e.Expires.After(x.Now.Add(-x.Skew)):
		return nil, ErrExpired
	}
	key, ok := x.Signer(e.From)
	if !ok || key.ID() != e.From {
		return nil, ErrSigner
	}
	if !key.Verify(purpose, signed, signature) {
		return nil, ErrSignature
	}
	return e, nil
}

// From returns the claimed signer, without checking anything.
func From(data []byte) (identity.ID, error) {
	e, _, _, err := parse(data, len(data))
	if err != nil {
		return identity.ID{}, err
	}
	return e.From, nil
}

func parse(data []byte, maxBody int) (e *Envelope, signed, signature []byte, err error) {
	if len(data) > maxBody+Overhead || len(data) < signatureSize {
		return nil, nil, nil, ErrMalformed
	}
	signed, signature = data[:len(data)-signatureSize], data[len(data)-signatureSize:]
	s := cryptobyte.String(signed)
	var v uint8
	var kind cryptobyte.String
	var issued, expires uint64
	var n uint32
	e = &Envelope{}
	if !s.ReadUint8(&v) {
		return nil, nil, nil, ErrMalformed
	}
	if v != version {
		return nil, nil, nil, ErrVersion
	}
	if !s.ReadUint8LengthPrefixed(&kind) || len(kind) == 0 || len(kind) > MaxKind ||
		!s.CopyBytes(e.From[:]) || !s.CopyBytes(e.To[:]) || !s.ReadUint64(&issued) || !s.ReadUint64(&expires) ||
		!s.CopyBytes(e.Nonce[:]) || !s.ReadUint32(&n) || uint64(n) != uint64(len(s)) || len(s) > maxBody {
		return nil, nil, nil, ErrMalformed
	}
	life := int64(expires) - int64(issued)
	if int64(issued) < 0 || int64(expires) < 0 || life <= 0 || life > int64(MaxLife) {
		return nil, nil, nil, ErrMalformed
	}
	e.Kind, e.Body = string(kind), s
	e.Issued, e.Expires = time.Unix(0, int64(issued)).UTC(), time.Unix(0, int64(expires)).UTC()
	return e, signed, signature, nil
}
