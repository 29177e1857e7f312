package clearinghouse

import (
	"context"
	"database/sql"
	"strings"

	"dragnet/dossier"
	"dragnet/internal/state"
)

// pending is one submission that waits for the disk.
type pending struct {
	rows []row
	at   []int // the index of each row in the submission
	// fresh holds the new rows, once done has received nil.
	fresh []bool
	done  chan error
}

const (
	// queued bounds the submissions that wait; further ones wait to wait.
	queued = 256
	// together bounds the rows of one transaction.
	together = 4096
	// statement is how many rows one INSERT carries: 8 parameters each, of
	// SQLite's 32766.
	statement = 200
)

// commit writes what is queued until Stop, everything that waits in one
// transaction: a flush to disk costs the same for one report and for thousands.
func (h *Core) commit() {
	defer close(h.stopped)
	for {
		select {
		case first := <-h.queue:
			h.writeBatch(h.gatherBatch(first))
		case <-h.stop:
			for {
				select {
				case p := <-h.queue:
					h.writeBatch(h.gatherBatch(p))
				default:
					return
				}
			}
		}
	}
}

func (h *Core) gatherBatch(first *pending) []*pending {
	batch, n := []*pending{first}, len(first.rows)
	for n < together {
		select {
		case p := <-h.queue:
			batch, n = append(batch, p), n+len(p.rows)
		default:
			return batch
		}
	}
	return batch
}

func (h *Core) writeBatch(batch []*pending) {
	var rows []row
	for _, p := range batch {
		rows = append(rows, p.rows...)
	}
	var fresh map[dossier.ReportID]bool
	// A submitter who went away does not undo what others wait for.
	err := h.db.Update(context.Background(), func(tx *state.Tx) (err error) {
		if err = insertPatterns(tx, rows); err != nil {
			return err
		}
		fresh, err = insertReports(tx, rows)
		return err
	})
	for _, p := range batch {
		for _, r := range p.rows {
			p.fresh = append(p.fresh, fresh[r.digest])
			delete(fresh, r.digest) // the first of two copies was the new one
		}
		p.done <- err
	}
}

// insertPatterns stores those that are new.
func insertPatterns(tx *state.Tx, rows []row) error {
	seen := map[dossier.PatternID]bool{}
	for _, r := range rows {
		if seen[r.pattern] {
			continue
		}
		seen[r.pattern] = true
		if _, err := tx.Exec(`INSERT INTO clearinghouse_pattern (digest, text) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING`, r.pattern[:], r.text); err != nil {
			return err
		}
	}
	return nil
}

// insertReports adds the rows that are not there yet and returns which those are.
func insertReports(tx *state.Tx, rows []row) (map[dossier.ReportID]bool, error) {
	fresh := map[dossier.ReportID]bool{}
	for len(rows) > 0 {
		n := min(len(rows), statement)
		var text strings.Builder
		text.WriteString(`INSERT INTO clearinghouse_report (digest, pattern, signer, member, class, received, until, body, voided, why) VALUES `)
		var args []any
		for i := range rows[:n] {
			if i > 0 {
				text.WriteByte(',')
			}
			text.WriteString(`(?, ?, ?, ?, ?, ?, ?, ?, 0, '')`)
			r := &rows[i]
			args = append(args, r.digest[:], r.pattern[:], r.signer[:], r.member, r.class, int64(r.received), int64(r.until), r.body)
		}
		text.WriteString(` ON CONFLICT (digest) DO NOTHING RETURNING digest`)
		err := tx.Each(func(r *sql.Rows) error {
			var digest []byte
			if err := r.Scan(&digest); err != nil {
				return err
			}
			fresh[dossier.ReportID(digest)] = true
			return nil
		}, text.String(), args...)
		if err != nil {
			return nil, err
		}
		rows = rows[n:]
	}
	return fresh, nil
}
