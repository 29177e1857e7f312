// Package hint lets an error say what to do about it, in words for the person who
// typed the command.
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Add returns err with what to do about it, which replaces what it said before.
func Add(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Hint is what to do.
func (e *hinted) Hint() string { return e.hint }

// Of returns what to do about err; empty if it does not say.
func Of(err error) string {
	var e interface{ Hint() string }
	if errors.As(err, &e) {
		return e.Hint()
	}
	return ""
}
