package dossier

import (
	"fmt"
	"net/netip"

	"dragnet/flow"
)

// RuleReset is the rule of standing decisions under which connections are reset
// that carry what one signature matches.
const RuleReset = "reset"

// Resets says which matching connections sensors and guards reset, and which
// never.
type Resets struct {
	// Decisions are standing ones with RuleReset, in force or a dry run. Standing.
	// Most is for each who is sent them.
	Decisions []Decision `json:"decisions"`
	// Allow lists addresses whose connections are never reset, whatever is decided.
	Allow []netip.Prefix `json:"allow"`
}

// maxResets bounds the decisions of Resets, and maxAllow its allow list.
const (
	maxResets = 1000
	maxAllow  = 100_000
)

// Check reports why resets cannot be followed.
func (r *Resets) Check() error {
	if len(r.Decisions) > maxResets || len(r.Allow) > maxAllow {
		return fmt.Errorf("%d decisions to reset connections and %d allowed prefixes; want at most %d and %d", len(r.Decisions), len(r.Allow), maxResets, maxAllow)
	}
	for i := range r.Decisions {
		d := &r.Decisions[i]
		s := d.Standing
		if s == nil || s.Rule != RuleReset || s.Most < 1 || !validName(s.Signature) || !d.Target.IsValid() || d.ID == "" {
			return fmt.Errorf("decision %q does not say for which signature, for whose connections, and for how many senders connections are reset", d.ID)
		}
	}
	for _, p := range r.Allow {
		if !p.IsValid() {
			return fmt.Errorf("the allow list has an invalid prefix")
		}
	}
	return nil
}

// ResetAction is what became of a connection that a decision concerns.
type ResetAction string

// The actions.
const (
	ResetDone    ResetAction = "reset"
	ResetDryRun  ResetAction = "would be reset" // the decision or the sensor is a dry run
	ResetAllowed ResetAction = "allowed"        // an end is on the allow list
	ResetBounded ResetAction = "beyond bound"   // as many senders as Standing.Most are reset already
	ResetFailed  ResetAction = "not sent"       // the system refused to send
)

func (a ResetAction) isKnown() bool {
	switch a {
	case "", ResetDone, ResetDryRun, ResetAllowed, ResetBounded, ResetFailed:
		return true
	}
	return false
}

// InForce reports whether a standing decision is in force, or would be outside a
// dry run.
func (d *Decision) InForce(now flow.Time) bool {
	return d.ID != "" && now < d.Until && (d.Verdict == Active || d.Verdict == DryRun)
}
