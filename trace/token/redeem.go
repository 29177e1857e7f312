package token

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Redemption is what an administrator hands out for a token: the record, its
// proof, and the answers of previous hosts. It is sent as a SignedRedemption.
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
	// claims of this host, not bound to the token.
	Previous [][]byte `json:"previous,omitempty"`

	Host     string    `json:"host"` // name of the machine
	Redeemed time.Time `json:"redeemed"`
	// For is to whom and why it was handed out.
	For string `json:"for,omitempty"`
}

// SignedRedemption is a signed Redemption, which can be sent as a file.
type SignedRedemption struct {
	Type      string `json:"type"`
	Payload   []byte `json:"payload"`
	Key       []byte `json:"key"`
	Signature []byte `json:"signature"`
}

const redemptionType = "dragnet-token-redemption/1"

func (l SignedRedemption) signedBytes() []byte {
	return fmt.Appendf(nil, "%s %d\n%s", l.Type, len(l.Payload), l.Payload)
}

// Redeem makes the signed redemption of a token of the store in dir.
func Redeem(dir string, key ed25519.PrivateKey, token, host, reason string, now time.Time) (SignedRedemption, error) {
	r := Redemption{Version: 1, Token: token, Host: host, Redeemed: now.UTC(), For: reason}
	e, err := Get(dir, token)
	switch {
	case errors.Is(err, ErrNoToken):
		r.Problem = err.Error()
	case err != nil:
		return SignedRedemption{}, err
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
		return SignedRedemption{}, fmt.Errorf("redeem: %w", err)
	}
	l := SignedRedemption{Type: redemptionType, Payload: payload, Key: key.Public().(ed25519.PublicKey)}
	l.Signature = ed25519.Sign(key, l.signedBytes())
	return l, nil
}

// Open checks the signature against the key enclosed and returns the contents.
// Whether that key is the host's is for the caller to know. A record that does
// not hash to the token is refused with ErrAltered.
func (l SignedRedemption) Open() (Redemption, error) {
	var r Redemption
	if l.Type != redemptionType {
		return r, fmt.Errorf("signed redemption of type %q; this program reads %s", l.Type, redemptionType)
	}
	if len(l.Key) != ed25519.PublicKeySize || !ed25519.Verify(l.Key, l.signedBytes(), l.Signature) {
		return r, errors.New("the signature does not match: the redemption was changed after signing")
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

// MaxSignedRedemption bounds the size of a signed redemption that is read.
const MaxSignedRedemption = 8 << 20

// ParseSignedRedemption reads a signed redemption, JSON of at most MaxSignedRedemption
// bytes.
func ParseSignedRedemption(b []byte) (SignedRedemption, error) {
	var l SignedRedemption
	if len(b) > MaxSignedRedemption {
		return l, fmt.Errorf("signed redemption of %d bytes; the limit is %d", len(b), MaxSignedRedemption)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("read signed redemption: %w", err)
	}
	return l, nil
}
