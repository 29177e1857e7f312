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
	"dragnet/internal/conf"
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

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for i, n := range c.Allow {
		p.Check(n.IsValid() && n == n.Masked(), fmt.Sprintf("allow[%d]", i), "%s is not a prefix such as 198.51.100.0/24", n)
	}
	p.Check(c.Budget > 0 && c.Budget <= 1, "budget", "is %g; want a share above 0 and at most 1 (1 = all addresses)", c.Budget)
	p.Check(c.Addresses >= 1, "addresses", "is %d; want at least 1", c.Addresses)
	p.Check(c.TTL >= time.Second, "ttl", "is %v; want at least 1s", c.TTL)
	p.Check(c.MaxTTL >= c.TTL, "max_ttl", "is %v; want at least ttl, %v", c.MaxTTL, c.TTL)
	p.Check(c.Kept >= 1, "kept", "is %d; want at least 1", c.Kept)
	return p.Join()
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
