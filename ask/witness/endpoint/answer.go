package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dragnet/ask/witness/audit"
	"dragnet/dossier"
	"dragnet/internal/admission"
	"dragnet/wire/envelope"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

// answerLife is how long a testimony's envelope is valid: a detective may collect
// it from a relay late.
const answerLife = 48 * time.Hour

// reply is a testimony on its way; finish closes the case once it is
// delivered.
type reply struct {
	envelope []byte
	finish   func(context.Context) error
}

// answerQuestion opens a question's envelope and does all that follows from it. The
// error is the envelope's or the audit log's if the envelope is rejected.
func (s *Service) answerQuestion(ctx context.Context, data []byte, via string) (*reply, error) {
	now, arrived := s.now(), time.Now()
	e, err := exchange.OpenQuestion(data, s.key.ID(), now, func(id identity.ID) (identity.Public, bool) {
		key, _, ok := s.members.findDetective(id, now)
		return key, ok
	})
	if errors.Is(err, envelope.ErrSigner) {
		s.fetchSoon()
	}
	if err != nil {
		return nil, err
	}
	_, asker, ok := s.members.findDetective(e.From, now)
	if !ok {
		return nil, envelope.ErrSigner
	}
	a := audit.VerifiedQuestion{Asker: asker, Nonce: e.Nonce, Expires: e.Expires, ID: dossier.IDOf(e.Body), Question: new(dossier.Question), Via: via}
	if err := a.Question.UnmarshalBinary(e.Body); err != nil {
		return nil, fmt.Errorf("%w: %w", envelope.ErrMalformed, err)
	}
	if s.config.Clearinghouse.URL != "" {
		a.Epochs = s.deps.Epochs.Published()
	}
	turn := admission.Caller{Name: asker.Class, Known: true}
	if err := s.working.Acquire(ctx, turn); err != nil {
		return nil, err
	}
	defer s.working.Release(turn)
	c, err := s.audit.Begin(ctx, now, &s.config.Policy, a)
	if err != nil {
		return nil, err
	}
	return s.makeTestimony(ctx, arrived, c, e)
}

// makeTestimony answers, or refuses as the policy has it; both are sealed alike.
func (s *Service) makeTestimony(ctx context.Context, arrived time.Time, c audit.Admitted, e *envelope.Envelope) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	var told *dossier.Testimony
	var sealed []byte
	var err error
	if c.Verdict.Refusal != dossier.Answered {
		sealed, told, err = s.witness.Refuse(e.Body, c.Verdict.Refusal)
	} else {
		sealed, told, err = s.witness.Testify(ctx, e.Body, func(hosts int) (dossier.Refusal, error) {
			return s.audit.ChargeHosts(ctx, s.now(), &s.config.Policy, &c, hosts)
		})
	}
	if err != nil {
		return nil, err
	}
	out, err := exchange.SealTestimony(s.key, e.From, s.now(), answerLife, told.Question, sealed)
	if err != nil {
		return nil, err
	}
	o := audit.Settlement{Refusal: told.Refusal, Answers: len(told.Answers), Bytes: int64(len(out)), Flows: told.Coverage.Flows}
	s.metrics.countOutcome(o)
	s.metrics.answerTime.Observe(time.Since(arrived).Seconds())
	return &reply{envelope: out, finish: func(ctx context.Context) error { return s.audit.Finish(ctx, s.now(), c, o) }}, nil
}

// isInternal reports whether an error is our own failure, and not what the asker did.
func isInternal(err error) bool {
	for _, theirs := range []error{
		envelope.ErrMalformed, envelope.ErrVersion, envelope.ErrKind, envelope.ErrAudience, envelope.ErrEarly,
		envelope.ErrExpired, envelope.ErrSigner, envelope.ErrSignature, audit.ErrReplayed, audit.ErrFlood,
	} {
		if errors.Is(err, theirs) {
			return false
		}
	}
	return true
}
