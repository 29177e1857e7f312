package clearinghouse

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// ReportSelection says which reports the operator takes out of use; what is zero does
// not narrow, but something must.
type ReportSelection struct {
	Signer identity.ID
	Report dossier.ReportID
	// Group are the reports of the patterns in a published group.
	Group string
	// Host are the reports that name it.
	Host netip.Addr
	// Since are the reports received from then on.
	Since time.Time
}

// ErrSelection says that a selection would take everything.
var ErrSelection = errors.New("name a signer, a report, a group, a host or a time: nothing at all would be every report")

// Void takes reports out of use for good and counts them; the next batch
// follows. They are kept, with the reason, until Retain is over.
func (h *Core) Void(ctx context.Context, s ReportSelection, why string) (n int, err error) {
	if s == (ReportSelection{}) {
		return 0, ErrSelection
	}
	where, args := s.conditions()
	err = h.db.Update(ctx, func(tx *state.Tx) error {
		n = 0
		if s.Host.IsValid() {
			n, err = s.voidNaming(tx, where, args, h.now().UnixNano(), why)
			return err
		}
		r, err := tx.Exec(`UPDATE clearinghouse_report SET voided = ?, why = ? WHERE `+where, append([]any{h.now().UnixNano(), why}, args...)...)
		if err != nil {
			return err
		}
		affected, err := r.RowsAffected()
		n = int(affected)
		return err
	})
	return n, err
}

func (s *ReportSelection) conditions() (string, []any) {
	where, args := []string{"voided = 0"}, []any{}
	add := func(condition string, value any) { where, args = append(where, condition), append(args, value) }
	if s.Signer != (identity.ID{}) {
		add("signer = ?", s.Signer[:])
	}
	if s.Report != (dossier.ReportID{}) {
		add("digest = ?", s.Report[:])
	}
	if s.Group != "" {
		add("pattern IN (SELECT pattern FROM clearinghouse_group_pattern WHERE grp = ?)", s.Group)
	}
	if !s.Since.IsZero() {
		add("received >= ?", s.Since.UnixNano())
	}
	return strings.Join(where, " AND "), args
}

// voidNaming looks into the reports for a host.
func (s *ReportSelection) voidNaming(tx *state.Tx, where string, args []any, now int64, why string) (int, error) {
	var naming []int64
	err := tx.Each(func(r *sql.Rows) error {
		var id int64
		var body []byte
		if err := r.Scan(&id, &body); err != nil {
			return err
		}
		var report dossier.Report
		if err := report.UnmarshalBinary(body); err != nil {
			return err
		}
		for i := range report.Hosts {
			if report.Hosts[i].Addr == s.Host {
				naming = append(naming, id)
				break
			}
		}
		return nil
	}, `SELECT id, body FROM clearinghouse_report WHERE `+where, args...)
	for _, id := range naming {
		if err == nil {
			_, err = tx.Exec(`UPDATE clearinghouse_report SET voided = ?, why = ? WHERE id = ?`, now, why, id)
		}
	}
	return len(naming), err
}

// Revoke voids what was received under keys that the roster revokes, since they
// may have been in other hands, and counts it. It is to be called for every new
// roster.
func (h *Core) Revoke(ctx context.Context, list *roster.Held) (n int, err error) {
	for i := range list.Members {
		for _, k := range list.Members[i].Keys {
			if k.Revoked.IsZero() {
				continue
			}
			voided, err := h.Void(ctx, ReportSelection{Signer: k.Public.ID(), Since: k.Revoked}, "the key was revoked since "+k.Revoked.Format(time.RFC3339))
			if err != nil {
				return n, err
			}
			n += voided
		}
	}
	return n, nil
}
