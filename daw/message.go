package daw

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"dragnet/dossier"
)

// Bulletin is what an agent sends its station, again and again: where it
// stands, and whom it would have blocked.
type Bulletin struct {
	Version int    `json:"version"`
	Agent   string `json:"agent"`
	Report  Report `json:"report"`
	// Offenders are the worst, in order.
	Offenders []Offender `json:"offenders"`
	// Persistent are sources that were at their limit for n days, with how long
	// a block of each would last; they are repeated until an answer came.
	Persistent []Persistent `json:"persistent"`
	// Receipts say what became of the decisions of the last orders.
	Receipts []dossier.Receipt `json:"receipts"`
	// Held counts addresses whose requests are dropped for the moment by a
	// limit, Refused those that would have been beyond the budget.
	Held    int    `json:"held"`
	Refused uint64 `json:"refused"`
	// Packets were seen, Missed were not for want of room.
	Packets uint64 `json:"packets"`
	Missed  uint64 `json:"missed"`
}

// Orders are the station's answer to a Bulletin.
type Orders struct {
	Version int `json:"version"`
	// Scope is S and P; nil leaves what the agent was configured with.
	Scope *Scope `json:"scope,omitempty"`
	// Days is n; 0 leaves it.
	Days int `json:"days"`
	// Allow lists who is never blocked, besides the agent's own list.
	Allow []netip.Prefix `json:"allow"`
	// Decisions are all that concern the agent. What it does not find here any
	// more ends.
	Decisions []dossier.Decision `json:"decisions"`
	// FailLogs are drops of firewalls at the destinations, numbered from
	// FailLogsFrom on: the same may be told more than once.
	FailLogs     []FailLog `json:"faillogs"`
	FailLogsFrom uint64    `json:"faillogs_from"`
}

// MessageVersion is the version of the JSON form of Bulletin and Orders.
const MessageVersion = 1

// Bounds of the lists in messages.
const (
	MaxOffenders = 1000
	MaxFailLogs  = 10_000
	maxListed    = 100_000
)

// Validate reports what no agent can mean.
func (b *Bulletin) Validate() error {
	switch {
	case b.Version != MessageVersion:
		return fmt.Errorf("bulletin of version %d; this station knows %d", b.Version, MessageVersion)
	case b.Agent == "" || len(b.Agent) > 100:
		return fmt.Errorf("bulletin without the agent's name, or with one above 100 bytes")
	case len(b.Offenders) > MaxOffenders || len(b.Persistent) > MaxOffenders || len(b.Receipts) > maxListed:
		return fmt.Errorf("bulletin of %s lists more than it may", b.Agent)
	case b.Held < 0 || b.Report.Limited < 0 || b.Report.Records < b.Report.Limited:
		return fmt.Errorf("bulletin of %s contradicts itself", b.Agent)
	}
	for _, o := range b.Offenders {
		if err := o.validate(); err != nil {
			return fmt.Errorf("bulletin of %s: %w", b.Agent, err)
		}
	}
	for _, p := range b.Persistent {
		if err := p.validate(); err != nil || p.Next <= 0 {
			return fmt.Errorf("bulletin of %s: persistent source %s: %w", b.Agent, p.Addr, err)
		}
	}
	return nil
}

func (o *Offender) validate() error {
	if !o.Addr.IsValid() || math.IsNaN(o.Rate) || o.Rate < 0 || o.Failures < 0 {
		return fmt.Errorf("offender %s with rate %g and %d failures makes no sense", o.Addr, o.Rate, o.Failures)
	}
	return nil
}

// Validate reports what no station can mean.
func (o *Orders) Validate() error {
	switch {
	case o.Version != MessageVersion:
		return fmt.Errorf("orders of version %d; this agent knows %d", o.Version, MessageVersion)
	case o.Days < 0 || o.Days > 200:
		return fmt.Errorf("orders: days %d must lie between 1 and 200, or be 0", o.Days)
	case len(o.Decisions) > maxListed || len(o.FailLogs) > MaxFailLogs:
		return fmt.Errorf("orders list more than they may")
	case slices.ContainsFunc(o.Allow, func(p netip.Prefix) bool { return !p.IsValid() }):
		return fmt.Errorf("orders: the allow list holds what is no prefix")
	}
	if o.Scope != nil {
		return o.Scope.Validate()
	}
	return nil
}
