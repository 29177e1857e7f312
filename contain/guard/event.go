package guard

import (
	"net/netip"

	"dragnet/dossier"
	"dragnet/flow"
)

// Action is one action of a guard, or what it would have done in a dry run. Each
// action under a standing decision is recorded as one.
type Action struct {
	Time flow.Time `json:"time"`
	// What is "standing", "hold", "release", "block", "unblock", "refused" or
	// "exhausted".
	What   string       `json:"what"`
	Target netip.Prefix `json:"target,omitzero"`
	// Limit is the one that held a source back: "temporal", "network64",
	// "spatial".
	Limit string `json:"limit,omitempty"`
	// Times is how often a source was held until it was released.
	Times int       `json:"times,omitempty"`
	Until flow.Time `json:"until,omitzero"`
	// Decision is the one that authorised it, with its verdict: "active" or
	// "dry-run".
	Decision string          `json:"decision"`
	Verdict  dossier.Verdict `json:"verdict"`
	Why      string          `json:"why,omitempty"`
}
