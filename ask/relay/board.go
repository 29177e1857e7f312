// Package relay is a question board for witnesses that nobody can reach:
// detectives leave letters, witnesses come for those addressed to them and
// leave answers, detectives come for these. All of it is sealed from end to
// end; the board knows who writes to whom, when and how much.
//
// What the board acknowledged is on disk. A letter stays until its sender
// discards it or it expires, so whatever breaks down in between (the relay, the
// line, either side) each side may do again what was not acknowledged; doing it
// twice is the same as doing it once.
package relay

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dragnet/internal/state"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

//go:embed migrations
var migrations embed.FS

// Configuration says whether there is a board, and bounds what it keeps.
type Configuration struct {
	// Serve puts the board up; the roster's detectives leave letters, and
	// whoever has a key is a witness.
	Serve bool `yaml:"serve"`
	// Witnesses bounds the cards.
	Witnesses int `yaml:"witnesses"`
	// Letters bounds what one detective has on the board.
	Letters int `yaml:"letters"`
	// Bytes bounds the size of one detective's letters with their answers.
	Bytes int64 `yaml:"bytes"`
	// TotalBytes bounds the board.
	TotalBytes int64 `yaml:"total_bytes"`
	// AnswerBytes bounds one answer.
	AnswerBytes int `yaml:"answer_bytes"`
	// Life bounds how far in the future a letter may expire.
	Life time.Duration `yaml:"life"`
}

// DefaultConfiguration suits a community of a few thousand witnesses; it puts
// no board up.
func DefaultConfiguration() Configuration {
	return Configuration{Witnesses: 20_000, Letters: 20_000, Bytes: 1 << 30, TotalBytes: 16 << 30, AnswerBytes: 16 << 20, Life: 48 * time.Hour}
}

// Validate reports bounds that make no sense.
func (l *Configuration) Validate() error {
	if l.Witnesses < 1 || l.Letters < 1 || l.Bytes < 1 || l.TotalBytes < l.Bytes || l.AnswerBytes < 1 || l.Life <= 0 {
		return errors.New("relay: witnesses, letters, bytes, answer_bytes and life must be positive, and total_bytes at least bytes")
	}
	return nil
}

// Why the board refuses.
var (
	ErrFull     = errors.New("the board is full; try again later")
	ErrUnknown  = errors.New("there is no such letter to you on the board")
	ErrConflict = errors.New("another letter or answer stands there under this number")
)

// Mailboxes is the persistent part of a relay. Time is an argument. It is safe for
// concurrent use.
type Mailboxes struct {
	db     *state.DB
	config Configuration
}

// NewMailboxes makes the board's tables where they are missing.
func NewMailboxes(ctx context.Context, db *state.DB, config Configuration) (*Mailboxes, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return &Mailboxes{db, config}, db.Migrate(ctx, "ask/relay", steps)
}

// Register pins up a witness's card, which the caller has checked.
func (b *Mailboxes) Register(ctx context.Context, now time.Time, witness identity.ID, card []byte) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		done, err := tx.Exec(`UPDATE relay_card SET card = ?, seen = ? WHERE witness = ?`, card, now.UnixNano(), witness[:])
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); n > 0 || err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM relay_card`).Scan(&n); err != nil {
			return err
		}
		if n >= b.config.Witnesses {
			return ErrFull
		}
		_, err = tx.Exec(`INSERT INTO relay_card (witness, card, seen) VALUES (?, ?, ?)`, witness[:], card, now.UnixNano())
		return err
	})
}

// Cards lists at most limit cards in order of the witness's key, beginning
// behind after.
func (b *Mailboxes) Cards(ctx context.Context, after []byte, limit int) (cards [][]byte, last []byte, err error) {
	if after == nil {
		after = []byte{}
	}
	err = b.db.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(r *sql.Rows) error {
			var card []byte
			if err := r.Scan(&last, &card); err != nil {
				return err
			}
			cards = append(cards, card)
			return nil
		}, `SELECT witness, card FROM relay_card WHERE witness > ? ORDER BY witness LIMIT ?`, after, limit)
	})
	return cards, last, err
}

// Post leaves a detective's letters: all of them, or none.
func (b *Mailboxes) Post(ctx context.Context, now time.Time, sender identity.ID, letters []exchange.Message) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		for i := range letters {
			if err := b.postMessage(tx, now, sender, &letters[i]); err != nil {
				return err
			}
		}
		return b.checkQuota(tx, sender)
	})
}

func (b *Mailboxes) postMessage(tx *state.Tx, now time.Time, sender identity.ID, l *exchange.Message) error {
	if left := l.Expires.Sub(now); left <= 0 || left > b.config.Life {
		return fmt.Errorf("a letter expires within %v, and not before now; check both clocks", b.config.Life)
	}
	var receiver, sealed []byte
	err := tx.QueryRow(`SELECT receiver, sealed FROM relay_letter WHERE sender = ? AND id = ?`, sender[:], l.ID[:]).Scan(&receiver, &sealed)
	switch {
	case err == nil && bytes.Equal(receiver, l.To[:]) && bytes.Equal(sealed, l.Sealed):
		return nil
	case err == nil:
		return ErrConflict
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	_, err = tx.Exec(`INSERT INTO relay_letter (id, sender, receiver, expires, sealed, answered, size) VALUES (?, ?, ?, ?, ?, 0, ?)`,
		l.ID[:], sender[:], l.To[:], l.Expires.UnixNano(), l.Sealed, len(l.Sealed))
	return err
}

// checkQuota fails a transaction that left the board beyond its limits.
func (b *Mailboxes) checkQuota(tx *state.Tx, sender identity.ID) error {
	var letters int
	var own, all int64
	err := tx.QueryRow(`SELECT COUNT(*), COALESCE(SUM(size), 0) FROM relay_letter WHERE sender = ?`, sender[:]).Scan(&letters, &own)
	if err != nil {
		return err
	}
	if err := tx.QueryRow(`SELECT COALESCE(SUM(size), 0) FROM relay_letter`).Scan(&all); err != nil {
		return err
	}
	if letters > b.config.Letters || own > b.config.Bytes || all > b.config.TotalBytes {
		return ErrFull
	}
	return nil
}

// Expire takes down what is out of date.
func (b *Mailboxes) Expire(ctx context.Context, now time.Time) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Exec(`DELETE FROM relay_letter WHERE expires <= ?`, now.UnixNano()); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM relay_card WHERE seen <= ?`, now.Add(-exchange.CardLife).UnixNano())
		return err
	})
}
