package admin

import (
	"cmp"
	"context"
	"slices"
)

// Level says how a part of a program does.
type Level string

// The levels. Failed also makes /readyz fail.
const (
	OK        Level = "ok"
	Attention Level = "attention" // it works, and somebody should look
	Failed    Level = "failed"    // it does not do its work now
)

// Status says in a sentence how a part does; Hint, if not empty, is what to do.
type Status struct {
	Part  string `json:"part"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// StatusFunc looks at a part and says how it does.
type StatusFunc func(ctx context.Context) Status

// AddStatus adds a part that Statuses asks. /readyz fails while it failed, and asks
// at most every ten seconds.
func (s *Server) AddStatus(f StatusFunc) {
	if s != nil {
		s.status = append(s.status, f)
	}
}

// Statuses asks every part how it does, those that failed first, else in the order
// in which they were added.
func (s *Server) Statuses(ctx context.Context) []Status {
	var all []Status
	for _, f := range s.status {
		all = append(all, f(ctx))
	}
	order := map[Level]int{Failed: 0, Attention: 1, OK: 2}
	slices.SortStableFunc(all, func(a, b Status) int { return cmp.Compare(order[a.Level], order[b.Level]) })
	return all
}
