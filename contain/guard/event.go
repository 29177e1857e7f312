package guard

import (
	"net/netip"

	"dragnet/dossier"
	"dragnet/flow"
)

// Event is one thing a guard did, or would have done in a dry run: the record
// that each act under a standing decision leaves.
type Event struct {
	Time flow.Time `json:"time"`
	// What is "standing", "hold", "release", "block", "unblock" or "refused".
	What   string       `json:"what"`
	Target netip.Prefix `json:"target,omitzero"`
	// Limit is which one held a source back: "temporal", "network64", "spatial".
	Limit string `json:"limit,omitempty"`
	// Times is how often a source was held until it was let go.
	Times int       `json:"times,omitempty"`
	Until flow.Time `json:"until,omitzero"`
	// Decision is the one it was done under, with its verdict: "active" or
	// "dry-run".
	Decision string          `json:"decision"`
	Verdict  dossier.Verdict `json:"verdict"`
	Why      string          `json:"why,omitempty"`
}
