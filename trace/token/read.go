package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Entry is a stored record.
type Entry struct {
	Number  uint64
	Time    time.Time
	Account uint32
	Token   string
	// Record is nil if Problem is set: it was changed.
	Record  []byte
	Salt    Hash
	Problem error
	// Previous holds the answers of previous hosts, each with its time.
	Previous []Answers
}

// Answers is one stored answer of previous hosts; it is bound to the chain, not
// to the token, which was sent earlier.
type Answers struct {
	Time    time.Time
	Body    []byte
	Problem error
}

// Each calls see for every record, oldest first, without the previous hosts'
// answers. It may run while the daemon runs. It stops when see returns an
// error.
func Each(dir string, see func(Entry) error) error {
	list, _, err := listSegments(dir)
	if err != nil {
		return fmt.Errorf("read token store: %w", err)
	}
	for _, g := range list {
		if err := g.scanFrames(func(f *frame, _ Hash) error {
			if f.kind != recordFrame {
				return nil
			}
			return see(f.toEntry())
		}); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) toEntry() Entry {
	e := Entry{Number: f.number, Time: f.timeUTC(), Account: f.account, Token: f.commit.String(), Salt: f.salt}
	e.Record, e.Problem = f.checkBody()
	return e
}

// ErrNoToken means that the store has no record of a token: this host never
// gave it, or its record has expired or was removed to free space.
var ErrNoToken = errors.New("no record of this token")

// Get finds a record and what belongs to it. It may run while the daemon runs.
func Get(dir, token string) (Entry, error) {
	want, err := ParseToken(token)
	if err != nil {
		return Entry{}, err
	}
	list, _, err := listSegments(dir)
	if err != nil {
		return Entry{}, fmt.Errorf("read token store: %w", err)
	}
	found := Entry{}
	for _, g := range list {
		if err := g.scanFrames(func(f *frame, _ Hash) error {
			switch {
			case f.kind == recordFrame && f.commit == want:
				found = f.toEntry()
			case f.kind == previousFrame && f.of == want:
				b, err := f.checkBody()
				found.Previous = append(found.Previous, Answers{Time: f.timeUTC(), Body: b, Problem: err})
			}
			return nil
		}); err != nil {
			return Entry{}, err
		}
	}
	if found.Number == 0 {
		return Entry{}, ErrNoToken
	}
	return found, nil
}

// minPrefix is the shortest beginning of a token that is looked for: some
// programs cut the name that an ident daemon gave (ngircd, at 18 digits).
const minPrefix = 8

// Complete finds the one token that begins with prefix; a whole token is
// returned as it is, stored or not.
func Complete(dir, prefix string) (string, error) {
	if _, err := ParseToken(prefix); err == nil {
		return prefix, nil
	}
	if strings.Trim(prefix, "0123456789abcdef") != "" || len(prefix) < minPrefix || len(prefix) > 2*Size {
		return "", fmt.Errorf("%q is neither a token, which has %d hex digits, nor %d or more of its first ones", prefix, 2*Size, minPrefix)
	}
	list, _, err := listSegments(dir)
	if err != nil {
		return "", fmt.Errorf("read token store: %w", err)
	}
	found := ""
	for _, g := range list {
		if err := g.scanFrames(func(f *frame, _ Hash) error {
			if t := f.commit.String(); f.kind == recordFrame && strings.HasPrefix(t, prefix) && t != found {
				if found != "" {
					return fmt.Errorf("%q begins several tokens; give more digits", prefix)
				}
				found = t
			}
			return nil
		}); err != nil {
			return "", err
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w that begins with %q", ErrNoToken, prefix)
	}
	return found, nil
}

// Verification is the result of Verify.
type Verification struct {
	Records, Checkpoints int
	// Removed counts the records replaced by gaps.
	Removed uint64
	// Unsigned counts records after the last checkpoint: the daemon signs at
	// least once a second.
	Unsigned int
	Problems []Problem
}

// Problem is one inconsistency of a store.
type Problem struct {
	File   string
	Number uint64
	Token  string
	What   string
}

// String describes the problem and its record.
func (p Problem) String() string {
	if p.Token != "" {
		return fmt.Sprintf("%s: record %d, token %s: %s", p.File, p.Number, p.Token, p.What)
	}
	return fmt.Sprintf("%s: after record %d: %s", p.File, p.Number, p.What)
}

// Verify checks every record against its token, the chain, and the signatures.
func Verify(dir string, key ed25519.PublicKey) (Verification, error) {
	list, _, err := listSegments(dir)
	if err != nil {
		return Verification{}, fmt.Errorf("read token store: %w", err)
	}
	return verifySegments(list, key)
}

func verifySegments(list []*segment, key ed25519.PublicKey) (Verification, error) {
	v := verifier{key: key}
	for i, g := range list {
		if i > 0 && (g.before != list[i-1].link || g.first != list[i-1].next) {
			v.addProblem(g.path, list[i-1].next-1, "the chain does not continue: records are missing or changed")
		}
		v.next = g.first
		if err := g.scanFrames(func(f *frame, before Hash) error { v.checkFrame(g.path, f, before); return nil }); err != nil {
			return v.report, err
		}
	}
	return v.report, nil
}

type verifier struct {
	key    ed25519.PublicKey
	report Verification
	next   uint64
}

func (v *verifier) addProblem(file string, number uint64, what string) {
	v.report.Problems = append(v.report.Problems, Problem{File: file, Number: number, What: what})
}

func (v *verifier) checkFrame(file string, f *frame, before Hash) {
	r := &v.report
	switch f.kind {
	case recordFrame, previousFrame:
		if f.number != v.next {
			v.addProblem(file, v.next-1, fmt.Sprintf("record %d follows", f.number))
		}
		v.next = f.number + 1
		r.Unsigned++
		if f.kind == recordFrame {
			r.Records++
		}
		if _, err := f.checkBody(); err != nil {
			r.Problems = append(r.Problems, Problem{file, f.number, f.tokenOf().String(), err.Error()})
		}
	case checkpointFrame:
		r.Checkpoints++
		switch {
		case !ed25519.Verify(v.key, f.signedBytes(), f.signature):
			v.addProblem(file, f.number, "a checkpoint is not signed by this host")
		case f.after != before:
			v.addProblem(file, f.number, "the chain differs from the signed one")
		}
		r.Unsigned = 0
	case gapFrame:
		if f.number != v.next || f.before != before || !ed25519.Verify(v.key, f.signedBytes(), f.signature) {
			v.addProblem(file, f.number, "records are missing without a valid gap frame")
		}
		r.Removed += f.last - f.number + 1
		v.next = f.last + 1
	}
}
