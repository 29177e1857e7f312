package clearinghouse

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// Invitation lets the holder of its secret ask for membership, under one key. It
// admits no member: the operator compares fingerprints and signs a roster.
type Invitation struct {
	Member  string
	Class   string
	Roles   roster.Role
	AS      []uint32
	Expires time.Time
	State   InvitationState
	// Public is the key that asked; zero if none did.
	Public identity.Public
	// Others counts the requests under other keys, which were refused: more than one
	// has the link.
	Others int
}

// InvitationState is what became of an invitation.
type InvitationState string

// The states.
const (
	InvitationOpen      InvitationState = "open"
	InvitationWaiting   InvitationState = "waiting" // for the operator
	InvitationAdmitted  InvitationState = "admitted"
	InvitationWithdrawn InvitationState = "withdrawn"
)

// ErrInvitation says that an invitation does not admit a key.
var ErrInvitation = errors.New("invitation")

var errUninvited = fmt.Errorf("%w: not known here; ask the operator for a new one", ErrInvitation)

// Invite makes an invitation, and withdraws those before for the same member that
// were not used. The secret is kept nowhere else.
func (h *Core) Invite(ctx context.Context, i Invitation) (secret [16]byte, err error) {
	rand.Read(secret[:]) // never fails
	digest := digestSecret(secret)
	numbers, err := json.Marshal(i.AS)
	if err != nil {
		return secret, err
	}
	now := h.now()
	return secret, h.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Exec(`UPDATE clearinghouse_invitation SET state = ? WHERE member = ? AND state IN (?, ?)`,
			string(InvitationWithdrawn), i.Member, string(InvitationOpen), string(InvitationWaiting)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM clearinghouse_invitation WHERE expires < ?`, now.AddDate(-1, 0, 0).UnixNano()); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO clearinghouse_invitation (digest, member, class, roles, numbers, made, expires, state, shown, others) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)`,
			digest[:], i.Member, i.Class, int64(i.Roles), string(numbers), now.UnixNano(), i.Expires.UnixNano(), string(InvitationOpen))
		return err
	})
}

// digestSecret is what is stored: who reads the database cannot join.
func digestSecret(secret [16]byte) [32]byte {
	return sha256.Sum256(append([]byte("dragnet invitation 1\x00"), secret[:]...))
}

// Join notes that the holder of a key shows an invitation, and says what became of
// it. An invitation serves the first key that shows it: a copy of a link that was used
// is worth nothing, and if a thief was first, the fingerprints differ.
func (h *Core) Join(ctx context.Context, secret [16]byte, key identity.Public) (member string, is InvitationState, err error) {
	digest, now := digestSecret(secret), h.now()
	// What a stranger makes up must not cost a transaction that writes.
	var there int
	if err := h.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM clearinghouse_invitation WHERE digest = ?`, digest[:]).Scan(&there)
	}); err != nil {
		return "", "", err
	}
	if there == 0 {
		return "", "", errUninvited
	}
	other := false
	err = h.db.Update(ctx, func(tx *state.Tx) error {
		other = false
		var public []byte
		var expires int64
		err := tx.QueryRow(`SELECT member, state, public, expires FROM clearinghouse_invitation WHERE digest = ?`, digest[:]).Scan(&member, (*string)(&is), &public, &expires)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errUninvited
		case err != nil:
			return err
		case is == InvitationWithdrawn:
			return fmt.Errorf("%w: the operator withdrew it", ErrInvitation)
		case is == InvitationOpen && now.UnixNano() >= expires:
			return fmt.Errorf("%w: it has lapsed; ask the operator for a new one", ErrInvitation)
		case is == InvitationOpen:
			is = InvitationWaiting
			_, err := tx.Exec(`UPDATE clearinghouse_invitation SET state = ?, public = ?, shown = ? WHERE digest = ?`, string(is), key.Bytes(), now.UnixNano(), digest[:])
			return err
		case string(public) != string(key.Bytes()):
			other = true
			_, err := tx.Exec(`UPDATE clearinghouse_invitation SET others = others + 1 WHERE digest = ?`, digest[:])
			return err
		}
		return nil
	})
	if err == nil && other {
		err = fmt.Errorf("%w: another key has used it; tell the operator, who may have let somebody else in", ErrInvitation)
	}
	return member, is, err
}

// Invitations lists those of the last year, the oldest first.
func (h *Core) Invitations(ctx context.Context) (all []Invitation, err error) {
	err = h.db.View(ctx, func(tx *state.Tx) error {
		all = nil
		return tx.Each(func(r *sql.Rows) error {
			var i Invitation
			var numbers string
			var public []byte
			var roles, expires int64
			err := r.Scan(&i.Member, &i.Class, &roles, &numbers, &expires, (*string)(&i.State), &public, &i.Others)
			if err == nil {
				err = json.Unmarshal([]byte(numbers), &i.AS)
			}
			if err == nil && len(public) > 0 {
				i.Public, err = identity.PublicFromBytes(public)
			}
			i.Roles, i.Expires = roster.Role(roles), time.Unix(0, expires).UTC()
			all = append(all, i)
			return err
		}, `SELECT member, class, roles, numbers, expires, state, public, others FROM clearinghouse_invitation ORDER BY made, member`)
	})
	return all, err
}

// Settle notes what the operator decided about a key that asked for membership.
func (h *Core) Settle(ctx context.Context, member string, key identity.Public, is InvitationState) error {
	return h.db.Update(ctx, func(tx *state.Tx) error {
		r, err := tx.Exec(`UPDATE clearinghouse_invitation SET state = ? WHERE member = ? AND public = ? AND state = ?`, string(is), member, key.Bytes(), string(InvitationWaiting))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("%w: %s does not wait with this key any more", ErrInvitation, member))
		}
		return nil
	})
}
