package clearinghouse

import (
	"context"
	"database/sql"
	"encoding/json"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

// Snapshot reads all that is published now, as of one moment: the sequence
// number of the last change, the entries in order of hosts, and the groups.
func (h *Core) Snapshot(ctx context.Context) (sequence int64, entries []dossier.Entry, groups []dossier.Group, err error) {
	err = h.db.View(ctx, func(tx *state.Tx) error {
		entries, groups = nil, nil
		if err := tx.QueryRow(`SELECT COALESCE(MAX(id), 0) FROM clearinghouse_change`).Scan(&sequence); err != nil {
			return err
		}
		err := tx.Each(func(r *sql.Rows) error {
			e, err := scanEntry(r)
			entries = append(entries, e)
			return err
		}, `SELECT `+entryColumns+` FROM clearinghouse_entry WHERE until > ? ORDER BY host, grp`, h.now().UnixNano())
		if err != nil {
			return err
		}
		return tx.Each(func(r *sql.Rows) error {
			g, err := scanGroup(r)
			groups = append(groups, g)
			return err
		}, `SELECT document FROM clearinghouse_group ORDER BY name`)
	})
	return sequence, entries, groups, err
}

// ChangesSince gives what was published after a change, in batches that are not
// older than since, the oldest first.
func (h *Core) ChangesSince(ctx context.Context, after int64, since flow.Time, limit int) (page []dossier.Change, err error) {
	err = h.db.View(ctx, func(tx *state.Tx) error {
		page = nil
		return tx.Each(func(r *sql.Rows) error {
			c, err := scanChange(r)
			page = append(page, c)
			return err
		}, `SELECT id, time, kind, entry FROM clearinghouse_change WHERE id > ? AND time >= ? ORDER BY id LIMIT ?`, after, int64(since), clampLimit(limit))
	})
	return page, err
}

func scanChange(r *sql.Rows) (dossier.Change, error) {
	c := dossier.Change{Version: dossier.ChangeVersion}
	var document string
	err := r.Scan(&c.Sequence, (*int64)(&c.Time), (*string)(&c.Kind), &document)
	if err == nil {
		err = json.Unmarshal([]byte(document), &c.Entry)
	}
	return c, err
}
