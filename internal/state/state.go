// Package state keeps a program's control state: decisions, enrolments, questions
// asked. It is small, read often, and must survive a crash.
//
// It is stored in an SQLite file or in a PostgreSQL database; the tables and
// statements are the same. Each room owns its tables and their migrations
// (Migrate), and its name is the prefix of theirs.
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

// DB is a database. After Start it is safe for concurrent use.
type DB struct {
	address  string
	postgres bool
	sql      *sql.DB // nil before Start
}

// New returns the database at an address: the path of an SQLite file, or the URL of
// a PostgreSQL database such as postgres://user@host/database. Start opens it.
func New(address string) *DB {
	return &DB{address: address, postgres: IsPostgres(address)}
}

// IsPostgres reports whether an address is the URL of a PostgreSQL database.
func IsPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// IsPostgres reports whether d is a PostgreSQL database, which several programs
// may share.
func (d *DB) IsPostgres() bool { return d.postgres }

// Open is New and Start.
func Open(ctx context.Context, address string) (*DB, error) {
	d := New(address)
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Start opens the database; an SQLite file and its directory are created if they
// do not exist.
func (d *DB) Start(ctx context.Context) error {
	driver, source := "pgx", d.address
	if !d.postgres {
		driver, source = "sqlite", fileSource(d.address)
		if err := os.MkdirAll(filepath.Dir(d.address), 0o700); err != nil {
			return fmt.Errorf("control state: %w", err)
		}
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return fmt.Errorf("control state %s: %w", Redact(d.address), err)
	}
	d.sql = db
	if err := d.createMigrationTable(ctx); err != nil {
		return errors.Join(fmt.Errorf("control state %s: %w", Redact(d.address), err), db.Close())
	}
	return nil
}

// Stop closes the database.
func (d *DB) Stop(context.Context) error { return d.Close() }

// fileSource sets the SQLite options that control state needs: a commit is on disk
// when it returns, readers do not wait for the writer, a writer waits for its turn
// instead of failing, and transactions take their lock at once so that they cannot
// deadlock.
func fileSource(path string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
	}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// Redact returns an address without its password.
func Redact(address string) string {
	if !IsPostgres(address) {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "postgres://..."
	}
	return u.Redacted()
}

func (d *DB) createMigrationTable(ctx context.Context) error {
	if err := d.sql.PingContext(ctx); err != nil {
		return err
	}
	return d.withLock(ctx, func(tx *Tx) error {
		_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS state_migration (
			room TEXT NOT NULL, step TEXT NOT NULL, digest TEXT NOT NULL, applied BIGINT NOT NULL, PRIMARY KEY (room, step))`)
		if err == nil {
			_, err = tx.Exec(`CREATE TABLE IF NOT EXISTS state_probe (number BIGINT PRIMARY KEY, at BIGINT NOT NULL)`)
		}
		return err
	})
}

// Close closes the database.
func (d *DB) Close() error { return d.sql.Close() }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return d.sql.PingContext(ctx) }

// Copy writes the database, as of one moment, to a new SQLite file. It does not
// copy from PostgreSQL, which has its own tools.
func (d *DB) Copy(ctx context.Context, path string) error {
	if d.postgres {
		return errors.New("control state is in PostgreSQL; back it up with pg_dump")
	}
	_, err := d.sql.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// attempts bounds how often Update runs f when PostgreSQL reports a conflict.
const attempts = 20

// Update runs f in a transaction that may write and commits when f returns
// nil; what it commits is on disk. Transactions are serialisable: on a conflict
// with another one f runs again, so it must have no effect elsewhere.
func (d *DB) Update(ctx context.Context, f func(*Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := d.runTransaction(ctx, &sql.TxOptions{Isolation: d.isolationLevel()}, f)
		if err == nil || attempt == attempts || !isConflict(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(attempt) * 20 * time.Millisecond)):
		}
	}
}

// View runs f in a transaction that sees one moment of the database. It never conflicts
// with those that write.
func (d *DB) View(ctx context.Context, f func(*Tx) error) error {
	level := sql.LevelDefault
	if d.postgres {
		level = sql.LevelRepeatableRead // a serialisable one may be cancelled, although it only reads
	}
	return d.runTransaction(ctx, &sql.TxOptions{ReadOnly: true, Isolation: level}, f)
}

// isolationLevel is the default of SQLite, whose transactions are serialisable.
func (d *DB) isolationLevel() sql.IsolationLevel {
	if d.postgres {
		return sql.LevelSerializable
	}
	return sql.LevelDefault
}

func (d *DB) runTransaction(ctx context.Context, o *sql.TxOptions, f func(*Tx) error) error {
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

// isConflict reports whether err is a serialization failure or a deadlock
// (PostgreSQL, appendix A, class 40), after which the same transaction may succeed.
func isConflict(err error) bool {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pe.Code, "40")
}
