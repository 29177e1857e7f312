package dossier

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Lifecycle is what people decided about a signature: whether it is in use, and until when.
// A signature without one is in use, and nobody has approved it.
type Lifecycle struct {
	// Version counts the decisions, from 1.
	Version int             `json:"version"`
	Status  SignatureStatus `json:"status"`
	// By is who decided, At when, and Why the reason given, if any.
	By  string    `json:"by"`
	At  time.Time `json:"at"`
	Why string    `json:"why,omitempty"`
	// Expires is when the signature goes out of use; zero for never.
	Expires time.Time `json:"expires,omitzero"`
}

// SignatureStatus is how a signature is used.
type SignatureStatus string

// The statuses. What a signature on probation matches is counted, and nothing else: no
// finding is made of it, no connection reset, no rule exported.
const (
	SignatureOnProbation SignatureStatus = "probation"
	SignatureActive      SignatureStatus = "active"
	SignatureRetired     SignatureStatus = "retired"
	// SignatureExpired is the status of a signature that was not retired, after Expires; it is in
	// no file.
	SignatureExpired SignatureStatus = "expired"
)

// StatusAt is the status at t.
func (s *Signature) StatusAt(t time.Time) SignatureStatus {
	l := s.Lifecycle
	switch {
	case l == nil:
		return SignatureActive
	case l.Status != SignatureRetired && !l.Expires.IsZero() && !t.Before(l.Expires):
		return SignatureExpired
	}
	return l.Status
}

// Version counts the decisions about s; 1 if there was none.
func (s *Signature) Version() int {
	if s.Lifecycle == nil {
		return 1
	}
	return s.Lifecycle.Version
}

// IsMatched reports whether signatures of the status are looked for at all.
func (s SignatureStatus) IsMatched() bool { return s == SignatureActive || s == SignatureOnProbation }

// maxBy and maxWhy bound the texts of a lifecycle, in bytes.
const maxBy, maxWhy = 128, 1024

func (l *Lifecycle) check() error {
	switch {
	case l.Version < 1:
		return fmt.Errorf("version %d of the lifecycle; want 1 or more", l.Version)
	case l.Status != SignatureOnProbation && l.Status != SignatureActive && l.Status != SignatureRetired:
		return fmt.Errorf("status %.20q: want probation, active or retired", l.Status)
	case l.By == "" || len(l.By) > maxBy || !utf8.ValidString(l.By):
		return fmt.Errorf("who decided has %d bytes, want 1 to %d of UTF-8", len(l.By), maxBy)
	case len(l.Why) > maxWhy || !utf8.ValidString(l.Why):
		return fmt.Errorf("the reason has %d bytes, want at most %d of UTF-8", len(l.Why), maxWhy)
	case l.At.IsZero():
		return fmt.Errorf("the lifecycle does not say when it was decided")
	}
	return nil
}

// Decide makes d the newest decision about s, with the next version.
func (s *Signature) Decide(d Lifecycle) error {
	d.Version = 1
	if s.Lifecycle != nil {
		d.Version = s.Lifecycle.Version + 1
	}
	d.At = d.At.UTC().Truncate(time.Second)
	if err := d.check(); err != nil {
		return fmt.Errorf("signature %s: %w", s.Name, err)
	}
	s.Lifecycle = &d
	return nil
}
