package relay

import "time"

// NoteHeard is what a sweep calls.
var NoteHeard = (*Mailboxes).noteHeard

// SetSweepEvery has services that are started from now on sweep more often.
func SetSweepEvery(d time.Duration) { sweepEvery = d }

// CallerOf is whom a request is counted for.
var CallerOf = (*Service).callerOf

// Hear and Sweep are what a poll of a witness and the sweep of a service call.
var (
	Hear  = (*Service).noteHeard
	Sweep = (*Service).sweepOnce
)
