package token

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Redemption is what an administrator hands out for a token: the record, what
// proves it, and what hosts before answered. It travels signed, as a Letter.
type Redemption struct {
	Version int    `json:"v"`
	Token   string `json:"token"`
	// Record and Salt hash to the token. Without a record, Problem says why:
	// the host signs that it cannot redeem, which is evidence too.
	Record  []byte    `json:"record,omitempty"`
	Salt    []byte    `json:"salt,omitempty"`
	Problem string    `json:"problem,omitempty"`
	Stored  time.Time `json:"stored,omitzero"`
	// Previous holds answers of previous hosts, as JSON of record.Previous:
	// the host's word, not bound to the token.
	Previous [][]byte `json:"previous,omitempty"`

	Host     string    `json:"host"` // name of the machine
	Redeemed time.Time `json:"redeemed"`
	// For says to whom and why it was handed out.
	For string `json:"for,omitempty"`
}

// Letter is a signed Redemption; as a file it can be mailed.
type Letter struct {
	Type      string `json:"type"`
	Payload   []byte `json:"payload"`
	Key       []byte `json:"key"`
	Signature []byte `json:"signature"`
}

const letterType = "dragnet-token-redemption/1"

func (l Letter) statement() []byte {
	return fmt.Appendf(nil, "%s %d\n%s", l.Type, len(l.Payload), l.Payload)
}

// Redeem makes the letter for a token of the store in dir.
func Redeem(dir string, key ed25519.PrivateKey, token, host, reason string, now time.Time) (Letter, error) {
	r := Redemption{Version: 1, Token: token, Host: host, Redeemed: now.UTC(), For: reason}
	e, err := Get(dir, token)
	switch {
	case errors.Is(err, ErrNoToken):
		r.Problem = err.Error()
	case err != nil:
		return Letter{}, err
	case e.Problem != nil:
		r.Problem, r.Stored = e.Problem.Error(), e.Time
	default:
		r.Record, r.Salt, r.Stored = e.Record, e.Salt[:], e.Time
		for _, a := range e.Previous {
			if a.Problem != nil {
				r.Problem = "the answers of previous hosts were changed: " + a.Problem.Error()
				continue
			}
			r.Previous = append(r.Previous, a.Body)
		}
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return Letter{}, fmt.Errorf("redeem: %w", err)
	}
	l := Letter{Type: letterType, Payload: payload, Key: key.Public().(ed25519.PublicKey)}
	l.Signature = ed25519.Sign(key, l.statement())
	return l, nil
}

// Open checks a letter's signature against the key it carries and returns its
// contents. Whether that key is the host's is for the caller to know. A record
// that does not hash to the token is refused with ErrAltered.
func (l Letter) Open() (Redemption, error) {
	var r Redemption
	if l.Type != letterType {
		return r, fmt.Errorf("letter of type %q; this program reads %s", l.Type, letterType)
	}
	if len(l.Key) != ed25519.PublicKeySize || !ed25519.Verify(l.Key, l.statement(), l.Signature) {
		return r, errors.New("the signature does not fit: the letter was changed on its way")
	}
	if err := json.Unmarshal(l.Payload, &r); err != nil {
		return r, fmt.Errorf("read redemption: %w", err)
	}
	if r.Record == nil {
		if r.Problem == "" {
			return r, errors.New("redemption without record and without a reason")
		}
		return r, nil
	}
	if len(r.Salt) != Size || Commit(Hash(r.Salt), r.Record).String() != r.Token {
		return r, ErrAltered
	}
	return r, nil
}

// MaxLetter bounds what is read of a letter that comes from elsewhere.
const MaxLetter = 8 << 20

// ParseLetter reads a letter, JSON of at most MaxLetter bytes.
func ParseLetter(b []byte) (Letter, error) {
	var l Letter
	if len(b) > MaxLetter {
		return l, fmt.Errorf("letter of %d bytes; at most %d are read", len(b), MaxLetter)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("read letter: %w", err)
	}
	return l, nil
}
