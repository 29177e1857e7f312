package endpoint

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"dragnet/wire/exchange"
)

// How a relay is polled.
const (
	lookWait   = 25 * time.Second // how long one look waits for a message
	pauseFirst = time.Second      // after a failure; doubles up to pauseLast
	pauseLast  = time.Minute
	cardEvery  = time.Hour
)

// pollRelay serves questions from a relay until ctx ends, and reconnects after
// failures.
func (s *Service) pollRelay(ctx context.Context, r *RelayConfiguration) {
	pause := pauseFirst
	for ctx.Err() == nil {
		err := s.serveRelay(ctx, r, func() { pause = pauseFirst })
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("relay failed; reconnecting", "relay", r.URL, "pause", pause, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseLast)
	}
}

// serveRelay answers messages of a relay until a call fails.
func (s *Service) serveRelay(ctx context.Context, r *RelayConfiguration, connected func()) error {
	mailbox, err := exchange.NewMailbox(s.key)
	if err != nil {
		return err
	}
	relay, err := exchange.DialRelay(s.key, exchange.Endpoint{URL: r.URL, Key: r.Key})
	if err != nil {
		return err
	}
	defer relay.Close()
	for registered := (time.Time{}); ; {
		if now := s.now(); now.Sub(registered) > cardEvery {
			card, err := exchange.SealCard(s.key, mailbox, s.deps.Site.Name, now)
			if err != nil {
				return err
			}
			if err := relay.Register(ctx, card); err != nil {
				return err
			}
			if registered.IsZero() {
				s.log.Info("polling relay for questions", "relay", r.URL)
			}
			registered = now
		}
		looking, done := context.WithTimeout(ctx, lookWait+10*time.Second)
		messages, err := relay.Fetch(looking, lookWait)
		done()
		if err != nil {
			return err
		}
		connected()
		for i := range messages {
			if err := s.replyTo(ctx, relay, mailbox, &messages[i], r.URL); err != nil {
				return err
			}
		}
	}
}

// replyTo answers one message. The case is closed once the relay has the answer;
// if the process is killed before, the message is still there and is answered
// again. An invalid message gets an empty answer, so that the relay drops it and
// its sender learns of it.
func (s *Service) replyTo(ctx context.Context, relay *exchange.Relay, mailbox *exchange.Mailbox, m *exchange.Message, url string) error {
	question, err := mailbox.OpenMessage(s.key.ID(), m.Sealed)
	if err != nil {
		return s.refuseMessage(ctx, relay, m, err)
	}
	a, err := s.answerQuestion(ctx, question, url)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return s.refuseMessage(ctx, relay, m, err)
	}
	switch err := relay.Answer(ctx, m.ID, a.envelope); {
	case connect.CodeOf(err) == connect.CodeNotFound, connect.CodeOf(err) == connect.CodeAlreadyExists:
		s.log.Info("answer came too late: the message has expired or was answered before", "relay", url) // expired, or answered before a crash
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		return s.refuseMessage(ctx, relay, m, errors.New("the relay does not accept an answer of this size"))
	case err != nil:
		return err
	}
	return a.finish(ctx)
}

func (s *Service) refuseMessage(ctx context.Context, relay *exchange.Relay, m *exchange.Message, why error) error {
	if isInternal(why) {
		s.metrics.troubles.Inc()
	} else {
		s.metrics.rejected.Inc()
	}
	s.log.Info("message refused", "err", why)
	err := relay.Answer(ctx, m.ID, nil)
	if code := connect.CodeOf(err); code == connect.CodeNotFound || code == connect.CodeAlreadyExists {
		return nil
	}
	return err
}
