package clearinghouse

import (
	"context"
	"database/sql"
	"time"

	"dragnet/flow/key"
	"dragnet/internal/state"
)

// Epoch is a UTC day with the name under which its salts are derived
// (key.OneShotSalt): the day, a point, and random letters that are unknown
// before they are published, so that keys cannot be computed ahead.
type Epoch struct {
	Day, Name string
}

// Salt is the salt of a mask in the epoch.
func (e Epoch) Salt(m key.Mask) key.Salt { return key.OneShotSalt(m, e.Name) }

// ahead is how long before its day an epoch is published, for witnesses that
// compute keys as records arrive.
const ahead = 6 * time.Hour

// Epochs lists those of the last days, the newest first, making those that are
// due: today's, and tomorrow's in the last hours of the day.
func (h *Core) Epochs(ctx context.Context, days int) (all []Epoch, err error) {
	now := h.now().UTC()
	due := []string{now.Format(time.DateOnly)}
	if next := now.Add(ahead).Format(time.DateOnly); next != due[0] {
		due = append(due, next)
	}
	oldest := now.AddDate(0, 0, -days).Format(time.DateOnly)
	read := func(tx *state.Tx) error {
		all = nil
		return tx.Each(func(r *sql.Rows) error {
			var e Epoch
			err := r.Scan(&e.Day, &e.Name)
			all = append(all, e)
			return err
		}, `SELECT day, name FROM clearinghouse_epoch WHERE day >= ? ORDER BY day DESC`, oldest)
	}
	if err := h.db.View(ctx, read); err != nil || len(all) > 0 && all[0].Day >= due[len(due)-1] {
		return all, err
	}
	err = h.db.Update(ctx, func(tx *state.Tx) error {
		for _, day := range due {
			name := day + "." + randomName()
			if _, err := tx.Exec(`INSERT INTO clearinghouse_epoch (day, name) VALUES (?, ?) ON CONFLICT (day) DO NOTHING`, day, name); err != nil {
				return err
			}
		}
		return read(tx)
	})
	return all, err
}
