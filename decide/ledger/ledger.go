// Package ledger keeps what a node concluded and decided: findings, decisions,
// receipts, whether decisions are stopped, and the rules the judge goes by with
// their allow list.
//
// The database is the truth, not the memory of a process: each change takes the
// judge from it and puts it back in one transaction. So 'dragnet decision stop'
// on the data directory of a running node takes effect there.
package ledger

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

//go:embed migrations
var migrations embed.FS

// Ledger is safe for concurrent use.
type Ledger struct{ db *state.DB }

// Open opens the ledger at an address of state.Open, and creates its tables.
func Open(ctx context.Context, address string) (*Ledger, error) {
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	d := New(db)
	if err := d.Migrate(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// New is the ledger in a database that the caller opens and closes. Migrate must
// be called before anything else.
func New(db *state.DB) *Ledger { return &Ledger{db} }

// Migrate creates the ledger's tables, or brings them up to date.
func (d *Ledger) Migrate(ctx context.Context) error {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return d.db.Migrate(ctx, "decide/ledger", steps)
}

// Close closes the database.
func (d *Ledger) Close() error { return d.db.Close() }

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
func (d *Ledger) Configure(ctx context.Context, now flow.Time, c decide.Configuration, who string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return d.db.Update(ctx, func(tx *state.Tx) error {
		b, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if err := setSetting(tx, rules, b); err != nil {
			return err
		}
		return withJudge(tx, now, func(j *decide.Judge) error { return j.Configure(now, j.Rules(), who) })
	})
}

// Judge lets f use the judge, alone: what it did is kept when f returns nil.
func (d *Ledger) Judge(ctx context.Context, now flow.Time, f func(*decide.Judge) error) error {
	return d.db.Update(ctx, func(tx *state.Tx) error { return withJudge(tx, now, f) })
}

// Stop ends all decisions and refuses new ones until Resume.
func (d *Ledger) Stop(ctx context.Context, now flow.Time, who, why string) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		if err := withJudge(tx, now, func(j *decide.Judge) error { j.Stop(now, who, why); return nil }); err != nil {
			return err
		}
		b, err := json.Marshal(stop{now, who, why})
		if err != nil {
			return err
		}
		return setSetting(tx, stopped, b)
	})
}

// Resume lets new decisions through again.
func (d *Ledger) Resume(ctx context.Context) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.Exec(`DELETE FROM ledger_setting WHERE name = ?`, stopped)
		return err
	})
}

// Stopped returns who stopped decisions and why; who is empty if they are not stopped.
func (d *Ledger) Stopped(ctx context.Context) (at flow.Time, who, why string, err error) {
	var s stop
	err = d.db.View(ctx, func(tx *state.Tx) error {
		_, err := getSetting(tx, stopped, &s)
		return err
	})
	return s.Time, s.Who, s.Why, err
}

// withJudge takes the judge from the tables and puts it back. It knows decisions
// that may still change and those that f could mean by their identity.
func withJudge(tx *state.Tx, now flow.Time, f func(*decide.Judge) error) error {
	c, err := readRules(tx, now)
	if err != nil {
		return err
	}
	before, err := readDecisions(tx, `SELECT body FROM ledger_decision WHERE verdict IN (?, ?, ?) ORDER BY seq`, dossier.Proposed, dossier.DryRun, dossier.Active)
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
	if is, err := getSetting(tx, stopped, &s); err != nil {
		return err
	} else if is {
		j.Stop(now, s.Who, s.Why)
	}
	if err := f(j); err != nil {
		return err
	}
	for _, x := range j.Decisions(now) {
		if known, n := knownSteps(steps, x.ID); !known || n != len(x.Steps) {
			if err := keepDecision(tx, &x); err != nil {
				return err
			}
		}
	}
	return forgetEnded(tx, c.Kept)
}

func knownSteps(steps map[string]int, id string) (bool, int) {
	n, ok := steps[id]
	return ok, n
}

func keepDecision(tx *state.Tx, x *dossier.Decision) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO ledger_decision (id, target, verdict, until, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET verdict = excluded.verdict, until = excluded.until, body = excluded.body`,
		x.ID, x.Target.String(), string(x.Verdict), int64(x.Until), b)
	return err
}

// forgetEnded drops the oldest decisions that are over, and their receipts.
func forgetEnded(tx *state.Tx, kept int) error {
	var last int64
	err := tx.QueryRow(`SELECT seq FROM ledger_decision WHERE verdict NOT IN (?, ?, ?) ORDER BY seq DESC LIMIT 1 OFFSET ?`,
		string(dossier.Proposed), string(dossier.DryRun), string(dossier.Active), kept).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM ledger_decision WHERE seq <= ? AND verdict NOT IN (?, ?, ?)`, last,
		string(dossier.Proposed), string(dossier.DryRun), string(dossier.Active)); err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM ledger_receipt WHERE decision NOT IN (SELECT id FROM ledger_decision)`)
	return err
}

func setSetting(tx *state.Tx, name string, value []byte) error {
	_, err := tx.Exec(`INSERT INTO ledger_setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

// getSetting reads a setting into value, and reports whether there is one.
func getSetting(tx *state.Tx, name string, value any) (bool, error) {
	var b []byte
	err := tx.QueryRow(`SELECT value FROM ledger_setting WHERE name = ?`, name).Scan(&b)
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
