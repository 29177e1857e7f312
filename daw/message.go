package daw

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"dragnet/dossier"
)

// AgentReport is what an agent sends its station at intervals: its counts, and
// the sources it proposes to block.
type AgentReport struct {
	Version int        `json:"version"`
	Agent   string     `json:"agent"`
	Report  EdgeReport `json:"report"`
	// Offenders are the worst, in order.
	Offenders []Offender `json:"offenders"`
	// Busiest are the sources with the most failures today, while the policy asks for
	// them.
	Busiest []Offender `json:"busiest,omitempty"`
	// Persistent are sources that were at their limit for n days, with how long
	// a block of each would last; they are repeated until the station answers.
	Persistent []Persistent `json:"persistent"`
	// Receipts are the outcomes of the decisions of the last policy.
	Receipts []dossier.Receipt `json:"receipts"`
	// Held counts addresses whose requests a limit drops at present, Refused
	// those beyond the budget.
	Held    int    `json:"held"`
	Refused uint64 `json:"refused"`
	// Validated says that the agent knows source addresses to be true. Without, its
	// offenders may be framed, and none is proposed for a block.
	Validated bool `json:"validated"`
	// Packets is the number seen, Missed the number lost because a buffer was
	// full.
	Packets uint64 `json:"packets"`
	Missed  uint64 `json:"missed"`
}

// AgentPolicy is the station's answer to an AgentReport.
type AgentPolicy struct {
	Version int `json:"version"`
	// Scope is S and P; nil keeps the agent's configuration.
	Scope *Scope `json:"scope,omitempty"`
	// Days is n; 0 keeps the agent's.
	Days int `json:"days"`
	// Allow lists addresses that are never blocked, in addition to the agent's
	// own list.
	Allow []netip.Prefix `json:"allow"`
	// Decisions are all that concern the agent. Those no longer listed end.
	Decisions []dossier.Decision `json:"decisions"`
	// Slow says that the daily share of failures rises over days: the agent lists its
	// busiest sources (Tang 2006, section 2.3.9).
	Slow bool `json:"slow,omitempty"`
	// FailLogs are drops of firewalls at the destinations, numbered from
	// FailLogsFrom on: the same one may be sent more than once.
	FailLogs     []FailLog `json:"faillogs"`
	FailLogsFrom uint64    `json:"faillogs_from"`
}

// MessageVersion is the version of the JSON form of AgentReport and
// AgentPolicy.
const MessageVersion = 1

// Bounds of the lists in messages.
const (
	MaxOffenders = 1000
	MaxBusiest   = 20
	MaxFailLogs  = 10_000
	maxListed    = 100_000
)

// Validate reports invalid values.
func (b *AgentReport) Validate() error {
	switch {
	case b.Version != MessageVersion:
		return fmt.Errorf("agent report of version %d; this station reads %d", b.Version, MessageVersion)
	case b.Agent == "" || len(b.Agent) > 100:
		return fmt.Errorf("agent report without a name, or with one above 100 bytes")
	case len(b.Offenders) > MaxOffenders || len(b.Busiest) > MaxBusiest || len(b.Persistent) > MaxOffenders || len(b.Receipts) > maxListed:
		return fmt.Errorf("report of agent %s: a list exceeds its limit", b.Agent)
	case b.Held < 0 || b.Report.Limited < 0 || b.Report.Records < b.Report.Limited:
		return fmt.Errorf("report of agent %s contradicts itself", b.Agent)
	}
	for _, o := range slices.Concat(b.Offenders, b.Busiest) {
		if err := o.validate(); err != nil {
			return fmt.Errorf("report of agent %s: %w", b.Agent, err)
		}
	}
	for _, p := range b.Persistent {
		if err := p.validate(); err != nil || p.Next <= 0 {
			return fmt.Errorf("report of agent %s: persistent source %s: %w", b.Agent, p.Addr, err)
		}
	}
	return nil
}

func (o *Offender) validate() error {
	if !o.Addr.IsValid() || math.IsNaN(o.Rate) || o.Rate < 0 || o.Failures < 0 {
		return fmt.Errorf("offender %s: invalid rate %g or failures %d", o.Addr, o.Rate, o.Failures)
	}
	return nil
}

// Validate reports invalid values.
func (o *AgentPolicy) Validate() error {
	switch {
	case o.Version != MessageVersion:
		return fmt.Errorf("policy of version %d; this agent reads %d", o.Version, MessageVersion)
	case o.Days < 0 || o.Days > 200:
		return fmt.Errorf("policy: days %d must lie between 1 and 200, or be 0", o.Days)
	case len(o.Decisions) > maxListed || len(o.FailLogs) > MaxFailLogs:
		return fmt.Errorf("policy: a list exceeds its limit")
	case slices.ContainsFunc(o.Allow, func(p netip.Prefix) bool { return !p.IsValid() }):
		return fmt.Errorf("policy: the allow list has an invalid prefix")
	}
	if o.Scope != nil {
		return o.Scope.Validate()
	}
	return nil
}
