package dossier

import (
	"net/netip"

	"dragnet/flow"
)

// Entry is one published line: this host belongs to that group. It has no field
// for who reported or saw it.
type Entry struct {
	Version int        `json:"version"`
	Host    netip.Addr `json:"host"`
	Group   string     `json:"group"`
	// First and Last bound the flows seen, at the clearinghouse's resolution.
	First flow.Time `json:"first_seen"`
	Last  flow.Time `json:"last_seen"`
	// Sources is how many independent organisations reported the host, and
	// Witnesses how many independent witnesses named it to one of them, at
	// least: a value of a coarse scale.
	Sources   int `json:"sources"`
	Witnesses int `json:"witnesses"`
	// Confidence is 0 to 99, computed from Sources and Witnesses.
	Confidence int `json:"confidence"`
	// Listed is the time of the batch in which it was first published, Until
	// when it expires unless it is reported again.
	Listed flow.Time `json:"listed"`
	Until  flow.Time `json:"until"`
}

// EntryVersion is the version of the JSON form of an Entry.
const EntryVersion = 1

// Change is one change of what is published about a host.
type Change struct {
	Version int `json:"version"`
	// Sequence increases over all changes: a reader asks for those after the
	// last one it has.
	Sequence int64      `json:"sequence"`
	Time     flow.Time  `json:"time"` // of the batch
	Kind     ChangeKind `json:"kind"`
	// Entry is the new state; for a removal, the last one.
	Entry Entry `json:"entry"`
}

// ChangeVersion is the version of the JSON form of a Change.
const ChangeVersion = 1

// ChangeKind is what happened to an entry.
type ChangeKind string

// Listed and Updated mean that the entry is valid; Removed that it no longer
// is: it expired, was withdrawn, or its owner's objection was upheld.
const (
	Listed  ChangeKind = "listed"
	Updated ChangeKind = "updated"
	Removed ChangeKind = "removed"
)
