package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ErrNewer means that a newer version has migrated the tables.
var ErrNewer = errors.New("the control state was written by a newer version of dragnet; run that version, or restore a backup made before it")

// migrationLock keeps two programs from migrating a PostgreSQL database at the
// same time: an arbitrary key for its advisory locks.
const migrationLock = 0x647261676e6574

// types are the type names in migrations that differ between the two databases.
var types = map[string][2]string{
	"BYTES":  {"BLOB", "BYTEA"},
	"ROWKEY": {"INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
}

// Migrate brings the tables of a room up to date. Steps are the files *.sql of
// fsys in the order of their names, 0001-what.sql and so on; each is applied once,
// and all that are missing in one transaction. A step that was applied must not
// change: Migrate returns an error if it differs. The types are TEXT, BIGINT
// (times: nanoseconds since 1970 in UTC), DOUBLE PRECISION, BYTES and ROWKEY, a
// whole number that counts up.
func (d *DB) Migrate(ctx context.Context, room string, fsys fs.FS) error {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	err = d.withLock(ctx, func(tx *Tx) error {
		done, err := appliedSteps(tx, room)
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			if err := tx.applyStep(room, path.Base(name), string(text), done); err != nil {
				return err
			}
			delete(done, path.Base(name))
		}
		if len(done) > 0 {
			return ErrNewer
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tables of %s: %w", room, err)
	}
	return nil
}

// withLock runs f in a transaction that excludes other callers, in other programs
// too. In PostgreSQL it is not serialisable: a serialisable one would see the
// tables as they were before the lock was granted.
func (d *DB) withLock(ctx context.Context, f func(*Tx) error) error {
	return d.runTransaction(ctx, nil, func(tx *Tx) error {
		if d.postgres {
			if _, err := tx.Exec(`SELECT pg_advisory_xact_lock(?)`, migrationLock); err != nil {
				return err
			}
		}
		return f(tx)
	})
}

// appliedSteps returns the digest of each step that was applied.
func appliedSteps(tx *Tx, room string) (map[string]string, error) {
	done := map[string]string{}
	err := tx.Each(func(r *sql.Rows) error {
		var step, digest string
		err := r.Scan(&step, &digest)
		done[step] = digest
		return err
	}, `SELECT step, digest FROM state_migration WHERE room = ?`, room)
	return done, err
}

func (t *Tx) applyStep(room, name, text string, done map[string]string) error {
	sum := sha256.Sum256([]byte(text))
	digest := hex.EncodeToString(sum[:])
	if was, ok := done[name]; ok {
		if was != digest {
			return fmt.Errorf("step %s differs from the one that was applied to this database", name)
		}
		return nil
	}
	for statement := range strings.SplitSeq(t.translateTypes(text), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := t.tx.ExecContext(t.ctx, statement); err != nil {
			return fmt.Errorf("step %s: %w", name, err)
		}
	}
	_, err := t.Exec(`INSERT INTO state_migration (room, step, digest, applied) VALUES (?, ?, ?, ?)`,
		room, name, digest, time.Now().UnixNano())
	return err
}

var typeWord = regexp.MustCompile(`\b(BYTES|ROWKEY)\b`)

func (t *Tx) translateTypes(text string) string {
	return typeWord.ReplaceAllStringFunc(text, func(w string) string {
		if t.postgres {
			return types[w][1]
		}
		return types[w][0]
	})
}
