package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

// ErrUnknown says that no finding or decision has the identifier.
var ErrUnknown = errors.New("not found")

// maxFindings bounds the findings kept, the oldest going first.
const maxFindings = 100_000

// AddFindings keeps findings and returns those that are new: the same finding
// made again replaces what is kept of it.
func (d *Ledger) AddFindings(ctx context.Context, found []dossier.Finding) (fresh []dossier.Finding, err error) {
	err = d.db.Update(ctx, func(tx *state.Tx) error {
		fresh = nil
		for i := range found {
			added, err := addFinding(tx, &found[i])
			if err != nil {
				return err
			}
			if added {
				fresh = append(fresh, found[i])
			}
		}
		_, err := tx.Exec(`DELETE FROM ledger_finding WHERE seq <= (SELECT MAX(seq) FROM ledger_finding) - ?`, maxFindings)
		return err
	})
	return fresh, err
}

func addFinding(tx *state.Tx, f *dossier.Finding) (bool, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return false, err
	}
	changed, err := tx.Exec(`UPDATE ledger_finding SET first = ?, last = ?, body = ? WHERE id = ?`, int64(f.First), int64(f.Last), b, f.ID)
	if err != nil {
		return false, err
	}
	if n, err := changed.RowsAffected(); err != nil || n > 0 {
		return false, err
	}
	_, err = tx.Exec(`INSERT INTO ledger_finding (id, detector, host, first, last, body) VALUES (?, ?, ?, ?, ?, ?)`,
		f.ID, f.Detector, f.Host.String(), int64(f.First), int64(f.Last), b)
	return err == nil, err
}

// Findings lists the latest findings first, at most most of them; host, if not
// empty, selects.
func (d *Ledger) Findings(ctx context.Context, host string, most int) ([]dossier.Finding, error) {
	return queryAll[dossier.Finding](ctx, d, `SELECT body FROM ledger_finding WHERE ? = '' OR host = ? ORDER BY last DESC, seq DESC LIMIT ?`, host, host, most)
}

// Finding is one finding by its identity.
func (d *Ledger) Finding(ctx context.Context, id string) (dossier.Finding, error) {
	return queryOne[dossier.Finding](ctx, d, `SELECT body FROM ledger_finding WHERE id = ?`, id)
}

// Decisions lists the latest decisions first, at most most of them; verdict, if not
// empty, selects.
func (d *Ledger) Decisions(ctx context.Context, verdict dossier.Verdict, most int) ([]dossier.Decision, error) {
	return queryAll[dossier.Decision](ctx, d, `SELECT body FROM ledger_decision WHERE ? = '' OR verdict = ? ORDER BY seq DESC LIMIT ?`,
		string(verdict), string(verdict), most)
}

// Count returns the number of decisions with each verdict, of those that may still
// change.
func (d *Ledger) Count(ctx context.Context) (map[dossier.Verdict]int, error) {
	count := map[dossier.Verdict]int{}
	err := d.db.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var v string
			var n int
			err := rows.Scan(&v, &n)
			count[dossier.Verdict(v)] = n
			return err
		}, `SELECT verdict, count(*) FROM ledger_decision WHERE verdict IN (?, ?, ?) GROUP BY verdict`,
			string(dossier.Proposed), string(dossier.DryRun), string(dossier.Active))
	})
	return count, err
}

// Decision is one decision by its identity.
func (d *Ledger) Decision(ctx context.Context, id string) (dossier.Decision, error) {
	return queryOne[dossier.Decision](ctx, d, `SELECT body FROM ledger_decision WHERE id = ?`, id)
}

// Since lists the decisions that may still change, and those whose end lies
// after t: what enforcement points must know to start and to end blocks.
func (d *Ledger) Since(ctx context.Context, t flow.Time) ([]dossier.Decision, error) {
	return queryAll[dossier.Decision](ctx, d, `SELECT body FROM ledger_decision WHERE verdict IN (?, ?) OR until > ? AND verdict IN (?, ?, ?) ORDER BY seq`,
		string(dossier.DryRun), string(dossier.Active), int64(t), string(dossier.Undone), string(dossier.Expired), string(dossier.Stopped))
}

// Spared lists the targets whose decisions an operator took back or refused,
// until those would have ended: they should not be proposed again automatically.
func (d *Ledger) Spared(ctx context.Context, now flow.Time) (map[netip.Prefix]bool, error) {
	all, err := queryAll[dossier.Decision](ctx, d, `SELECT body FROM ledger_decision WHERE until > ? AND verdict IN (?, ?) ORDER BY seq DESC LIMIT 1000`,
		int64(now), string(dossier.Undone), string(dossier.Refused))
	spared := map[netip.Prefix]bool{}
	for _, x := range all {
		if len(x.Steps) > 1 { // the first is the judge's own word
			spared[x.Target] = true
		}
	}
	return spared, err
}

// AddReceipts keeps the last word of each enforcement point on each decision.
func (d *Ledger) AddReceipts(ctx context.Context, receipts []dossier.Receipt) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		for i := range receipts {
			r := &receipts[i]
			b, err := json.Marshal(r)
			if err != nil {
				return err
			}
			// Ignore receipts for unknown decisions.
			if _, err := tx.Exec(`INSERT INTO ledger_receipt (decision, point, time, body)
				SELECT id, ?, ?, ? FROM ledger_decision WHERE id = ?
				ON CONFLICT (decision, point) DO UPDATE SET time = excluded.time, body = excluded.body`, r.Point, int64(r.Time), b, r.Decision); err != nil {
				return err
			}
		}
		return nil
	})
}

// Receipts lists what enforcement points last said about a decision.
func (d *Ledger) Receipts(ctx context.Context, decision string) ([]dossier.Receipt, error) {
	return queryAll[dossier.Receipt](ctx, d, `SELECT body FROM ledger_receipt WHERE decision = ? ORDER BY point`, decision)
}

func queryAll[T any](ctx context.Context, d *Ledger, query string, args ...any) ([]T, error) {
	var all []T
	err := d.db.View(ctx, func(tx *state.Tx) (err error) {
		all, err = readBodies[T](tx, query, args...)
		return err
	})
	return all, err
}

func queryOne[T any](ctx context.Context, d *Ledger, query, id string) (T, error) {
	all, err := queryAll[T](ctx, d, query, id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%q: %w", id, ErrUnknown)
	}
	if err != nil {
		var none T
		return none, err
	}
	return all[0], nil
}

func readBodies[T any](tx *state.Tx, query string, args ...any) ([]T, error) {
	var all []T
	err := tx.Each(func(rows *sql.Rows) error {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Errorf("a row is damaged: %w", err)
		}
		all = append(all, v)
		return nil
	}, query, args...)
	return all, err
}

func readDecisions(tx *state.Tx, query string, verdicts ...dossier.Verdict) ([]dossier.Decision, error) {
	args := make([]any, len(verdicts))
	for i, v := range verdicts {
		args[i] = string(v)
	}
	return readBodies[dossier.Decision](tx, query, args...)
}

// Approve lets a proposed decision take effect.
func (d *Ledger) Approve(ctx context.Context, now flow.Time, id, who string) (dossier.Decision, error) {
	return d.changeDecision(ctx, now, id, func(j *decide.Judge) (dossier.Decision, error) { return j.Approve(now, id, who) })
}

// Undo takes a decision back, or refuses a proposed one.
func (d *Ledger) Undo(ctx context.Context, now flow.Time, id, who, why string) (dossier.Decision, error) {
	return d.changeDecision(ctx, now, id, func(j *decide.Judge) (dossier.Decision, error) { return j.Undo(now, id, who, why) })
}

// changeDecision lets the judge change one decision. It is not shown those that are
// over, so what it does not know may be one of them.
func (d *Ledger) changeDecision(ctx context.Context, now flow.Time, id string, do func(*decide.Judge) (dossier.Decision, error)) (x dossier.Decision, err error) {
	err = d.Judge(ctx, now, func(j *decide.Judge) (err error) { x, err = do(j); return err })
	if !errors.Is(err, decide.ErrUnknown) {
		return x, err
	}
	over, missing := d.Decision(ctx, id)
	if missing != nil {
		return x, err
	}
	return over, fmt.Errorf("%s is %s: %w", id, over.Verdict, decide.ErrOver)
}
