package inquiry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dragnet/ask/seal"
	"dragnet/wire/envelope"
	"dragnet/wire/exchange"
)

// AskStatus is the outcome of asking one witness.
type AskStatus string

// The statuses. All but Waiting are final.
const (
	Waiting     AskStatus = "waiting"
	Answered    AskStatus = "answered"
	Refused     AskStatus = "refused"     // it says why in its testimony
	Denied      AskStatus = "denied"      // it does not know our key
	Silent      AskStatus = "silent"      // nothing until the deadline
	Unreachable AskStatus = "unreachable" // no connection, or another key
	Broken      AskStatus = "broken"      // an answer cut short or too long
	Forged      AskStatus = "forged"      // signed by another, or not what it seals
	Replayed    AskStatus = "replayed"    // a genuine answer to another question
)

// order of the statuses in a tally's text.
var order = []AskStatus{Answered, Refused, Denied, Forged, Replayed, Broken, Unreachable, Silent, Waiting}

// StatusOf classifies an error of asking.
func StatusOf(err error, deadline bool) AskStatus {
	switch {
	case errors.Is(err, exchange.ErrOtherQuestion), errors.Is(err, envelope.ErrExpired):
		return Replayed
	case errors.Is(err, envelope.ErrMalformed), errors.Is(err, exchange.ErrTooLarge), errors.Is(err, exchange.ErrUnfinished):
		return Broken
	case errors.Is(err, envelope.ErrSigner), errors.Is(err, envelope.ErrSignature), errors.Is(err, envelope.ErrAudience),
		errors.Is(err, envelope.ErrKind), errors.Is(err, envelope.ErrEarly), errors.Is(err, seal.ErrTestimony):
		return Forged
	case exchange.Denied(err):
		return Denied
	case deadline:
		return Silent
	case exchange.Unreachable(err):
		return Unreachable
	}
	return Broken
}

// StatusCounts counts the witnesses of an inquiry by status.
type StatusCounts struct {
	status map[string]AskStatus
	counts map[AskStatus]int
}

// NewTally returns an empty tally.
func NewTally() *StatusCounts {
	return &StatusCounts{map[string]AskStatus{}, map[AskStatus]int{}}
}

// Set notes a witness's status. A final status stays: what comes later, such as
// a second answer, is not counted again.
func (t *StatusCounts) Set(witness string, s AskStatus) (changed bool) {
	old, known := t.status[witness]
	if known && old != Waiting {
		return false
	}
	if known {
		t.counts[old]--
	}
	t.status[witness] = s
	t.counts[s]++
	return true
}

// Reopen has a witness that refused wait again: it is asked once more.
func (t *StatusCounts) Reopen(witness string) {
	if t.status[witness] == Refused {
		t.counts[Refused]--
		t.counts[Waiting]++
		t.status[witness] = Waiting
	}
}

// Count is how many witnesses have the status.
func (t *StatusCounts) Count(s AskStatus) int { return t.counts[s] }

// Asked is how many witnesses were asked.
func (t *StatusCounts) Asked() int { return len(t.status) }

// Waiting lists the witnesses that have not answered, by name.
func (t *StatusCounts) Waiting() (out []string) {
	for name, s := range t.status {
		if s == Waiting {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// String is such as "12 of 20 answered, 3 refused, 5 silent".
func (t *StatusCounts) String() string {
	parts := []string{fmt.Sprintf("%d of %d answered", t.Count(Answered), t.Asked())}
	for _, s := range order[1:] {
		if n := t.Count(s); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}
