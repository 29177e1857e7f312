// Package centre is the signature centre of the double honeypot (Tang 2006,
// section 2.2): it takes what enrolled traps captured, groups it into families,
// learns a signature for each, and makes findings of who attacked.
//
// The first copy of an attack gives an exact signature; when there are variants
// enough, a position-aware distribution signature (PADS) takes its place, and is
// learnt again as more arrive. A signature is offered only if it matches none of
// the clean traffic that the configuration names.
//
// Enrolled sensors are sent the signatures that were tested, the node's own and
// those that other organisations shared, and report what these match on the wire.
//
// A trap is weak evidence: one that is taken over, or lies, can send anything. So
// no host is ever blocked for what a trap sent alone, or for what a signature learnt
// from it matches; each trap and sensor has a quota, and
// every payload is kept with the trap that it came from.
package centre

import (
	"time"

	"dragnet/internal/conf"
)

// Configuration of a signature centre.
type Configuration struct {
	// BytesPerTrap bounds the payloads taken from one trap in a day (UTC).
	BytesPerTrap int64 `yaml:"bytes_per_trap"`
	// Bytes bounds all payloads kept: the oldest are removed first.
	Bytes int64 `yaml:"bytes"`
	// Variants is how many different payloads to one port make a family, from
	// which a PADS is learnt.
	Variants int `yaml:"variants"`
	// Samples bounds how many of a port's payloads are learnt from, the newest.
	Samples int `yaml:"samples"`
	// Clean are files and directories of clean traffic: captures, or payloads.
	// Without any, signatures are offered untested, and say so.
	Clean []string `yaml:"clean"`
	// Shared are folders of signature files (.json) that other organisations
	// shared. They are taken if one of the keys of Trust has sealed them and they
	// match none of our clean traffic.
	Shared []string `yaml:"shared"`
	// Trust are files of Ed25519 public keys (PEM).
	Trust []string `yaml:"trust"`
	// Every is the interval at which new captures are learnt from.
	Every time.Duration `yaml:"every"`
}

// DefaultConfiguration takes 64 MiB a day from each trap, and keeps 256 MiB.
func DefaultConfiguration() Configuration {
	return Configuration{BytesPerTrap: 64 << 20, Bytes: 256 << 20, Variants: 5, Samples: 100, Clean: []string{}, Shared: []string{}, Trust: []string{}, Every: time.Second}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.BytesPerTrap >= 1<<20, "bytes_per_trap", "is %d; want at least 1048576", c.BytesPerTrap)
	p.Check(c.Bytes >= 1<<20, "bytes", "is %d; want at least 1048576", c.Bytes)
	p.Check(c.Variants >= 3 && c.Variants <= 1000, "variants", "is %d; want 3 to 1000", c.Variants)
	p.Check(c.Samples >= c.Variants && c.Samples <= 10_000, "samples", "is %d; want variants, %d, to 10000", c.Samples, c.Variants)
	p.Check(len(c.Shared) == 0 || len(c.Trust) > 0, "trust", "is empty; name the public keys of those whose shared signatures are taken")
	p.Check(c.Every >= 100*time.Millisecond && c.Every <= time.Hour, "every", "is %v; want 100ms to 1h", c.Every)
	return p.Join()
}
