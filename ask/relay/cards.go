package relay

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/wire/identity"
)

// Registrant is a witness that wants a card on the relay.
type Registrant struct {
	Key identity.ID
	// Member says that it is on the roster.
	Member bool
	// Address is where it calls from.
	Address netip.Addr
}

const (
	// silentAfter is how long a stranger may be away before its card gives way to
	// one that asks for room. A witness polls every half minute.
	silentAfter = 15 * time.Minute
	// wider is how many times PerNetwork the network around one may have.
	wider = 8
)

// Register stores a witness's contact card, which the caller has checked. Keys cost
// nothing, so strangers share what is left by members, and each network has a
// share of that. Where there is no room left, the stranger gives way that was
// silent longest, for a member also one that was not.
func (b *Mailboxes) Register(ctx context.Context, now time.Time, w Registrant, card []byte) error {
	narrow, wide := networksOf(w)
	member := 0
	if w.Member {
		member = 1
	}
	return b.db.Update(ctx, func(tx *state.Tx) error {
		var was int
		err := tx.QueryRow(`SELECT member FROM relay_card WHERE witness = ?`, w.Key[:]).Scan(&was)
		switch {
		case err == nil && was == member:
			_, err := tx.Exec(`UPDATE relay_card SET card = ?, seen = ?, heard = ? WHERE witness = ?`, card, now.UnixNano(), now.UnixNano(), w.Key[:])
			return err
		case err == nil: // it joined, or left: as if it were new
			if _, err := tx.Exec(`DELETE FROM relay_card WHERE witness = ?`, w.Key[:]); err != nil {
				return err
			}
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := b.makeRoom(tx, now, w, narrow, wide); err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO relay_card (witness, card, seen, member, network, wide, heard) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			w.Key[:], card, now.UnixNano(), member, narrow, wide, now.UnixNano())
		return err
	})
}

// networksOf are the networks that a stranger's card counts for, in text.
func networksOf(w Registrant) (narrow, wide string) {
	if w.Member || !w.Address.IsValid() {
		return "", ""
	}
	return flow.NetworkOf(w.Address, 24, 48).String(), flow.NetworkOf(w.Address, 16, 32).String()
}

// makeRoom deletes a card where a share is used up, or fails.
func (b *Mailboxes) makeRoom(tx *state.Tx, now time.Time, w Registrant, narrow, wide string) error {
	silent := now.Add(-silentAfter).UnixNano()
	shares := []share{{`member = 0 AND network = ?`, []any{narrow}, b.config.PerNetwork, silent}, {`member = 0 AND wide = ?`, []any{wide}, wider * b.config.PerNetwork, silent}, {`member = 0`, nil, b.config.Strangers, silent}}
	if w.Member {
		shares = nil
	}
	last := share{`1 = 1`, nil, b.config.Witnesses, silent}
	if w.Member {
		last.heardBefore = now.UnixNano() + 1
	}
	for _, s := range append(shares, last) {
		if err := s.leaveOne(tx); err != nil {
			return err
		}
	}
	return nil
}

// share is a set of cards and how many it may have. A stranger's among them gives
// way if it was not heard since heardBefore.
type share struct {
	where       string
	args        []any
	most        int
	heardBefore int64
}

func (s *share) leaveOne(tx *state.Tx) error {
	var n int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM relay_card WHERE `+s.where, s.args...).Scan(&n); err != nil || n < s.most {
		return err
	}
	tooMany := n - s.most + 1 // more than one where the share was made smaller
	done, err := tx.Exec(`DELETE FROM relay_card WHERE witness IN (SELECT witness FROM relay_card WHERE `+s.where+` AND member = 0 AND heard < ? ORDER BY heard, witness LIMIT ?)`,
		append(append([]any{}, s.args...), s.heardBefore, tooMany)...)
	if err != nil {
		return err
	}
	if gone, err := done.RowsAffected(); err != nil || int(gone) < tooMany {
		return errors.Join(err, ErrFull)
	}
	return nil
}

// noteHeard notes which witnesses polled, so that their cards do not give way.
func (b *Mailboxes) noteHeard(ctx context.Context, heard map[identity.ID]time.Time) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		for id, at := range heard {
			if _, err := tx.Exec(`UPDATE relay_card SET heard = ? WHERE witness = ?`, at.UnixNano(), id[:]); err != nil {
				return err
			}
		}
		return nil
	})
}
