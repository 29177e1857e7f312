package inquiry

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"dragnet/wire/exchange"
)

// How a relay's board is looked at for answers.
const (
	collectWait  = 20 * time.Second
	collectPause = time.Second // after a failure
	// sweepWithin bounds taking our letters off the board at the end.
	sweepWithin = 10 * time.Second
)

// askOver leaves a letter for each witness and comes for the answers until all
// are there or ctx ends. A relay that is away for a while is asked again: it
// keeps what it acknowledged, and a letter posted twice is there once.
func (a *asking) askOver(ctx context.Context, b *exchange.Board, contacts []Contact) {
	waiting := map[exchange.LetterID]*Contact{}
	var letters []exchange.Letter
	for i := range contacts {
		c := &contacts[i]
		l, err := a.letter(c)
		if err != nil {
			a.note(c, Broken, err.Error(), nil)
			continue
		}
		waiting[l.ID] = c
		letters = append(letters, l)
	}
	var denied error
	posted := persist(ctx, func() error {
		err := b.Post(ctx, letters)
		if exchange.Denied(err) {
			denied = err
			return nil
		}
		return err
	})
	if denied != nil {
		for _, c := range waiting {
			a.note(c, Denied, "by the relay", nil)
		}
	}
	if !posted || denied != nil {
		return
	}
	defer func() {
		sweeping, done := context.WithTimeout(context.WithoutCancel(ctx), sweepWithin)
		defer done()
		ids := make([]exchange.LetterID, len(letters))
		for i := range letters {
			ids[i] = letters[i].ID
		}
		_ = b.Discard(sweeping, ids) // they expire by themselves
	}()
	for len(waiting) > 0 && ctx.Err() == nil {
		persist(ctx, func() error {
			return b.Collect(ctx, slices.Collect(maps.Keys(waiting)), collectWait, a.c.MaxAnswer, func(id exchange.LetterID, data []byte, err error) {
				c := waiting[id]
				delete(waiting, id)
				if err != nil {
					a.note(c, Judge(err, false), err.Error(), nil)
					return
				}
				a.hear(ctx, c, data)
			})
		})
	}
}

func (a *asking) letter(c *Contact) (exchange.Letter, error) {
	now := time.Now()
	life := a.c.Deadline + margin
	l := exchange.Letter{To: c.Key.ID(), Expires: now.Add(life)}
	rand.Read(l.ID[:]) // never fails
	question, err := exchange.SealQuestion(a.c.Key, l.To, now, life, a.inquiry.Question())
	if err != nil {
		return l, err
	}
	l.Sealed, err = exchange.SealLetter(a.cards[l.To].key, l.To, question)
	return l, err
}

// persist does something until it succeeds or ctx ends.
func persist(ctx context.Context, do func() error) bool {
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
