package inquiry

import (
	"context"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"dragnet/ask/detective"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/hint"
	"dragnet/internal/state"
)

//go:embed migrations
var migrations embed.FS

// History keeps what a detective asked and the outcome. It holds patterns in
// clear text, so it must stay with the detective.
type History struct{ db *state.DB }

// OpenRecord creates the record's tables if they do not exist.
func OpenRecord(ctx context.Context, db *state.DB) (*History, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return &History{db}, db.Migrate(ctx, "ask/inquiry", steps)
}

// FirstEpoch is the epoch under which any value of a pattern was asked first, if that
// was since the given time; empty if none was. Asked again, in whatever pattern, mask
// or size of keys, a value must keep its salts, or the false matches of the two times
// could be told from the true one. Others counts the values that were asked first
// under other salts, so that no epoch serves all.
func (r *History) FirstEpoch(ctx context.Context, p *pattern.Pattern, since time.Time) (epoch string, others int, err error) {
	values, err := valuesOf(p)
	if err != nil {
		return "", 0, err
	}
	err = r.db.View(ctx, func(tx *state.Tx) error {
		epoch, others = "", 0
		first := map[string]string{} // epoch of each value
		oldest := int64(math.MaxInt64)
		for t := range values {
			var of string
			var asked int64
			err := tx.QueryRow(`SELECT epoch, asked FROM inquiry_tuple WHERE tuple = ? AND asked > ? ORDER BY asked LIMIT 1`, []byte(t), since.UnixNano()).Scan(&of, &asked)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			first[t] = of
			if asked < oldest || asked == oldest && of < epoch {
				oldest, epoch = asked, of
			}
		}
		for _, of := range first {
			if of != epoch {
				others++
			}
		}
		return nil
	})
	return epoch, others, err
}

// valuesOf names what the clues of a pattern fix: the small network of each address,
// since all masks with an address share a salt and the keys of neighbours narrow each
// other down (key.HiddenAddresses), and otherwise the tuple with its mask.
func valuesOf(p *pattern.Pattern) (map[string]bool, error) {
	out := map[string]bool{}
	for i := range p.Clues {
		for _, t := range p.Clues[i].Tuples() {
			if network, ok := t.Network(); ok {
				out["network "+network.String()] = true
				continue
			}
			b, err := t.AppendBinary(nil)
			if err != nil {
				return nil, err
			}
			out[string(b)] = true
		}
	}
	return out, nil
}

// Recorded is one inquiry of the record. Its JSON form is the command line's:
// fields are added, never changed.
type Recorded struct {
	Number int64 `json:"inquiry"`
	// Question is its ID, once it was asked: a witness's record has the same.
	Question string `json:"question"`
	Pattern  string `json:"pattern"`
	Hash     string `json:"hash"`
	Epoch    string `json:"epoch"`
	// Decoy marks a question about traffic that never happened.
	Decoy   bool       `json:"decoy"`
	Started flow.Time  `json:"started"`
	Ended   *flow.Time `json:"ended"`
	// State is such as "12 of 20 answered, 3 refused, 5 silent".
	State     string            `json:"state"`
	Witnesses []RecordedWitness `json:"witnesses,omitempty"`
	Result    *detective.Result `json:"result,omitempty"`
}

// RecordedWitness is the outcome of asking one witness.
type RecordedWitness struct {
	Name    string    `json:"name"`
	Key     string    `json:"key"`
	Status  AskStatus `json:"status"`
	Detail  string    `json:"detail,omitempty"`
	Flows   uint64    `json:"flows"`
	Answers int       `json:"answers"`
	Opened  int       `json:"opened"`
	Noted   flow.Time `json:"noted"`
}

// Begin records an inquiry about p before any witness is asked.
func (r *History) Begin(ctx context.Context, now time.Time, a Recorded, p *pattern.Pattern) (number int64, err error) {
	values, err := valuesOf(p)
	if err != nil {
		return 0, err
	}
	err = r.db.Update(ctx, func(tx *state.Tx) error {
		for t := range values {
			if _, err := tx.Exec(`INSERT INTO inquiry_tuple (tuple, epoch, asked) VALUES (?, ?, ?) ON CONFLICT (tuple, epoch) DO NOTHING`, []byte(t), a.Epoch, now.UnixNano()); err != nil {
				return err
			}
		}
		return tx.QueryRow(`INSERT INTO inquiry (question, pattern, hash, epoch, decoy, started, ended, state)
			VALUES ('', ?, ?, ?, ?, ?, 0, '') RETURNING number`,
			a.Pattern, a.Hash, a.Epoch, boolInt(a.Decoy), now.UnixNano()).Scan(&number)
	})
	return number, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Notes records changes of an inquiry's state, in order.
func (r *History) Notes(ctx context.Context, now time.Time, number int64, notes []Note) error {
	if len(notes) == 0 {
		return nil
	}
	return r.db.Update(ctx, func(tx *state.Tx) error {
		for i := range notes {
			n := &notes[i]
			var h detective.TestimonySummary
			if n.Testimony != nil {
				h = *n.Testimony
			}
			_, err := tx.Exec(`INSERT INTO inquiry_witness (inquiry, witness, pin, status, detail, flows, answers, opened, forged, spray, noted)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (inquiry, witness) DO UPDATE SET status = excluded.status, detail = excluded.detail, flows = excluded.flows,
				answers = excluded.answers, opened = excluded.opened, forged = excluded.forged, spray = excluded.spray, noted = excluded.noted`,
				number, n.Witness, n.Key.String(), string(n.Status), n.Detail, int64(h.Flows), h.Answers, h.Opened, h.Forged, boolInt(n.Spray), now.UnixNano())
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(`UPDATE inquiry SET state = ? WHERE number = ?`, notes[len(notes)-1].State, number)
		return err
	})
}

// End closes an inquiry with its result.
func (r *History) End(ctx context.Context, now time.Time, number int64, out *Summary) error {
	text, err := json.Marshal(&out.Result)
	if err != nil {
		return err
	}
	id := out.Inquiry.ID()
	return r.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.Exec(`UPDATE inquiry SET ended = ?, question = ?, result = ? WHERE number = ?`,
			now.UnixNano(), hex.EncodeToString(id[:]), text, number)
		return err
	})
}

// List gives the last inquiries, the newest first, without witnesses and
// results.
func (r *History) List(ctx context.Context, limit int) (out []Recorded, err error) {
	err = r.db.View(ctx, func(tx *state.Tx) error {
		out = nil
		return tx.Each(func(rows *sql.Rows) error {
			a, _, err := scanRecorded(rows.Scan)
			out = append(out, a)
			return err
		}, `SELECT `+columns+` FROM inquiry ORDER BY number DESC LIMIT ?`, limit)
	})
	return out, err
}

const columns = `number, question, pattern, hash, epoch, decoy, started, ended, state, result`

func scanRecorded(scan func(...any) error) (a Recorded, result []byte, err error) {
	var decoy, started, ended int64
	err = scan(&a.Number, &a.Question, &a.Pattern, &a.Hash, &a.Epoch, &decoy, &started, &ended, &a.State, &result)
	a.Decoy, a.Started = decoy != 0, flow.Time(started)
	if ended != 0 {
		end := flow.Time(ended)
		a.Ended = &end
	}
	return a, result, err
}

// Show gives one inquiry with all that is known of it, also while it is asked.
func (r *History) Show(ctx context.Context, number int64) (a Recorded, err error) {
	err = r.db.View(ctx, func(tx *state.Tx) error {
		var result []byte
		a, result, err = scanRecorded(tx.QueryRow(`SELECT `+columns+` FROM inquiry WHERE number = ?`, number).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return hint.Add(fmt.Errorf("inquiry %d not found", number), "'dragnet question status' lists those there are")
		}
		if err != nil {
			return err
		}
		if result != nil {
			if err := json.Unmarshal(result, &a.Result); err != nil {
				return fmt.Errorf("inquiry %d: %w", number, err)
			}
		}
		return tx.Each(func(rows *sql.Rows) error {
			var w RecordedWitness
			var flows, noted int64
			err := rows.Scan(&w.Name, &w.Key, &w.Status, &w.Detail, &flows, &w.Answers, &w.Opened, &noted)
			w.Flows, w.Noted = uint64(flows), flow.Time(noted)
			a.Witnesses = append(a.Witnesses, w)
			return err
		}, `SELECT witness, pin, status, detail, flows, answers, opened, noted FROM inquiry_witness WHERE inquiry = ? ORDER BY witness`, number)
	})
	return a, err
}

// flushEvery bounds how far Show lags behind a running inquiry.
const flushEvery = 200 * time.Millisecond

// Run is the function Run, with every change recorded.
func (r *History) Run(ctx context.Context, c Configuration, p *pattern.Pattern, decoy bool) (number int64, out *Summary, err error) {
	a := Recorded{Pattern: p.String(), Hash: hashText(c.Detective.Hash), Epoch: c.Detective.Epoch, Decoy: decoy}
	if number, err = r.Begin(ctx, time.Now(), a, p); err != nil {
		return 0, nil, err
	}
	if c.Earlier, err = r.earlier(ctx); err != nil {
		return number, nil, err
	}
	notes, enter := make(chan Note, 1024), make(chan error, 1)
	go func() { enter <- r.writeNotes(context.WithoutCancel(ctx), number, notes) }()
	told := c.Note
	c.Note = func(n Note) {
		notes <- n
		if told != nil {
			told(n)
		}
	}
	out, err = Run(ctx, c, p)
	close(notes)
	if err = errors.Join(err, <-enter); err != nil {
		return number, out, err
	}
	return number, out, r.End(context.WithoutCancel(ctx), time.Now(), number, out)
}

func hashText(h key.Hash) string { return fmt.Sprintf("%s/%d", h, h.Bits) }

// writeNotes enters notes as they come, several at a time; after a failure it only
// drains them.
func (r *History) writeNotes(ctx context.Context, number int64, notes <-chan Note) (err error) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var some []Note
	for open := true; open; {
		var n Note
		select {
		case n, open = <-notes:
			if open {
				some = append(some, n)
				continue
			}
		case <-tick.C:
		}
		if err == nil {
			err = r.Notes(ctx, time.Now(), number, some)
		}
		some = nil
	}
	return err
}
