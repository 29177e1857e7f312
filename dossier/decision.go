package dossier

import (
	"net/netip"
	"time"

	"dragnet/flow"
)

// Verdict is the state of a Decision.
type Verdict string

// The verdicts. Only Active ones are applied.
const (
	Proposed Verdict = "proposed" // waits for approval
	DryRun   Verdict = "dry-run"  // would be active, if decisions were enforced
	Active   Verdict = "active"
	Refused  Verdict = "refused" // by the allow list, the budget, or an operator
	Undone   Verdict = "undone"
	Expired  Verdict = "expired"
	Stopped  Verdict = "stopped" // by 'decision stop'
)

// Decision blocks connections from a source: it states whom, why, by whom,
// until when. Nothing is blocked without one.
type Decision struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	// Target is the source whose connection requests are dropped.
	Target  netip.Prefix `json:"target"`
	Verdict Verdict      `json:"verdict"`
	// Why is a sentence for humans; Findings are the IDs of the findings it is
	// based on.
	Why      string   `json:"why"`
	Findings []string `json:"findings"`
	// Until is when it expires.
	Until flow.Time `json:"until"`
	// Steps is its history; the first step is the proposal.
	Steps []Step `json:"steps"`
	// Undo is the command that reverts it.
	Undo string `json:"undo"`
	// Standing, if set, makes it a standing decision: it blocks no source
	// itself, but lets a rule block single sources within Target.
	Standing *Standing `json:"standing,omitempty"`
}

// Standing bounds what a rule may do under a standing decision.
type Standing struct {
	// Rule names it: "daw" for DAW's limits at an edge, RuleReset for connections
	// that carry what a signature matches.
	Rule string `json:"rule"`
	// Most is how many addresses may be blocked under it at a time; with RuleReset,
	// of how many senders connections may be reset in an hour.
	Most int `json:"most"`
	// Signature, with RuleReset, names the signature. It is a copy that was set
	// aside when the decision was proposed: what is learnt later changes nothing.
	Signature string `json:"signature,omitempty"`
}

// Proposal asks the judge for a block.
type Proposal struct {
	Target netip.Prefix
	// Who proposes (a detector, a station, an operator) and Why.
	Who, Why string
	// Findings are those it is based on.
	Findings []string
	// TTL is how long; 0 means the judge's default.
	TTL time.Duration
	// Standing asks for a standing decision.
	Standing *Standing
}

// DecisionVersion is the version of the JSON form of a Decision.
const DecisionVersion = 1

// Step is one change of a Decision.
type Step struct {
	Time    flow.Time `json:"time"`
	Who     string    `json:"who"`
	Verdict Verdict   `json:"verdict"`
	Why     string    `json:"why"`
}
