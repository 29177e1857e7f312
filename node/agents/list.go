package agents

import (
	"context"
	"database/sql"
	"time"

	"dragnet/internal/state"
)

// MemberStatus describes an agent or operator. A zero time means never.
type MemberStatus struct {
	Name, Role string
	// Host and Program are as the member reported them.
	Host, Program           string
	Enrolled, Revoked, Seen time.Time
	// Until is when its newest certificate expires.
	Until time.Time
	// Configuration is the version in use; Problem says why another is not.
	Configuration, Problem string
	// Waiting is bytes spooled on the agent; Dropped counts items it dropped.
	Waiting, Dropped uint64
	// Received, Refused and Missed count items: handled, invalid, and missing
	// because the agent had dropped them.
	Received, Refused, Missed uint64
}

// ListMembers returns at most limit members after name, sorted by name.
func (r *Registry) ListMembers(ctx context.Context, after string, limit int) (out []MemberStatus, err error) {
	err = r.db.View(ctx, func(tx *state.Tx) error {
		out = nil
		return tx.Each(func(row *sql.Rows) error {
			var m MemberStatus
			var enrolled, revoked, seen, until int64
			err := row.Scan(&m.Name, &m.Role, &m.Host, &m.Program, &enrolled, &revoked, &seen, &until, &m.Configuration, &m.Problem,
				&m.Waiting, &m.Dropped, &m.Received, &m.Refused, &m.Missed)
			m.Enrolled, m.Revoked, m.Seen, m.Until = timeFromNanoseconds(enrolled), timeFromNanoseconds(revoked), timeFromNanoseconds(seen), timeFromNanoseconds(until)
			out = append(out, m)
			return err
		}, `SELECT name, role, host, program, enrolled, revoked, seen, COALESCE((SELECT MAX(expires) FROM agent_certificate WHERE member = name), 0),
			configuration, problem, waiting, dropped, received, refused, missed
			FROM agent_member WHERE name > ? ORDER BY name LIMIT ?`, after, limit)
	})
	return out, err
}

func timeFromNanoseconds(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds).UTC()
}
