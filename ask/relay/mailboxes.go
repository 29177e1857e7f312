// Package relay stores questions for witnesses that cannot be reached from
// outside. Detectives post messages, witnesses fetch those addressed to them and
// post answers, and detectives collect the answers. Content is sealed end to
// end; the relay learns who writes to whom, when and how much.
//
// What the relay acknowledged is on disk. A message is kept until its sender
// discards it or it expires. All calls are idempotent: after any failure, of the
// relay, the network or either side, the caller repeats what was not
// acknowledged.
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

	"dragnet/internal/conf"
	"dragnet/internal/state"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

//go:embed migrations
var migrations embed.FS

// Configuration says whether the relay runs, and bounds what it keeps.
type Configuration struct {
	// Serve runs the relay. The roster's detectives may post messages; every
	// holder of a key may register as a witness.
	Serve bool `yaml:"serve"`
	// Witnesses bounds the number of contact cards. A member of the roster always
	// finds room: the card of a stranger gives way.
	Witnesses int `yaml:"witnesses"`
	// Strangers bounds the cards of witnesses that are not on the roster; 0 takes
	// none.
	Strangers int `yaml:"strangers"`
	// PerNetwork bounds those of strangers from one network of /24 (IPv6: /48);
	// eight times as many may come from its /16 (IPv6: /32).
	PerNetwork int `yaml:"per_network"`
	// Messages bounds the messages that the relay keeps for one organisation.
	Messages int `yaml:"messages"`
	// Bytes bounds the size of one organisation's messages with their answers.
	Bytes int64 `yaml:"bytes"`
	// TotalBytes bounds the size of all messages with their answers.
	TotalBytes int64 `yaml:"total_bytes"`
	// AnswerBytes bounds one answer.
	AnswerBytes int `yaml:"answer_bytes"`
	// Life bounds how far in the future a message may expire.
	Life time.Duration `yaml:"life"`
}

// DefaultConfiguration suits a community of a few thousand witnesses. The relay
// does not run.
func DefaultConfiguration() Configuration {
	return Configuration{Witnesses: 20_000, Strangers: 10_000, PerNetwork: 32, Messages: 20_000, Bytes: 1 << 30, TotalBytes: 16 << 30, AnswerBytes: 16 << 20, Life: 48 * time.Hour}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for key, n := range map[string]int64{"witnesses": int64(c.Witnesses), "messages": int64(c.Messages), "bytes": int64(c.Bytes), "answer_bytes": int64(c.AnswerBytes)} {
		p.Check(n >= 1, key, "is %d; want at least 1", n)
	}
	p.Check(c.Strangers >= 0 && c.Strangers <= c.Witnesses, "strangers", "is %d; want 0 to witnesses, %d", c.Strangers, c.Witnesses)
	p.Check(c.PerNetwork >= 1, "per_network", "is %d; want at least 1", c.PerNetwork)
	p.Check(c.TotalBytes >= c.Bytes, "total_bytes", "is %d; want at least bytes, %d", c.TotalBytes, c.Bytes)
	p.Check(c.Life > 0, "life", "is %v; want a positive duration such as 48h", c.Life)
	return p.Join()
}

// Errors of a relay.
var (
	ErrFull     = errors.New("the relay is full; try again later")
	ErrUnknown  = errors.New("message not found")
	ErrConflict = errors.New("this number is used by another message or answer")
)

// Mailboxes is the persistent part of a relay. Time is an argument. It is safe for
// concurrent use.
type Mailboxes struct {
	db     *state.DB
	config Configuration
}

// NewMailboxes are mailboxes in db. Migrate must be called before anything else.
func NewMailboxes(db *state.DB, config Configuration) (*Mailboxes, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Mailboxes{db, config}, nil
}

// Migrate creates the relay's tables, or brings them up to date.
func (b *Mailboxes) Migrate(ctx context.Context) error {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return b.db.Migrate(ctx, "ask/relay", steps)
}

// Cards lists at most limit cards in order of the witness's key, starting
// after the key after.
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

// Sender is a detective and the organisation whose share of the relay it uses.
type Sender struct {
	Key          identity.ID
	Organisation string
}

// Post stores a detective's messages: all of them, or none.
func (b *Mailboxes) Post(ctx context.Context, now time.Time, sender Sender, messages []exchange.Message) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		for i := range messages {
			if err := b.postMessage(tx, now, sender, &messages[i]); err != nil {
				return err
			}
		}
		return b.checkQuota(tx, sender.Organisation)
	})
}

func (b *Mailboxes) postMessage(tx *state.Tx, now time.Time, sender Sender, m *exchange.Message) error {
	if left := m.Expires.Sub(now); left <= 0 || left > b.config.Life {
		return fmt.Errorf("a message must expire between now and %v from now; check the clocks of both sides", b.config.Life)
	}
	var receiver, sealed []byte
	err := tx.QueryRow(`SELECT receiver, sealed FROM relay_message WHERE sender = ? AND id = ?`, sender.Key[:], m.ID[:]).Scan(&receiver, &sealed)
	switch {
	case err == nil && bytes.Equal(receiver, m.To[:]) && bytes.Equal(sealed, m.Sealed):
		return nil
	case err == nil:
		return ErrConflict
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	_, err = tx.Exec(`INSERT INTO relay_message (id, sender, organisation, receiver, expires, sealed, answered, size) VALUES (?, ?, ?, ?, ?, ?, 0, ?)`,
		m.ID[:], sender.Key[:], sender.Organisation, m.To[:], m.Expires.UnixNano(), m.Sealed, len(m.Sealed))
	return err
}

// checkQuota fails a transaction that exceeded the relay's limits.
func (b *Mailboxes) checkQuota(tx *state.Tx, organisation string) error {
	var messages int
	var own, all int64
	err := tx.QueryRow(`SELECT COUNT(*), COALESCE(SUM(size), 0) FROM relay_message WHERE organisation = ?`, organisation).Scan(&messages, &own)
	if err != nil {
		return err
	}
	if err := tx.QueryRow(`SELECT COALESCE(SUM(size), 0) FROM relay_message`).Scan(&all); err != nil {
		return err
	}
	if messages > b.config.Messages || own > b.config.Bytes || all > b.config.TotalBytes {
		return ErrFull
	}
	return nil
}

// Expire deletes what has expired.
func (b *Mailboxes) Expire(ctx context.Context, now time.Time) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Exec(`DELETE FROM relay_message WHERE expires <= ?`, now.UnixNano()); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM relay_card WHERE seen <= ?`, now.Add(-exchange.CardLife).UnixNano())
		return err
	})
}

// Count is how many cards and messages are kept.
func (b *Mailboxes) Count(ctx context.Context) (cards, messages int, err error) {
	err = b.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT (SELECT COUNT(*) FROM relay_card), (SELECT COUNT(*) FROM relay_message)`).Scan(&cards, &messages)
	})
	return cards, messages, err
}
