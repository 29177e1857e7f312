package relay

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"dragnet/internal/state"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

// fetchBytes bounds what one Fetch returns; one message is always
// returned, whatever its size.
const fetchBytes = 4 << 20

// Fetch returns the messages to a witness that it has not answered: one of each
// organisation in turn, so that one that sends many does not keep the others
// waiting, of each the oldest first. Fetched messages stay until they are answered.
func (b *Mailboxes) Fetch(ctx context.Context, now time.Time, witness identity.ID) (out []exchange.Message, err error) {
	size := 0
	errEnough := errors.New("enough")
	err = b.db.View(ctx, func(tx *state.Tx) error {
		out, size = nil, 0
		return tx.Each(func(r *sql.Rows) error {
			var id []byte
			var expires int64
			l := exchange.Message{To: witness}
			if err := r.Scan(&id, &expires, &l.Sealed); err != nil {
				return err
			}
			if size += len(l.Sealed); size > fetchBytes && len(out) > 0 {
				return errEnough
			}
			l.ID, l.Expires = exchange.MessageID(id), time.Unix(0, expires)
			out = append(out, l)
			return nil
		}, `SELECT m.id, m.expires, m.sealed FROM relay_message m JOIN (
				SELECT number, ROW_NUMBER() OVER (PARTITION BY organisation ORDER BY number) AS turn
				FROM relay_message WHERE receiver = ? AND answered = 0 AND expires > ?
				ORDER BY turn, number LIMIT 4096) t ON t.number = m.number ORDER BY t.turn, m.number`,
			witness[:], now.UnixNano())
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

// hasMessage reports whether there is a message for a witness, answered or not.
func (b *Mailboxes) hasMessage(ctx context.Context, witness identity.ID) (has bool, err error) {
	err = b.db.View(ctx, func(tx *state.Tx) error {
		var n int
		err := tx.QueryRow(`SELECT COUNT(*) FROM (SELECT 1 FROM relay_message WHERE receiver = ? LIMIT 1) AS one`, witness[:]).Scan(&n)
		has = n > 0
		return err
	})
	return has, err
}

// Answer stores a witness's answer to a message and returns the message's sender.
// Messages of two senders may have the same number: the answer belongs to the
// first unanswered one, because only its sender could have sealed its content.
func (b *Mailboxes) Answer(ctx context.Context, now time.Time, witness identity.ID, message exchange.MessageID, answer []byte) (sender identity.ID, err error) {
	if len(answer) > b.config.AnswerBytes {
		return sender, exchange.ErrTooLarge
	}
	err = b.db.Update(ctx, func(tx *state.Tx) error {
		var number, answered int64
		var organisation string
		var from, before []byte
		err := tx.QueryRow(`SELECT number, sender, organisation, answered, answer FROM relay_message
			WHERE receiver = ? AND id = ? AND expires > ? ORDER BY answered, number LIMIT 1`,
			witness[:], message[:], now.UnixNano()).Scan(&number, &from, &organisation, &answered, &before)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrUnknown
		case err != nil:
			return err
		case answered != 0 && bytes.Equal(before, answer):
			return nil
		case answered != 0:
			return ErrConflict
		}
		sender = identity.ID(from)
		_, err = tx.Exec(`UPDATE relay_message SET answered = ?, answer = ?, size = size + ? WHERE number = ?`,
			now.UnixNano(), answer, len(answer), number)
		if err != nil {
			return err
		}
		return b.checkQuota(tx, organisation)
	})
	return sender, err
}

// Answered returns those of a detective's messages that have answers.
func (b *Mailboxes) Answered(ctx context.Context, sender identity.ID, messages []exchange.MessageID) (out []exchange.MessageID, err error) {
	err = b.db.View(ctx, func(tx *state.Tx) error {
		out = nil
		for _, id := range messages {
			var n int
			err := tx.QueryRow(`SELECT COUNT(*) FROM relay_message WHERE sender = ? AND id = ? AND answered <> 0`, sender[:], id[:]).Scan(&n)
			if err != nil {
				return err
			}
			if n > 0 {
				out = append(out, id)
			}
		}
		return nil
	})
	return out, err
}

// Collect returns the answer to one of a detective's messages.
func (b *Mailboxes) Collect(ctx context.Context, sender identity.ID, message exchange.MessageID) (answer []byte, err error) {
	err = b.db.View(ctx, func(tx *state.Tx) error {
		err := tx.QueryRow(`SELECT answer FROM relay_message WHERE sender = ? AND id = ? AND answered <> 0`, sender[:], message[:]).Scan(&answer)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrUnknown
		}
		return err
	})
	return answer, err
}

// Discard deletes a detective's messages and their answers.
func (b *Mailboxes) Discard(ctx context.Context, sender identity.ID, messages []exchange.MessageID) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		for _, id := range messages {
			if _, err := tx.Exec(`DELETE FROM relay_message WHERE sender = ? AND id = ?`, sender[:], id[:]); err != nil {
				return err
			}
		}
		return nil
	})
}
