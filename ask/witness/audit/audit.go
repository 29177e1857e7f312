// Package audit records who asked a witness what: it rejects replayed questions,
// gives the policy its history, and writes a record that the operator can read
// and verify. What Begin or Finish acknowledged survives a crash.
//
// The record is a chain: every entry is hashed together with the hash of the
// one before it, so that no entry can be changed, removed or put in between
// without changing the last hash, which the operator may keep elsewhere. And it is a
// Merkle tree, whose head others sign when they are shown that it continues the one
// before (package treehead): what they have seen cannot be rewritten unnoticed.
package audit

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

//go:embed migrations
var migrations embed.FS

// Trail is the audit trail of a witness in a control state. It is safe for concurrent
// use.
type Trail struct{ db *state.DB }

// Open creates the log's tables if they do not exist.
func Open(ctx context.Context, db *state.DB) (*Trail, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	d := &Trail{db}
	if err := db.Migrate(ctx, "ask/witness", steps); err != nil {
		return nil, err
	}
	return d, errors.Join(d.fillTree(ctx), d.restoreBudgets(ctx))
}

// VerifiedQuestion is a question whose envelope was verified.
type VerifiedQuestion struct {
	Asker policy.Asker
	// Nonce and Expires are the envelope's.
	Nonce    [16]byte
	Expires  time.Time
	ID       dossier.QuestionID
	Question *dossier.Question
	// Via is the way it came: "direct", or the name of a relay.
	Via string
	// Epochs are those that the community publishes (policy.History).
	Epochs map[string]string
}

// Admitted is a question that was recorded.
type Admitted struct {
	Number  int64
	Verdict policy.Ruling
	asked   VerifiedQuestion
}

// ErrReplayed says that the envelope was answered before.
var ErrReplayed = errors.New("this envelope was answered already; ask again in a new one")

// ErrFlood says that a detective kept asking long after its budget was used up.
// Its questions are no longer recorded, or the log would grow without bound.
var ErrFlood = errors.New("asked far beyond the budget; wait until the budget's period is over")

// floodFactor times the budget of questions are recorded, refused or not.
const floodFactor = 2

// maxAttempts bounds how often a question is started again whose answer was not
// finished because the witness or the connection failed.
const maxAttempts = 3

// Begin records a question and judges it by the history. A question that was
// started and never finished is resumed under its first ruling and is not
// counted twice; for one that was finished the error is ErrReplayed.
func (d *Trail) Begin(ctx context.Context, now time.Time, rules *policy.Rules, a VerifiedQuestion) (c Admitted, err error) {
	err = d.db.Update(ctx, func(tx *state.Tx) error {
		c = Admitted{asked: a}
		known, err := d.resumeCase(tx, &c)
		if err != nil || known {
			return err
		}
		h, err := readHistory(tx, now, rules, &a)
		if err != nil {
			return err
		}
		if h.Own.Questions >= floodFactor*rules.PerOrganisation.Questions {
			return ErrFlood
		}
		h.Epochs = a.Epochs
		c.Verdict = rules.Judge(now, a.Asker, a.Question, h)
		if err := insertCase(tx, now, rules, &c); err != nil {
			return err
		}
		u := questionUsage(&c)
		if err := addUsage(tx, now, &c, u); err != nil {
			return err
		}
		e := a.entry(now, c.Number, "asked", c.Verdict)
		e.Used = &UsedBudget{Questions: u.Questions, Keys: u.Keys, Addresses: u.Addresses, All: c.Verdict.Refusal == dossier.Answered}
		return appendEntry(tx, e)
	})
	return c, err
}

// resumeCase looks the envelope up.
func (d *Trail) resumeCase(tx *state.Tx, c *Admitted) (known bool, err error) {
	var question []byte
	var closed, attempts int64
	err = tx.QueryRow(`SELECT number, question, refusal, reason, attempts, closed FROM ask_case WHERE asker = ? AND nonce = ?`,
		c.asked.Asker.ID, c.asked.Nonce[:]).Scan(&c.Number, &question, &c.Verdict.Refusal, &c.Verdict.Reason, &attempts, &closed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case closed != 0, attempts >= maxAttempts, string(question) != string(c.asked.ID[:]):
		return false, ErrReplayed
	}
	_, err = tx.Exec(`UPDATE ask_case SET attempts = attempts + 1 WHERE number = ?`, c.Number)
	return true, err
}

func readHistory(tx *state.Tx, now time.Time, rules *policy.Rules, a *VerifiedQuestion) (h policy.History, err error) {
	if err := readUsage(tx, now, rules, a.Asker.Class, &h); err != nil || rules.Independent < 2 {
		return h, err
	}
	h.Others, err = countOthers(tx, now, rules, a)
	return h, err
}

// everybody is the organisation under which the usage of all is counted.
const everybody = "*"

func readUsage(tx *state.Tx, now time.Time, rules *policy.Rules, organisation string, h *policy.History) error {
	since := now.Add(-rules.BudgetWithin - policy.BudgetSpan).UnixNano()
	for who, u := range map[string]*policy.Usage{organisation: &h.Own, everybody: &h.All} {
		err := tx.QueryRow(`SELECT COALESCE(SUM(questions), 0), COALESCE(SUM(keys), 0), COALESCE(SUM(bytes), 0), COALESCE(SUM(addresses), 0), COALESCE(SUM(hosts), 0)
			FROM ask_usage WHERE organisation = ? AND span > ?`, who, since).Scan(&u.Questions, &u.Keys, &u.Bytes, &u.Addresses, &u.Hosts)
		if err != nil {
			return err
		}
	}
	return nil
}

// questionUsage is what a question counts when it is asked; nothing is evaluated
// for one that is refused.
func questionUsage(c *Admitted) policy.Usage {
	u := policy.Usage{Questions: 1}
	if c.Verdict.Refusal == dossier.Answered {
		u.Keys, u.Addresses = policy.Keys(c.asked.Question), policy.Addresses(c.asked.Question)
	}
	return u
}

// addUsage counts for the asker's organisation, and for all unless the question
// was refused: refused questions must not use up what others may ask.
func addUsage(tx *state.Tx, now time.Time, c *Admitted, u policy.Usage) error {
	span := now.Truncate(policy.BudgetSpan).UnixNano()
	for _, who := range []string{c.asked.Asker.Class, everybody} {
		if who == everybody && c.Verdict.Refusal != dossier.Answered {
			continue
		}
		_, err := tx.Exec(`INSERT INTO ask_usage (organisation, span, questions, keys, bytes, addresses, hosts) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (organisation, span) DO UPDATE SET questions = ask_usage.questions + excluded.questions, keys = ask_usage.keys + excluded.keys,
			bytes = ask_usage.bytes + excluded.bytes, addresses = ask_usage.addresses + excluded.addresses, hosts = ask_usage.hosts + excluded.hosts`,
			who, span, u.Questions, u.Keys, u.Bytes, u.Addresses, u.Hosts)
		if err != nil {
			return err
		}
	}
	return nil
}

// countOthers counts the other organisations that asked for all that a may open.
func countOthers(tx *state.Tx, now time.Time, rules *policy.Rules, a *VerifiedQuestion) (int, error) {
	mine := rules.DescribeAsked(a.Question)
	from, to := windowEnds(a.Question.Window)
	others := map[string]bool{}
	err := tx.Each(func(r *sql.Rows) error {
		theirs := policy.Asked{Same: mine.Same}
		var organisation string
		if err := r.Scan(&organisation, &theirs.Bits, &theirs.Keys); err != nil {
			return err
		}
		if mine.Within(theirs) {
			others[organisation] = true
		}
		return nil
	}, `SELECT organisation, bits, asked_keys FROM ask_case
		WHERE fingerprint = ? AND asked > ? AND organisation <> ? AND window_from <= ? AND window_to >= ? AND refusal IN (?, ?)`,
		mine.Same[:], now.Add(-rules.IndependentWithin).UnixNano(), a.Asker.Class, from, to,
		int64(dossier.Answered), int64(dossier.AwaitingOthers))
	return len(others), err
}

// windowEnds writes an open end as the end of time.
func windowEnds(w flow.Window) (from, to int64) {
	if w.To == 0 {
		return int64(w.From), int64(flow.MaxTime)
	}
	return int64(w.From), int64(w.To)
}

func insertCase(tx *state.Tx, now time.Time, rules *policy.Rules, c *Admitted) error {
	a := &c.asked
	same := rules.DescribeAsked(a.Question)
	from, to := windowEnds(a.Question.Window)
	keys := policy.Keys(a.Question)
	if c.Verdict.Refusal != dossier.Answered {
		keys = 0 // nothing was evaluated for it
	}
	return tx.QueryRow(`INSERT INTO ask_case (asker, organisation, nonce, question, fingerprint, bits, asked_keys, window_from, window_to,
		asked, expires, keys, bytes, refusal, reason, attempts, closed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 1, 0) RETURNING number`,
		a.Asker.ID, a.Asker.Class, a.Nonce[:], a.ID[:], same.Same[:], int64(same.Bits), same.Keys, from, to,
		now.UnixNano(), a.Expires.UnixNano(), keys, int64(c.Verdict.Refusal), c.Verdict.Reason).Scan(&c.Number)
}

// ChargeHosts counts the hosts that the answer to a case names, before it leaves, or
// refuses it if the budget does not suffice. Asked again for a case that was resumed,
// it counts only what is new.
func (d *Trail) ChargeHosts(ctx context.Context, now time.Time, rules *policy.Rules, c *Admitted, hosts int) (dossier.Refusal, error) {
	var ruling policy.Ruling
	err := d.db.Update(ctx, func(tx *state.Tx) error {
		var charged int
		if err := tx.QueryRow(`SELECT hosts FROM ask_case WHERE number = ?`, c.Number).Scan(&charged); err != nil {
			return err
		}
		more := max(hosts-charged, 0)
		var h policy.History
		if err := readUsage(tx, now, rules, c.asked.Asker.Class, &h); err != nil {
			return err
		}
		if ruling = rules.JudgeHosts(more, h); ruling.Refusal != dossier.Answered {
			return nil
		}
		if _, err := tx.Exec(`UPDATE ask_case SET hosts = ? WHERE number = ?`, charged+more, c.Number); err != nil {
			return err
		}
		return addUsage(tx, now, c, policy.Usage{Hosts: more})
	})
	if ruling.Refusal != dossier.Answered {
		c.Verdict.Reason = ruling.Reason // for the record; the verdict on asking was another
	}
	return ruling.Refusal, err
}

// Settlement is the outcome of a question.
type Settlement struct {
	// Refusal is the reason given to the asker.
	Refusal dossier.Refusal
	// Answers is the number of sealed answers, Bytes the size of the testimony.
	Answers int
	Bytes   int64
	// Flows is how many flows were looked at.
	Flows uint64
}

// Finish closes a case: from here on its envelope is a replay.
func (d *Trail) Finish(ctx context.Context, now time.Time, c Admitted, o Settlement) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		done, err := tx.Exec(`UPDATE ask_case SET closed = ?, bytes = ? WHERE number = ? AND closed = 0`, now.UnixNano(), o.Bytes, c.Number)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("case %d: %w", c.Number, ErrReplayed))
		}
		if err := addUsage(tx, now, &c, policy.Usage{Bytes: o.Bytes}); err != nil {
			return err
		}
		event := "answered"
		if o.Refusal != dossier.Answered {
			event = "refused"
		}
		e := c.asked.entry(now, c.Number, event, policy.Ruling{Refusal: o.Refusal, Reason: c.Verdict.Reason})
		e.Answers, e.Bytes, e.Flows = o.Answers, o.Bytes, o.Flows
		e.Used = &UsedBudget{All: c.Verdict.Refusal == dossier.Answered}
		if err := tx.QueryRow(`SELECT hosts FROM ask_case WHERE number = ?`, c.Number).Scan(&e.Used.Hosts); err != nil {
			return err
		}
		return appendEntry(tx, e)
	})
}

// late is how long after its expiry an envelope is remembered, since clocks
// differ.
const late = time.Hour

// Forget deletes history that no rule needs any more; the record stays whole.
func (d *Trail) Forget(ctx context.Context, now time.Time, rules *policy.Rules) error {
	before := now.Add(-max(rules.BudgetWithin, rules.IndependentWithin)).UnixNano()
	return d.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Exec(`DELETE FROM ask_usage WHERE span < ?`, now.Add(-rules.BudgetWithin-2*policy.BudgetSpan).UnixNano()); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM ask_case WHERE asked < ? AND expires < ?`, before, now.Add(-late).UnixNano())
		return err
	})
}
