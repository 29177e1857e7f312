package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dragnet/ask/witness/policy"
	"dragnet/internal/state"
)

// restoredSpan is how far back budgets are computed again from the record: longer than
// any is by default.
const restoredSpan = 48 * time.Hour

type spanOf struct {
	organisation string
	span         int64
}

// restoreBudgets computes from the record what each organisation has used, and raises
// the counters that say less: who takes from them resets no budget.
func (d *Trail) restoreBudgets(ctx context.Context) error {
	used := map[spanOf]policy.Usage{}
	err := d.db.View(ctx, func(tx *state.Tx) error {
		clear(used)
		newest := time.Time{}
		err := tx.Each(func(r *sql.Rows) error {
			var text []byte
			if err := r.Scan(&text); err != nil {
				return err
			}
			var e TrailEntry
			if err := json.Unmarshal(text, &e); err != nil {
				return nil // Verify reports it
			}
			at := e.Time.Time()
			if newest.IsZero() {
				newest = at
			}
			if newest.Sub(at) > restoredSpan {
				return errStop
			}
			e.addTo(used, at.Truncate(policy.BudgetSpan).UnixNano())
			return nil
		}, `SELECT entry FROM ask_entry ORDER BY seq DESC`)
		if errors.Is(err, errStop) {
			err = nil
		}
		return err
	})
	if err != nil || len(used) == 0 {
		return err
	}
	return d.db.Update(ctx, func(tx *state.Tx) error {
		for at, u := range used {
			if err := raiseUsage(tx, at, u); err != nil {
				return err
			}
		}
		return nil
	})
}

// addTo adds what an entry used to the sums.
func (e *TrailEntry) addTo(used map[spanOf]policy.Usage, span int64) {
	if e.Used == nil {
		return
	}
	for _, who := range []string{e.Organisation, everybody} {
		if who == everybody && !e.Used.All {
			continue
		}
		u := used[spanOf{who, span}]
		u.Questions += e.Used.Questions
		u.Keys += e.Used.Keys
		u.Addresses += e.Used.Addresses
		u.Hosts += e.Used.Hosts
		u.Bytes += e.Bytes
		used[spanOf{who, span}] = u
	}
}

// raiseUsage raises the counters of a span to at least u.
func raiseUsage(tx *state.Tx, at spanOf, u policy.Usage) error {
	set := ""
	for i, column := range []string{"questions", "keys", "bytes", "addresses", "hosts"} {
		if i > 0 {
			set += ", "
		}
		set += fmt.Sprintf("%[1]s = CASE WHEN excluded.%[1]s > ask_usage.%[1]s THEN excluded.%[1]s ELSE ask_usage.%[1]s END", column)
	}
	_, err := tx.Exec(`INSERT INTO ask_usage (organisation, span, questions, keys, bytes, addresses, hosts) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (organisation, span) DO UPDATE SET `+set,
		at.organisation, at.span, u.Questions, u.Keys, u.Bytes, u.Addresses, u.Hosts)
	return err
}
