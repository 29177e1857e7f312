package inquiry

import (
	"context"
	"database/sql"

	"dragnet/ask/detective"
	"dragnet/internal/state"
	"dragnet/wire/identity"
)

// Honesty is how one witness has behaved so far. Its JSON form is the command
// line's: fields are added, never changed.
type Honesty struct {
	Name string `json:"name"`
	Key  string `json:"key"`
	// Asked counts questions, decoys included; what follows is what became of
	// them.
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
	Refused  int `json:"refused"`
	// Missing were silent, unreachable, denied or broken.
	Missing int `json:"missing"`
	// Forged and Replayed answers were not what they claimed to be.
	Forged   int `json:"forged"`
	Replayed int `json:"replayed"`
	// Decoys it answered, and those of which something opened: lies.
	Decoys int `json:"decoys"`
	Lies   int `json:"lies"`
	// Sprays are testimonies with far more answers than an honest witness would give.
	Sprays int `json:"sprays"`
}

// Honest reports whether nothing speaks against the witness.
func (h *Honesty) Honest() bool {
	return h.Forged == 0 && h.Replayed == 0 && h.Lies == 0 && h.Sprays == 0
}

// Honesty summarises the record by witness key.
func (r *History) Honesty(ctx context.Context) (out []Honesty, err error) {
	err = r.db.View(ctx, func(tx *state.Tx) error {
		out = nil
		return tx.Each(func(rows *sql.Rows) error {
			var h Honesty
			err := rows.Scan(&h.Name, &h.Key, &h.Asked, &h.Answered, &h.Refused, &h.Missing, &h.Forged, &h.Replayed, &h.Decoys, &h.Lies, &h.Sprays)
			out = append(out, h)
			return err
		}, `SELECT MAX(a.witness), a.pin, COUNT(*),
			SUM(CASE WHEN a.status = 'answered' THEN 1 ELSE 0 END),
			SUM(CASE WHEN a.status = 'refused' THEN 1 ELSE 0 END),
			SUM(CASE WHEN a.status IN ('silent', 'unreachable', 'denied', 'broken') THEN 1 ELSE 0 END),
			SUM(CASE WHEN a.status = 'forged' OR a.forged > 0 THEN 1 ELSE 0 END),
			SUM(CASE WHEN a.status = 'replayed' THEN 1 ELSE 0 END),
			SUM(CASE WHEN i.decoy <> 0 AND a.status = 'answered' THEN 1 ELSE 0 END),
			SUM(CASE WHEN i.decoy <> 0 AND a.opened > 0 THEN 1 ELSE 0 END),
			SUM(a.spray)
			FROM inquiry_witness a JOIN inquiry i ON i.number = a.inquiry
			WHERE a.status <> 'waiting' GROUP BY a.pin ORDER BY 1`)
	})
	return out, err
}

// earlier is what each witness said before, where it did not spray.
func (r *History) earlier(ctx context.Context) (out map[identity.Public]detective.Earlier, err error) {
	err = r.db.View(ctx, func(tx *state.Tx) error {
		out = map[identity.Public]detective.Earlier{}
		return tx.Each(func(rows *sql.Rows) error {
			var pin string
			var n, flows int64
			if err := rows.Scan(&pin, &n, &flows); err != nil {
				return err
			}
			key, err := identity.ParsePublic(pin)
			out[key] = detective.Earlier{Inquiries: int(n), Flows: uint64(flows)}
			return err
		}, `SELECT pin, COUNT(*), MAX(flows) FROM inquiry_witness WHERE status = 'answered' AND spray = 0 GROUP BY pin`)
	})
	return out, err
}
