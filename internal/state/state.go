// Package state keeps a program's control state: what was decided, who is
// enrolled, what was asked. It is small, read often, and must survive a crash.
//
// It lives in an SQLite file or in a PostgreSQL database; the tables and
// statements are the same. Each room owns its tables and the migrations that
// make them (Migrate), and names them after itself.
package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	sql      *sql.DB
	postgres bool
}

// Open opens the SQLite file at address, making it and its directory when they
// are not there, or connects to the PostgreSQL database of a URL such as
// postgres://user@host/database.
func Open(ctx context.Context, address string) (*DB, error) {
	postgres := strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
	driver, source, name := "sqlite", "", address
	if postgres {
		driver, source, name = "pgx", address, withoutPassword(address)
	} else {
		if err := os.MkdirAll(filepath.Dir(address), 0o700); err != nil {
			return nil, fmt.Errorf("control state: %w", err)
		}
		source = fileSource(address)
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, fmt.Errorf("control state %s: %w", name, err)
	}
	d := &DB{sql: db, postgres: postgres}
	if err := d.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("control state %s: %w", name, err), db.Close())
	}
	return d, nil
}

// fileSource asks SQLite for what control state needs: a commit that is on disk
// when it returns, readers that do not wait for the writer, a writer that waits
// for its turn instead of failing, and transactions that take their lock at
// once so that they cannot deadlock.
func fileSource(path string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
	}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "postgres://..."
	}
	return u.Redacted()
}

func (d *DB) begin(ctx context.Context) error {
	if err := d.sql.PingContext(ctx); err != nil {
		return err
	}
	return d.alone(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS state_migration (
			room TEXT NOT NULL, step TEXT NOT NULL, digest TEXT NOT NULL, applied BIGINT NOT NULL, PRIMARY KEY (room, step))`)
		return err
	})
}

// Close closes the database.
func (d *DB) Close() error { return d.sql.Close() }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return d.sql.PingContext(ctx) }

// Copy writes the database, as it is at one moment, to a new SQLite file. What
// is in PostgreSQL is copied by its own means.
func (d *DB) Copy(ctx context.Context, path string) error {
	if d.postgres {
		return errors.New("control state in PostgreSQL is backed up there, with pg_dump")
	}
	_, err := d.sql.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// attempts bounds how often Update runs f when PostgreSQL reports a conflict.
const attempts = 20

// Update runs f in a transaction that may write and commits when f returns
// nil; what it commits is on disk. Transactions are serialisable: on a conflict
// with another one f runs again, so it must not leave traces elsewhere.
func (d *DB) Update(ctx context.Context, f func(*Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := d.transact(ctx, &sql.TxOptions{Isolation: d.isolation()}, f)
		if err == nil || attempt == attempts || !conflict(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(attempt) * 20 * time.Millisecond)):
		}
	}
}

// View runs f in a transaction that sees one moment of the database.
func (d *DB) View(ctx context.Context, f func(*Tx) error) error {
	return d.transact(ctx, &sql.TxOptions{ReadOnly: true, Isolation: d.isolation()}, f)
}

// isolation is the default of SQLite, whose transactions are serialisable.
func (d *DB) isolation() sql.IsolationLevel {
	if d.postgres {
		return sql.LevelSerializable
	}
	return sql.LevelDefault
}

func (d *DB) transact(ctx context.Context, o *sql.TxOptions, f func(*Tx) error) error {
	tx, err := d.sql.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	if err := f(&Tx{ctx: ctx, tx: tx, postgres: d.postgres}); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// conflict reports a serialization failure or a deadlock (PostgreSQL, appendix
// A, class 40), after which the same transaction may succeed.
func conflict(err error) bool {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pe.Code, "40")
}
