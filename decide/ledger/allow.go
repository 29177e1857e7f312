package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

// maxAllowances bounds the entries of the allow list beside the configuration's.
const maxAllowances = 10_000

// ErrConfigured says that an entry of the allow list is not ours to remove.
var ErrConfigured = errors.New("is in the configuration (decide.allow); remove it there and reload")

// AddAllowance adds an entry to the allow list, or replaces the one with the same
// prefix, and returns the decisions that it ended.
func (d *Ledger) AddAllowance(ctx context.Context, now flow.Time, a dossier.Allowance) (ended []dossier.Decision, err error) {
	if a.Prefix = a.Prefix.Masked(); !a.Prefix.IsValid() || a.Who == "" || a.Why == "" {
		return nil, errors.New("an entry of the allow list needs a prefix, who adds it, and why")
	}
	if a.HasEnded(now) {
		return nil, fmt.Errorf("%s: the end, %s, is over", a.Prefix, a.Until)
	}
	a.Version, a.Since = dossier.AllowanceVersion, now
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	err = d.db.Update(ctx, func(tx *state.Tx) error {
		ended = nil
		if _, err := tx.Exec(`DELETE FROM ledger_allow WHERE until > 0 AND until <= ?`, int64(now)); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO ledger_allow (prefix, until, body) VALUES (?, ?, ?)
			ON CONFLICT (prefix) DO UPDATE SET until = excluded.until, body = excluded.body`, a.Prefix.String(), int64(a.Until), b)
		if err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(`SELECT count(*) FROM ledger_allow`).Scan(&n); err != nil {
			return err
		}
		if n > maxAllowances {
			return fmt.Errorf("the allow list has %d entries already; remove some, or name larger prefixes", maxAllowances)
		}
		return withJudge(tx, now, func(j *decide.Judge) error {
			before := j.Decisions(now)
			if err := j.Configure(now, j.Rules(), a.Who); err != nil {
				return err
			}
			for i, x := range j.Decisions(now) {
				if len(x.Steps) != len(before[i].Steps) {
					ended = append(ended, x)
				}
			}
			return nil
		})
	})
	return ended, err
}

// RemoveAllowance removes an entry from the allow list, and returns it. Decisions
// that it ended stay undone.
func (d *Ledger) RemoveAllowance(ctx context.Context, now flow.Time, prefix netip.Prefix) (a dossier.Allowance, err error) {
	err = d.db.Update(ctx, func(tx *state.Tx) error {
		all, err := readBodies[dossier.Allowance](tx, `SELECT body FROM ledger_allow WHERE prefix = ?`, prefix.Masked().String())
		if err != nil {
			return err
		}
		if len(all) == 0 {
			c, err := readConfigured(tx)
			if err != nil {
				return err
			}
			if slices.Contains(c.Allow, prefix.Masked()) {
				return fmt.Errorf("%s %w", prefix, ErrConfigured)
			}
			return fmt.Errorf("%s on the allow list: %w", prefix, ErrUnknown)
		}
		a = all[0]
		_, err = tx.Exec(`DELETE FROM ledger_allow WHERE prefix = ?`, a.Prefix.String())
		return err
	})
	return a, err
}

// Allowances lists the allow list in force: the configuration's entries, then those
// added, in order of their prefixes.
func (d *Ledger) Allowances(ctx context.Context, now flow.Time) (all []dossier.Allowance, err error) {
	err = d.db.View(ctx, func(tx *state.Tx) error {
		c, err := readConfigured(tx)
		if err != nil {
			return err
		}
		all = nil
		for _, p := range c.Allow {
			all = append(all, dossier.Allowance{Version: dossier.AllowanceVersion, Prefix: p, Who: "configuration", Why: "decide.allow", Configured: true})
		}
		added, err := readAllowances(tx, now)
		all = append(all, added...)
		return err
	})
	return all, err
}

func readAllowances(tx *state.Tx, now flow.Time) ([]dossier.Allowance, error) {
	all, err := readBodies[dossier.Allowance](tx, `SELECT body FROM ledger_allow WHERE until = 0 OR until > ?`, int64(now))
	slices.SortFunc(all, func(a, b dossier.Allowance) int { return a.Prefix.Compare(b.Prefix) })
	return all, err
}

// readConfigured returns the rules of the configuration.
func readConfigured(tx *state.Tx) (decide.Configuration, error) {
	c := decide.DefaultConfiguration()
	_, err := getSetting(tx, rules, &c)
	return c, err
}

// readRules returns the rules of the judge: the configuration's, with the entries
// that were added to the allow list.
func readRules(tx *state.Tx, now flow.Time) (decide.Configuration, error) {
	c, err := readConfigured(tx)
	if err != nil {
		return c, err
	}
	added, err := readAllowances(tx, now)
	for _, a := range added {
		c.Allow = append(c.Allow, a.Prefix)
	}
	return c, err
}
