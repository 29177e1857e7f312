// Package docket keeps what a node concluded and decided: findings, decisions,
// receipts, whether decisions are stopped, and the rules the judge goes by.
//
// The database is the truth, not the memory of a process: each change takes the
// judge from it and puts it back in one transaction. So 'dragnet decision stop'
// on the data directory of a running node takes effect there.
package docket

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/store/disk"
)

//go:embed migrations
var migrations embed.FS

// Docket is safe for concurrent use.
type Docket struct{ db *state.DB }

// File is the control state of a data directory.
func File(dir string) string { return filepath.Join(dir, "control", "state.db") }

// Open opens the docket at an address of state.Open, making its tables.
func Open(ctx context.Context, address string) (*Docket, error) {
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	d, err := New(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// OpenIn opens the docket of a data directory; where there is no such
// directory, it makes one.
func OpenIn(ctx context.Context, dir string) (*Docket, error) {
	if !disk.Is(dir) {
		s, err := disk.OpenWriter(dir) // a store takes no directory that others filled
		if err != nil {
			return nil, err
		}
		if err := s.Close(); err != nil {
			return nil, err
		}
	}
	return Open(ctx, File(dir))
}

// OpenExisting is Open for a data directory that has a docket, or for the URL of
// a PostgreSQL database; it makes none.
func OpenExisting(ctx context.Context, dir string) (*Docket, error) {
	if strings.HasPrefix(dir, "postgres://") || strings.HasPrefix(dir, "postgresql://") {
		return Open(ctx, dir)
	}
	if _, err := os.Stat(File(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no findings or decisions (there is no %s)", dir, File(dir))
	}
	return Open(ctx, File(dir))
}

// New makes the docket's tables in a database that somebody else closes.
func New(ctx context.Context, db *state.DB) (*Docket, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "docket", steps); err != nil {
		return nil, err
	}
	return &Docket{db}, nil
}

// Close closes the database.
func (d *Docket) Close() error { return d.db.Close() }

// The names of settings.
const (
	rules   = "decide"
	stopped = "stopped"
)

// stop is who stopped decisions, and why.
type stop struct {
	Time flow.Time `json:"time"`
	Who  string    `json:"who"`
	Why  string    `json:"why"`
}

// Configure sets the rules of the judge from now on. Decisions that a new allow
// list protects end.
func (d *Docket) Configure(ctx context.Context, now flow.Time, c decide.Configuration, who string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return d.db.Update(ctx, func(tx *state.Tx) error {
		b, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if err := set(tx, rules, b); err != nil {
			return err
		}
		return session(tx, now, func(j *decide.Judge) error { return j.Configure(now, c, who) })
	})
}

// Judge lets f use the judge, alone: what it did is kept when f returns nil.
func (d *Docket) Judge(ctx context.Context, now flow.Time, f func(*decide.Judge) error) error {
	return d.db.Update(ctx, func(tx *state.Tx) error { return session(tx, now, f) })
}

// Stop ends all decisions and refuses new ones until Resume.
func (d *Docket) Stop(ctx context.Context, now flow.Time, who, why string) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		if err := session(tx, now, func(j *decide.Judge) error { j.Stop(now, who, why); return nil }); err != nil {
			return err
		}
		b, err := json.Marshal(stop{now, who, why})
		if err != nil {
			return err
		}
		return set(tx, stopped, b)
	})
}

// Resume lets new decisions through again.
func (d *Docket) Resume(ctx context.Context) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.Exec(`DELETE FROM docket_setting WHERE name = ?`, stopped)
		return err
	})
}

// Stopped tells who stopped decisions and why; an empty who says nobody did.
func (d *Docket) Stopped(ctx context.Context) (at flow.Time, who, why string, err error) {
	var s stop
	err = d.db.View(ctx, func(tx *state.Tx) error {
		_, err := get(tx, stopped, &s)
		return err
	})
	return s.Time, s.Who, s.Why, err
}

// session takes the judge from the tables and puts it back. It knows decisions
// that may still change and those that f could mean by their identity.
func session(tx *state.Tx, now flow.Time, f func(*decide.Judge) error) error {
	c := decide.DefaultConfiguration()
	if _, err := get(tx, rules, &c); err != nil {
		return err
	}
	before, err := decisions(tx, `SELECT body FROM docket_decision WHERE verdict IN (?, ?, ?) ORDER BY seq`, dossier.Proposed, dossier.DryRun, dossier.Active)
	if err != nil {
		return err
	}
	steps := map[string]int{}
	for _, x := range before {
		steps[x.ID] = len(x.Steps)
	}
	j, err := decide.New(c, before)
	if err != nil {
		return err
	}
	var s stop
	if is, err := get(tx, stopped, &s); err != nil {
		return err
	} else if is {
		j.Stop(now, s.Who, s.Why)
	}
	if err := f(j); err != nil {
		return err
	}
	for _, x := range j.Decisions(now) {
		if known, n := known(steps, x.ID); !known || n != len(x.Steps) {
			if err := keep(tx, &x); err != nil {
				return err
			}
		}
	}
	return forget(tx, c.Kept)
}

func known(steps map[string]int, id string) (bool, int) {
	n, ok := steps[id]
	return ok, n
}

func keep(tx *state.Tx, x *dossier.Decision) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO docket_decision (id, target, verdict, until, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET verdict = excluded.verdict, until = excluded.until, body = excluded.body`,
		x.ID, x.Target.String(), string(x.Verdict), int64(x.Until), b)
	return err
}

// forget drops the oldest decisions that are over, and their receipts.
func forget(tx *state.Tx, kept int) error {
	var last int64
	err := tx.QueryRow(`SELECT seq FROM docket_decision WHERE verdict NOT IN (?, ?, ?) ORDER BY seq DESC LIMIT 1 OFFSET ?`,
		string(dossier.Proposed), string(dossier.DryRun), string(dossier.Active), kept).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM docket_decision WHERE seq <= ? AND verdict NOT IN (?, ?, ?)`, last,
		string(dossier.Proposed), string(dossier.DryRun), string(dossier.Active)); err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM docket_receipt WHERE decision NOT IN (SELECT id FROM docket_decision)`)
	return err
}

func set(tx *state.Tx, name string, value []byte) error {
	_, err := tx.Exec(`INSERT INTO docket_setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

// get reads a setting into value, and reports whether there is one.
func get(tx *state.Tx, name string, value any) (bool, error) {
	var b []byte
	err := tx.QueryRow(`SELECT value FROM docket_setting WHERE name = ?`, name).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, value); err != nil {
		return false, fmt.Errorf("setting %s is damaged: %w", name, err)
	}
	return true, nil
}
