package dossier

import (
	"net/netip"

	"dragnet/flow"
)

// Allowance is an entry of a node's allow list: while it lasts, no decision
// blocks an address in its prefix.
type Allowance struct {
	Version int          `json:"version"`
	Prefix  netip.Prefix `json:"prefix"`
	// Who added it, and why.
	Who string `json:"who"`
	Why string `json:"why"`
	// Since is when it was added; 0 for one of the configuration.
	Since flow.Time `json:"since,omitempty"`
	// Until is when it ends; 0 means that it does not.
	Until flow.Time `json:"until,omitempty"`
	// Configured says that it is in the configuration (decide.allow), which is the
	// place to change it.
	Configured bool `json:"configured,omitempty"`
}

// AllowanceVersion is the version of the JSON form of an Allowance.
const AllowanceVersion = 1

// HasEnded reports whether its time is over.
func (a *Allowance) HasEnded(now flow.Time) bool { return a.Until != 0 && now >= a.Until }
