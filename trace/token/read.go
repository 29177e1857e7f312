package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

// Entry is a stored record.
type Entry struct {
	Number  uint64
	Time    time.Time
	Account uint32
	Token   string
	// Record is nil where Problem is set: it was changed.
	Record  []byte
	Salt    Hash
	Problem error
	// Previous holds what hosts before answered, each with its own time.
	Previous []Answers
}

// Answers is one stored answer of previous hosts; it is bound to the chain, not
// to the token, which had left the host before.
type Answers struct {
	Time    time.Time
	Body    []byte
	Problem error
}

// Each calls see for every record, oldest first, without the previous hosts'
// answers. It may run beside the daemon. It stops when see returns an error.
func Each(dir string, see func(Entry) error) error {
	list, _, err := segments(dir)
	if err != nil {
		return fmt.Errorf("read token store: %w", err)
	}
	for _, g := range list {
		if err := g.scan(func(f *frame, _ Hash) error {
			if f.kind != recordFrame {
				return nil
			}
			return see(f.entry())
		}); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) entry() Entry {
	e := Entry{Number: f.number, Time: f.when(), Account: f.account, Token: f.commit.String(), Salt: f.salt}
	e.Record, e.Problem = f.body()
	return e
}

// ErrNoToken means that the store has no record of a token: it was never given
// by this host, or its record is expired or was removed to make room.
var ErrNoToken = errors.New("no record of this token")

// Get finds a record and what belongs to it. It may run beside the daemon.
func Get(dir, token string) (Entry, error) {
	want, err := ParseToken(token)
	if err != nil {
		return Entry{}, err
	}
	list, _, err := segments(dir)
	if err != nil {
		return Entry{}, fmt.Errorf("read token store: %w", err)
	}
	found := Entry{}
	for _, g := range list {
		if err := g.scan(func(f *frame, _ Hash) error {
			switch {
			case f.kind == recordFrame && f.commit == want:
				found = f.entry()
			case f.kind == previousFrame && f.of == want:
				b, err := f.body()
				found.Previous = append(found.Previous, Answers{Time: f.when(), Body: b, Problem: err})
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

// Report is what Verify found.
type Report struct {
	Records, Checkpoints int
	// Removed counts records that gaps stand for.
	Removed uint64
	// Unsigned counts records after the last checkpoint: the daemon signs at
	// least once a second.
	Unsigned int
	Problems []Problem
}

// Problem is one thing that should not be.
type Problem struct {
	File   string
	Number uint64
	Token  string
	What   string
}

// String names the record and says what is wrong with it.
func (p Problem) String() string {
	if p.Token != "" {
		return fmt.Sprintf("%s: record %d, token %s: %s", p.File, p.Number, p.Token, p.What)
	}
	return fmt.Sprintf("%s: after record %d: %s", p.File, p.Number, p.What)
}

// Verify checks every record against its token, the chain, and the signatures.
func Verify(dir string, key ed25519.PublicKey) (Report, error) {
	list, _, err := segments(dir)
	if err != nil {
		return Report{}, fmt.Errorf("read token store: %w", err)
	}
	v := verifier{key: key}
	for i, g := range list {
		if i > 0 && (g.before != list[i-1].link || g.first != list[i-1].next) {
			v.problem(g.path, list[i-1].next-1, "the chain does not continue: records are missing or changed")
		}
		v.next = g.first
		if err := g.scan(func(f *frame, before Hash) error { v.see(g.path, f, before); return nil }); err != nil {
			return v.report, err
		}
	}
	return v.report, nil
}

type verifier struct {
	key    ed25519.PublicKey
	report Report
	next   uint64
}

func (v *verifier) problem(file string, number uint64, what string) {
	v.report.Problems = append(v.report.Problems, Problem{File: file, Number: number, What: what})
}

func (v *verifier) see(file string, f *frame, before Hash) {
	r := &v.report
	switch f.kind {
	case recordFrame, previousFrame:
		if f.number != v.next {
			v.problem(file, v.next-1, fmt.Sprintf("record %d follows", f.number))
		}
		v.next = f.number + 1
		r.Unsigned++
		if f.kind == recordFrame {
			r.Records++
		}
		if _, err := f.body(); err != nil {
			r.Problems = append(r.Problems, Problem{file, f.number, f.token().String(), err.Error()})
		}
	case checkpointFrame:
		r.Checkpoints++
		switch {
		case !ed25519.Verify(v.key, f.statement(), f.signature):
			v.problem(file, f.number, "the signature of a checkpoint is not this host's")
		case f.after != before:
			v.problem(file, f.number, "the chain is not the one that was signed")
		}
		r.Unsigned = 0
	case gapFrame:
		if f.number != v.next || f.before != before || !ed25519.Verify(v.key, f.statement(), f.signature) {
			v.problem(file, f.number, "records are missing without a valid note of their removal")
		}
		r.Removed += f.last - f.number + 1
		v.next = f.last + 1
	}
}
