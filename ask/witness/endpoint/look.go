package endpoint

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"dragnet/wire/exchange"
)

// How the board of a relay is looked at.
const (
	lookWait   = 25 * time.Second // how long one look waits for a letter
	pauseFirst = time.Second      // after a failure; doubles up to pauseLast
	pauseLast  = time.Minute
	cardEvery  = time.Hour
)

// pollRelay serves a relay until ctx ends, through its failures and ours.
func (s *Service) pollRelay(ctx context.Context, r *Relay) {
	pause := pauseFirst
	for ctx.Err() == nil {
		err := s.serveRelay(ctx, r, func() { pause = pauseFirst })
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("the relay is lost; trying again", "relay", r.URL, "pause", pause, "problem", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseLast)
	}
}

// serveRelay looks for letters until something fails.
func (s *Service) serveRelay(ctx context.Context, r *Relay, heard func()) error {
	mailbox, err := exchange.NewMailbox(s.key)
	if err != nil {
		return err
	}
	board, err := exchange.DialRelay(s.key, exchange.Endpoint{URL: r.URL, Key: r.Key})
	if err != nil {
		return err
	}
	defer board.Close()
	for registered := (time.Time{}); ; {
		if now := s.now(); now.Sub(registered) > cardEvery {
			card, err := exchange.SealCard(s.key, mailbox, s.deps.Site.Name, now)
			if err != nil {
				return err
			}
			if err := board.Register(ctx, card); err != nil {
				return err
			}
			if registered.IsZero() {
				s.log.Info("looking for questions", "relay", r.URL)
			}
			registered = now
		}
		looking, done := context.WithTimeout(ctx, lookWait+10*time.Second)
		letters, err := board.Fetch(looking, lookWait)
		done()
		if err != nil {
			return err
		}
		heard()
		for i := range letters {
			if err := s.replyTo(ctx, board, mailbox, &letters[i], r.URL); err != nil {
				return err
			}
		}
	}
}

// replyTo answers one letter. The case is closed once the relay has the answer;
// if we are killed before, the letter is still there and is taken up again. A
// letter that is not in order gets an empty answer, so that it leaves the
// board and its sender knows.
func (s *Service) replyTo(ctx context.Context, board *exchange.Relay, mailbox *exchange.Mailbox, l *exchange.Message, relay string) error {
	question, err := mailbox.OpenMessage(s.key.ID(), l.Sealed)
	if err != nil {
		return s.refuseMessage(ctx, board, l, err)
	}
	a, err := s.answerQuestion(ctx, question, relay)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return s.refuseMessage(ctx, board, l, err)
	}
	switch err := board.Answer(ctx, l.ID, a.envelope); {
	case connect.CodeOf(err) == connect.CodeNotFound, connect.CodeOf(err) == connect.CodeAlreadyExists:
		s.log.Info("an answer came too late", "relay", relay) // expired, or answered before a crash
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		return s.refuseMessage(ctx, board, l, errors.New("the relay does not take an answer of this size"))
	case err != nil:
		return err
	}
	return a.finish(ctx)
}

func (s *Service) refuseMessage(ctx context.Context, board *exchange.Relay, l *exchange.Message, why error) error {
	if isInternal(why) {
		s.metrics.troubles.Inc()
	} else {
		s.metrics.rejected.Inc()
	}
	s.log.Info("a letter was not answered", "problem", why)
	err := board.Answer(ctx, l.ID, nil)
	if code := connect.CodeOf(err); code == connect.CodeNotFound || code == connect.CodeAlreadyExists {
		return nil
	}
	return err
}
