package inquiry

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"dragnet/wire/exchange"
)

// How a relay is polled for answers.
const (
	collectWait  = 20 * time.Second
	collectPause = time.Second // after a failure
	// sweepWithin bounds deleting our messages from the relay at the end.
	sweepWithin = 10 * time.Second
)

// askOver posts a message for each witness and collects the answers until all
// are there or ctx ends. A relay that is down for a while is asked again: it
// keeps what it acknowledged, and a message posted twice is stored once.
func (a *asking) askOver(ctx context.Context, b *exchange.Relay, contacts []Contact) {
	waiting := map[exchange.MessageID]*Contact{}
	var messages []exchange.Message
	for i := range contacts {
		if ctx.Err() != nil {
			return // sealing takes a while where there are many
		}
		c := &contacts[i]
		l, err := a.sealQuestion(c)
		if err != nil {
			a.noteStatus(c, Broken, err.Error(), nil)
			continue
		}
		waiting[l.ID] = c
		messages = append(messages, l)
	}
	var denied error
	posted := retry(ctx, func() error {
		err := b.Post(ctx, messages)
		if exchange.Denied(err) {
			denied = err
			return nil
		}
		return err
	})
	if denied != nil {
		for _, c := range waiting {
			a.noteStatus(c, Denied, "by the relay", nil)
		}
	}
	if !posted || denied != nil {
		return
	}
	defer func() {
		sweeping, done := context.WithTimeout(context.WithoutCancel(ctx), sweepWithin)
		defer done()
		ids := make([]exchange.MessageID, len(messages))
		for i := range messages {
			ids[i] = messages[i].ID
		}
		_ = b.Discard(sweeping, ids) // they expire by themselves
	}()
	for len(waiting) > 0 && ctx.Err() == nil {
		retry(ctx, func() error {
			return b.Collect(ctx, slices.Collect(maps.Keys(waiting)), collectWait, a.c.MaxAnswer, func(id exchange.MessageID, data []byte, err error) {
				c := waiting[id]
				delete(waiting, id)
				if err != nil {
					a.noteStatus(c, StatusOf(err, false), err.Error(), nil)
					return
				}
				a.openTestimony(ctx, c, data)
			})
		})
	}
}

func (a *asking) sealQuestion(c *Contact) (exchange.Message, error) {
	now := time.Now()
	life := a.c.Deadline + margin
	l := exchange.Message{To: c.Key.ID(), Expires: now.Add(life)}
	rand.Read(l.ID[:]) // never fails
	question, err := exchange.SealQuestion(a.c.Key, l.To, now, life, a.inquiry.Question())
	if err != nil {
		return l, err
	}
	l.Sealed, err = exchange.SealMessage(a.cards[l.To].key, l.To, question)
	return l, err
}

// retry does something until it succeeds or ctx ends.
func retry(ctx context.Context, do func() error) bool {
	for ctx.Err() == nil {
		if do() == nil {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(collectPause):
		}
	}
	return false
}
