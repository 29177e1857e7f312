package clearinghouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/roster"
)

// skew is how far the clocks of members may be from ours.
const skew = 5 * time.Minute

// Status is the outcome of submitting a report.
type Status string

// Accepted: it is on disk. Known: it was already, so nothing was done. Refused:
// see the reason.
const (
	Accepted Status = "accepted"
	Known    Status = "known"
	Refused  Status = "refused"
)

// Outcome is the clearinghouse's answer to one envelope.
type Outcome struct {
	Report dossier.ReportID
	Status Status
	Reason string
}

// row is a report on its way to the table.
type row struct {
	digest   dossier.ReportID
	pattern  dossier.PatternID
	text     string
	signer   identity.ID
	member   string
	class    string
	received flow.Time
	until    flow.Time
	body     []byte
}

// Why a report is refused, beyond what envelope and roster say.
var (
	ErrStopping = errors.New("the clearinghouse is stopping")
	ErrLife     = fmt.Errorf("an envelope of this kind holds for at most %v", reporting.MaxLife)
	ErrBudget   = errors.New("the organisation's number of reports for today is used up")
	ErrShare    = errors.New("the organisation's live reports take all the room it has; withdraw some, or wait until they lapse")
	ErrLapsed   = errors.New("the report has lapsed, or was made in the future")
)

// openEnvelope checks an envelope against the roster.
func (h *Core) openEnvelope(sealed []byte, kind string, limit int) (*envelope.Envelope, *roster.Member, error) {
	now := h.now()
	list, err := h.roster.Current(now)
	if err != nil {
		return nil, nil, err
	}
	from, err := envelope.From(sealed)
	if err != nil {
		return nil, nil, err
	}
	member, err := list.May(from, roster.Report, now) // its reason is better than "unknown signer"
	if err != nil {
		return nil, nil, err
	}
	x := envelope.Expect{Kind: kind, Now: now, Skew: skew, MaxBody: limit, Signer: list.Signer(roster.Report, now)}
	for _, x.To = range h.own {
		e, err := envelope.Open(sealed, x)
		switch {
		case errors.Is(err, envelope.ErrAudience):
			continue
		case err != nil:
			return nil, nil, err
		case e.To == identity.ID{}:
			return nil, nil, envelope.ErrAudience // what is for everybody could be carried to any clearinghouse
		case e.Expires.Sub(e.Issued) > reporting.MaxLife:
			return nil, nil, ErrLife
		}
		return e, member, nil
	}
	return nil, nil, envelope.ErrAudience
}

// checkReport makes a row of an envelope, or says why not.
func (h *Core) checkReport(sealed []byte) (row, error) {
	e, member, err := h.openEnvelope(sealed, reporting.ReportKind, dossier.MaxReport)
	if err != nil {
		return row{}, err
	}
	var r dossier.Report
	if err := r.UnmarshalBinary(e.Body); err != nil {
		return row{}, err
	}
	now := flow.FromTime(h.now())
	if r.Until <= now || r.Made > now+flow.Time(skew) {
		return row{}, ErrLapsed
	}
	if err := h.spendQuota(member.Class, int64(len(e.Body))); err != nil {
		return row{}, err
	}
	return row{
		digest: dossier.ReportIDOf(e.From, e.Body), pattern: dossier.PatternIDOf(r.Pattern), text: r.Pattern,
		signer: e.From, member: member.Name, class: member.Class, received: now, until: r.Until, body: e.Body,
	}, nil
}

// Submit takes reports, each in a signed envelope, and answers when those it
// accepts are on disk. The same report again is known and counts once.
func (h *Core) Submit(ctx context.Context, sealed [][]byte) ([]Outcome, error) {
	if len(sealed) > reporting.MaxSubmitted {
		return nil, fmt.Errorf("%d envelopes at once; at most %d", len(sealed), reporting.MaxSubmitted)
	}
	out := make([]Outcome, len(sealed))
	p := &pending{done: make(chan error, 1)}
	for i, s := range sealed {
		r, err := h.checkReport(s)
		if err != nil {
			out[i] = Outcome{Status: Refused, Reason: err.Error()}
			continue
		}
		out[i] = Outcome{Report: r.digest, Status: Known}
		p.rows, p.at = append(p.rows, r), append(p.at, i)
	}
	if len(p.rows) == 0 {
		return out, nil
	}
	if err := h.enqueue(ctx, p); err != nil {
		for i := range p.rows { // none was kept
			h.refundQuota(&p.rows[i])
		}
		return nil, err
	}
	for i, at := range p.at {
		if p.fresh[i] {
			out[at].Status = Accepted
			continue
		}
		h.refundQuota(&p.rows[i]) // it counts, and takes room, once
	}
	return out, nil
}

// refundQuota takes back what spendQuota took for a report that was not kept.
func (h *Core) refundQuota(r *row) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live[r.class] -= int64(len(r.body))
	if h.counts[r.class] > 0 { // 0 after midnight
		h.counts[r.class]--
	}
}

func (h *Core) enqueue(ctx context.Context, p *pending) error {
	select {
	case h.queue <- p:
	case <-h.stop:
		return ErrStopping
	case <-ctx.Done():
		return ctx.Err()
	}
	// Once queued it may be committed, so we wait for the truth.
	select {
	case err := <-p.done:
		return err
	case <-h.stopped:
		select {
		case err := <-p.done:
			return err
		default:
			return ErrStopping
		}
	}
}

// spendQuota takes one report from the budget of an organisation for the day, and its
// size from the organisation's share of what is kept.
func (h *Core) spendQuota(class string, size int64) error {
	today := h.now().UTC().Format(time.DateOnly)
	h.mu.Lock()
	defer h.mu.Unlock()
	if today != h.day {
		h.day, h.counts = today, map[string]int{}
	}
	switch {
	case h.counts[class] >= h.config.ReportsPerDay:
		return ErrBudget
	case h.live[class]+size > h.config.ReportBytes:
		return ErrShare
	}
	h.counts[class]++
	h.live[class] += size
	return nil
}

// countReports remembers today's budgets over a restart.
func (h *Core) countReports(ctx context.Context) error {
	now := h.now().UTC()
	h.day = now.Format(time.DateOnly)
	err := h.db.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(r *sql.Rows) error {
			var class string
			var n int
			err := r.Scan(&class, &n)
			h.counts[class] = n
			return err
		}, `SELECT class, COUNT(*) FROM clearinghouse_report WHERE received >= ? GROUP BY class`, now.Truncate(24*time.Hour).UnixNano())
	})
	return errors.Join(err, h.measureShares(ctx))
}

// measureShares adds up what each organisation's live reports take. A report that is on
// its way to the disk may be left out until the next time.
func (h *Core) measureShares(ctx context.Context) error {
	live := map[string]int64{}
	err := h.db.View(ctx, func(tx *state.Tx) error {
		clear(live)
		return tx.Each(func(r *sql.Rows) error {
			var class string
			var n int64
			err := r.Scan(&class, &n)
			live[class] = n
			return err
		}, `SELECT class, SUM(LENGTH(body)) FROM clearinghouse_report WHERE voided = 0 AND until > ? GROUP BY class`, h.now().UnixNano())
	})
	if err == nil {
		h.mu.Lock()
		h.live = live
		h.mu.Unlock()
	}
	return err
}

// Withdraw takes a report back for the member who made it, under whichever of
// its keys; found is false if the member has no such report.
func (h *Core) Withdraw(ctx context.Context, sealed []byte) (found bool, err error) {
	var w dossier.Withdrawal
	e, member, err := h.openEnvelope(sealed, reporting.WithdrawalKind, 2+32+2+dossier.MaxWhy)
	if err != nil {
		return false, err
	}
	if err := w.UnmarshalBinary(e.Body); err != nil {
		return false, err
	}
	now := h.now().UnixNano()
	err = h.db.Update(ctx, func(tx *state.Tx) error {
		var n int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM clearinghouse_report WHERE digest = ? AND member = ?`, w.Report[:], member.Name).Scan(&n); err != nil {
			return err
		}
		found = n > 0
		_, err := tx.Exec(`UPDATE clearinghouse_report SET voided = ?, why = ? WHERE digest = ? AND member = ? AND voided = 0`,
			now, "withdrawn: "+w.Why, w.Report[:], member.Name)
		return err
	})
	return found, err
}

// Refusal reports whether an error of Withdraw says that the envelope or its
// signer is at fault, not the clearinghouse.
func Refusal(err error) bool {
	for _, known := range []error{
		envelope.ErrMalformed, envelope.ErrVersion, envelope.ErrKind, envelope.ErrAudience, envelope.ErrEarly, envelope.ErrExpired,
		envelope.ErrSigner, envelope.ErrSignature, ErrLife, dossier.ErrWithdrawal,
		roster.ErrUnknown, roster.ErrRole, roster.ErrNotYet, roster.ErrLapsed, roster.ErrRevoked, roster.ErrExpired, roster.ErrNone,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
