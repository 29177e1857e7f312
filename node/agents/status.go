package agents

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dragnet/internal/admin"
	"dragnet/node/api"
)

// Bounds of the status: how long an agent may be silent, how soon before its
// certificate ends that is reported, and how many agents are looked at and named.
const (
	silentAfter = 15 * time.Minute
	endsSoon    = 7 * 24 * time.Hour
	lookedAt    = 10_000
	maxNamed    = 5
)

// Status says which enrolled agents are silent, dropped something, do not use
// their configuration, or whose certificate ends soon.
func (r *Registry) Status(ctx context.Context) admin.Status {
	out := admin.Status{Part: "agents", Level: admin.OK}
	all, err := r.ListMembers(ctx, "", lookedAt)
	if err != nil {
		out.Level, out.Text = admin.Failed, fmt.Sprintf("cannot be listed: %v", err)
		return out
	}
	now, enrolled := time.Now(), 0
	var problems []string
	for i := range all {
		if m := &all[i]; m.Role != api.OperatorRole && !m.Enrolled.IsZero() && m.Revoked.IsZero() {
			enrolled++
			if p := m.problem(now); p != "" {
				problems = append(problems, m.Name+" "+p)
			}
		}
	}
	out.Text = fmt.Sprintf("%d enrolled", enrolled)
	if n := len(problems); n > 0 {
		out.Level, out.Hint = admin.Attention, "dragnet agent list"
		out.Text += "; " + strings.Join(problems[:min(n, maxNamed)], "; ")
		if n > maxNamed {
			out.Text += fmt.Sprintf("; and %d more", n-maxNamed)
		}
	}
	return out
}

// problem says what is wrong with an agent; empty if nothing is.
func (m *MemberStatus) problem(now time.Time) string {
	switch {
	case now.Sub(m.Seen) > silentAfter:
		return fmt.Sprintf("was last heard at %s", m.Seen.UTC().Format(time.RFC3339))
	case m.Until.Sub(now) < endsSoon:
		return fmt.Sprintf("has a certificate that ends at %s", m.Until.UTC().Format(time.RFC3339))
	case m.Problem != "":
		return "does not use its configuration: " + m.Problem
	case m.Dropped > m.Received/100:
		return fmt.Sprintf("dropped %d items for lack of room", m.Dropped)
	}
	return ""
}
