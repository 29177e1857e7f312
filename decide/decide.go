// Package decide is the only judge: whatever wants a source blocked proposes it
// here, and only what a Judge lists as active may be applied.
//
// It is pure: time is an argument, nothing is read or written. A Judge is for
// one goroutine.
//
// In this order: the allow list wins over everything, also over what was
// decided before it was extended; a stop lets nothing through; the ban budget
// bounds how many addresses are blocked at a time; approval is asked for unless
// it was switched off; and unless decisions are enforced, all of this is a dry
// run. Every decision expires.
package decide

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/dossier"
)

// Configuration of a judge.
type Configuration struct {
	// Enforce lets decisions take effect; without it they are a dry run.
	Enforce bool `yaml:"enforce"`
	// Approval asks an operator before a decision takes effect.
	Approval bool `yaml:"approval"`
	// Allow lists who is never blocked.
	Allow []netip.Prefix `yaml:"allow"`
	// Budget is the largest share of Addresses that may be blocked at a time;
	// at least one always may.
	Budget float64 `yaml:"budget"`
	// Addresses is how many there are to protect and to block.
	Addresses int `yaml:"addresses"`
	// TTL is how long a decision lasts if the proposal does not say.
	TTL time.Duration `yaml:"ttl"`
	// MaxTTL bounds what a proposal may say.
	MaxTTL time.Duration `yaml:"max_ttl"`
	// Kept is how many decisions that are over are remembered.
	Kept int `yaml:"kept"`
}

// DefaultConfiguration is a dry run with approval that may block 1 % of 256
// addresses for an hour.
func DefaultConfiguration() Configuration {
	return Configuration{Approval: true, Budget: 0.01, Addresses: 256, TTL: time.Hour, MaxTTL: 30 * 24 * time.Hour, Kept: 10_000}
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	for i, p := range c.Allow {
		if !p.IsValid() || p != p.Masked() {
			return fmt.Errorf("decide.allow[%d]: %s is not a prefix such as 198.51.100.0/24", i, p)
		}
	}
	switch {
	case !(c.Budget > 0 && c.Budget <= 1):
		return fmt.Errorf("decide.budget must lie above 0 and up to 1 (1 = all addresses)")
	case c.Addresses < 1:
		return fmt.Errorf("decide.addresses must be at least 1")
	case c.TTL < time.Second || c.MaxTTL < c.TTL:
		return fmt.Errorf("decide.ttl must be at least 1s and not above decide.max_ttl")
	case c.Kept < 1:
		return fmt.Errorf("decide.kept must be at least 1")
	}
	return nil
}

// maxWeight is the number of addresses that may be blocked at a time.
func (c *Configuration) maxWeight() float64 { return max(1, c.Budget*float64(c.Addresses)) }

// weighDecision is what a decision costs of the budget: its target's addresses, and
// for IPv6 its /64s, since a host has a whole one; for a standing decision, what
// it allows.
func weighDecision(d *dossier.Decision) float64 {
	if d.Standing != nil {
		return float64(d.Standing.Most)
	}
	p := d.Target
	free := 32 - p.Bits()
	if p.Addr().Is6() {
		free = max(0, 64-p.Bits())
	}
	return float64(uint64(1) << min(free, 63))
}
