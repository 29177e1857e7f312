package endpoint

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dragnet/internal/admin"
)

// warnBefore is how long before a roster expires the status asks for a new one.
const warnBefore = 14 * 24 * time.Hour

// status says whether questions can be answered, until when, and how many were
// asked in the last day.
func (s *Service) status(ctx context.Context) admin.Status {
	out := admin.Status{Part: "witness", Level: admin.OK}
	now := s.now()
	held, err := s.members.keeper.Current(now)
	if err != nil {
		out.Level, out.Text = admin.Failed, fmt.Sprintf("answers no question: %v", err)
		out.Hint = "get the community's roster: 'dragnet roster fetch', or witness.roster.file"
		return out
	}
	asked, refused, err := s.audit.CountSince(ctx, now.Add(-24*time.Hour))
	if err != nil {
		out.Level, out.Text = admin.Failed, fmt.Sprintf("the record of questions cannot be read: %v", err)
		return out
	}
	left := held.Expires.Sub(now)
	out.Text = fmt.Sprintf("%d questions in the last 24 hours, %d of them refused; the roster (version %d, %d members) expires in %.0f days",
		asked, refused, held.Version, len(held.Members), left.Hours()/24)
	s.mu.Lock()
	problem := s.recordProblem
	s.mu.Unlock()
	if problem != nil {
		out.Level, out.Hint = admin.Attention, fmt.Sprintf("the record of questions is not cosigned: %v; see 'dragnet question list --verify'", problem)
	} else if left < warnBefore {
		out.Level, out.Hint = admin.Attention, "ask the signer of the roster for a new one"
	} else if weaker := s.config.Policy.Weaker(); len(weaker) > 0 {
		out.Hint = "weaker than the defaults (witness.policy): " + strings.Join(weaker, "; ")
	}
	return out
}
