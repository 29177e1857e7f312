package dossier

import (
	"net/netip"

	"dragnet/flow"
)

// Entry is one published line: this host belongs to that group. No field of it
// can hold who reported or saw it.
type Entry struct {
	Version int        `json:"version"`
	Host    netip.Addr `json:"host"`
	Group   string     `json:"group"`
	// First and Last bound what was seen, to the clearinghouse's grain.
	First flow.Time `json:"first_seen"`
	Last  flow.Time `json:"last_seen"`
	// Sources is how many independent organisations reported the host, and
	// Witnesses how many independent witnesses named it to one of them, at
	// least: a value of a coarse scale.
	Sources   int `json:"sources"`
	Witnesses int `json:"witnesses"`
	// Confidence is 0 to 99: how much Sources and Witnesses bear out.
	Confidence int `json:"confidence"`
	// Listed is the batch in which it was published first, Until when it lapses
	// unless it is reported again.
	Listed flow.Time `json:"listed"`
	Until  flow.Time `json:"until"`
}

// EntryVersion is the version of the JSON form of an Entry.
const EntryVersion = 1

// Change is one step in what was published about a host.
type Change struct {
	Version int `json:"version"`
	// Sequence counts up over all changes: who has seen one asks for those
	// after it.
	Sequence int64      `json:"sequence"`
	Time     flow.Time  `json:"time"` // of the batch
	Kind     ChangeKind `json:"kind"`
	// Entry is as it became; for a removal, as it was.
	Entry Entry `json:"entry"`
}

// ChangeVersion is the version of the JSON form of a Change.
const ChangeVersion = 1

// ChangeKind is what happened to an entry.
type ChangeKind string

// Listed and Updated say that the entry holds; Removed that it no longer does:
// it lapsed, was withdrawn, or its owner's objection was upheld.
const (
	Listed  ChangeKind = "listed"
	Updated ChangeKind = "updated"
	Removed ChangeKind = "removed"
)
