package inquiry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dragnet/ask/seal"
	"dragnet/wire/envelope"
	"dragnet/wire/exchange"
)

// Status is the outcome of asking one witness.
type Status string

// The statuses. All but Waiting are final.
const (
	Waiting     Status = "waiting"
	Answered    Status = "answered"
	Refused     Status = "refused"     // it says why in its testimony
	Denied      Status = "denied"      // it does not know our key
	Silent      Status = "silent"      // nothing until the deadline
	Unreachable Status = "unreachable" // no connection, or another key
	Broken      Status = "broken"      // an answer cut short or too long
	Forged      Status = "forged"      // signed by another, or not what it seals
	Replayed    Status = "replayed"    // a genuine answer to another question
)

// order of the statuses in a tally's text.
var order = []Status{Answered, Refused, Denied, Forged, Replayed, Broken, Unreachable, Silent, Waiting}

// StatusOf classifies an error of asking.
func StatusOf(err error, deadline bool) Status {
	switch {
	case errors.Is(err, exchange.ErrOtherQuestion), errors.Is(err, envelope.ErrExpired), errors.Is(err, envelope.ErrReplayed):
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

// Tally counts what became of an inquiry.
type Tally struct{ status map[string]Status }

// NewTally returns an empty tally.
func NewTally() *Tally { return &Tally{map[string]Status{}} }

// Set notes a witness's status. A final status stays: what comes later, such as
// a second answer, is not counted again.
func (t *Tally) Set(witness string, s Status) (changed bool) {
	if old, known := t.status[witness]; known && old != Waiting {
		return false
	}
	t.status[witness] = s
	return true
}

// Count is how many witnesses have the status.
func (t *Tally) Count(s Status) (n int) {
	for status := range maps.Values(t.status) {
		if status == s {
			n++
		}
	}
	return n
}

// Asked is how many witnesses were asked.
func (t *Tally) Asked() int { return len(t.status) }

// Waiting lists the witnesses that have not answered, by name.
func (t *Tally) Waiting() (out []string) {
	for name, s := range t.status {
		if s == Waiting {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// String is such as "12 of 20 answered, 3 refused, 5 silent".
func (t *Tally) String() string {
	parts := []string{fmt.Sprintf("%d of %d answered", t.Count(Answered), t.Asked())}
	for _, s := range order[1:] {
		if n := t.Count(s); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}
