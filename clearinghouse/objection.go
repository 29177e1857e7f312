package clearinghouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

// Objection is a claim that a network is listed wrongly.
// Anybody may object; until the operator has answered, it changes nothing.
type Objection struct {
	Name     string         `json:"objection"`
	Prefix   netip.Prefix   `json:"prefix"`
	Reason   string         `json:"reason"`
	Contact  string         `json:"contact"`
	Received flow.Time      `json:"received"`
	State    ObjectionState `json:"state"`
	// Until is how long nothing of the prefix is published, once upheld.
	Until flow.Time `json:"until"`
	// Answer is the operator's reason.
	Answer string `json:"answer"`
}

// ObjectionState is the state of an objection.
type ObjectionState string

// The states.
const (
	Open     ObjectionState = "open"
	Upheld   ObjectionState = "upheld"
	Rejected ObjectionState = "rejected"
)

// Bounds of an objection.
const (
	maxContact = 200
	// A prefix shorter than this does not belong to one owner.
	shortest4, shortest6 = 16, 32
)

// Why an objection is not taken.
var (
	ErrObjection   = errors.New("objection")
	ErrCrowded     = errors.New("too many objections wait for an answer; try again later, or write to the operator")
	ErrNoObjection = errors.New("no open objection has this name")
)

// CheckObjection says what is wrong with an objection.
func CheckObjection(prefix netip.Prefix, reason, contact string) error {
	shortest := shortest4
	if prefix.Addr().Is6() {
		shortest = shortest6
	}
	switch {
	case !prefix.IsValid() || prefix != prefix.Masked() || prefix.Bits() < shortest:
		return fmt.Errorf("%w: want an address, or a prefix of at least %d (IPv6: %d) bits", ErrObjection, shortest4, shortest6)
	case reason == "" || len(reason) > dossier.MaxWhy || len(contact) > maxContact:
		return fmt.Errorf("%w: want a reason of 1 to %d bytes, and at most %d bytes of how to reach you", ErrObjection, dossier.MaxWhy, maxContact)
	}
	return nil
}

// Object files an objection that comes from a network and names it. One network has
// at most one open objection about a prefix; filing it again gives the same name. It has a
// tenth of those that may be open, so that one that files many does not keep others out.
func (h *Core) Object(ctx context.Context, prefix netip.Prefix, reason, contact, network string) (name string, err error) {
	if err := CheckObjection(prefix, reason, contact); err != nil {
		return "", err
	}
	err = h.db.Update(ctx, func(tx *state.Tx) error {
		err := tx.QueryRow(`SELECT name FROM clearinghouse_objection WHERE prefix = ? AND network = ? AND state = 'open'`, prefix.String(), network).Scan(&name)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var open, same int
		if err := tx.QueryRow(`SELECT COUNT(*), COALESCE(SUM(CASE WHEN network = ? THEN 1 ELSE 0 END), 0) FROM clearinghouse_objection WHERE state = 'open'`, network).Scan(&open, &same); err != nil {
			return err
		}
		if open >= h.config.OpenObjections || same >= max(h.config.OpenObjections/10, 1) {
			return ErrCrowded
		}
		name = randomName()
		_, err = tx.Exec(`INSERT INTO clearinghouse_objection (name, prefix, reason, contact, network, received, state, until, answer) VALUES (?, ?, ?, ?, ?, ?, 'open', 0, '')`,
			name, prefix.String(), reason, contact, network, h.now().UnixNano())
		return err
	})
	return name, err
}

// Answer upholds an objection until a time, or rejects it when that is zero.
// The next batch follows.
func (h *Core) Answer(ctx context.Context, name string, until time.Time, why string) error {
	verdict, end := Rejected, int64(0)
	if !until.IsZero() {
		verdict, end = Upheld, until.UnixNano()
	}
	return h.db.Update(ctx, func(tx *state.Tx) error {
		r, err := tx.Exec(`UPDATE clearinghouse_objection SET state = ?, until = ?, answer = ?, network = '' WHERE name = ? AND state = 'open'`, string(verdict), end, why, name)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNoObjection)
		}
		return nil
	})
}

// Objections lists those kept, the oldest first.
func (h *Core) Objections(ctx context.Context) (all []Objection, err error) {
	err = h.db.View(ctx, func(tx *state.Tx) error {
		all = nil
		return tx.Each(func(r *sql.Rows) error {
			var o Objection
			var prefix string
			err := r.Scan(&o.Name, &prefix, &o.Reason, &o.Contact, (*int64)(&o.Received), (*string)(&o.State), (*int64)(&o.Until), &o.Answer)
			if err == nil {
				o.Prefix, err = netip.ParsePrefix(prefix)
			}
			all = append(all, o)
			return err
		}, `SELECT name, prefix, reason, contact, received, state, until, answer FROM clearinghouse_objection ORDER BY received, name`)
	})
	return all, err
}

// exemptPrefixes are the networks of which nothing is published now.
func (h *Core) exemptPrefixes(tx *state.Tx, now flow.Time) ([]netip.Prefix, error) {
	out := slices.Clone(h.config.Never)
	err := tx.Each(func(r *sql.Rows) error {
		var text string
		if err := r.Scan(&text); err != nil {
			return err
		}
		p, err := netip.ParsePrefix(text)
		out = append(out, p)
		return err
	}, `SELECT prefix FROM clearinghouse_objection WHERE state = 'upheld' AND until > ?`, int64(now))
	return out, err
}
