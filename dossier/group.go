package dossier

import "dragnet/flow"

// Group is what the clearinghouse publishes about hosts that act together. Like
// Entry it names no detective and no witness, and its times and numbers are
// coarse, so that a change reveals little about who reported it.
type Group struct {
	Version int `json:"version"`
	// ID is random, and kept while any pattern of the group stays published.
	ID string `json:"group"`
	// Patterns are those that all their reporters allow to be published;
	// Undisclosed counts the others.
	Patterns    []string `json:"patterns"`
	Undisclosed int      `json:"undisclosed"`
	Hosts       int      `json:"hosts"`
	// First and Last bound the flows seen, at the clearinghouse's resolution.
	First flow.Time `json:"first_seen"`
	Last  flow.Time `json:"last_seen"`
	// Sources is how many independent organisations, at least, reported some
	// host of it.
	Sources int `json:"sources"`
	// Confidence is that of its best entry.
	Confidence int `json:"confidence"`
	// Updated is the batch in which it changed last.
	Updated flow.Time `json:"updated"`
}

// GroupVersion is the version of the JSON form of a Group.
const GroupVersion = 1
