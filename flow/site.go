package flow

import (
	"fmt"
	"net/netip"
)

// Site describes the network of this organisation. It is one file, read by all
// roles.
type Site struct {
	// Name of the organisation, as other organisations see it.
	Name string `yaml:"name"`
	// Networks are our own prefixes.
	Networks []netip.Prefix `yaml:"networks"`
	// Exempt are sources never judged: research scanners, mapping tools.
	Exempt []netip.Prefix `yaml:"exempt"`
	// Silent are networks about which we never testify.
	Silent []netip.Prefix `yaml:"silent"`
	// Unused are our prefixes without hosts; the trap may answer for them.
	Unused []netip.Prefix `yaml:"unused"`
}

// Validate reports the first invalid entry.
func (s *Site) Validate() error {
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"networks", s.Networks}, {"exempt", s.Exempt}, {"silent", s.Silent}, {"unused", s.Unused}} {
		for i, p := range list.prefixes {
			switch {
			case !p.IsValid():
				return fmt.Errorf("site.%s[%d] is not a prefix such as 198.51.100.0/24", list.name, i)
			case p != p.Masked():
				return fmt.Errorf("site.%s[%d]: %s has host bits set; write %s", list.name, i, p, p.Masked())
			}
		}
	}
	for i, p := range s.Unused {
		if !s.overlapsOurs(p) {
			return fmt.Errorf("site.unused[%d]: %s lies outside site.networks; only our own unused prefixes may be listed", i, p)
		}
	}
	return nil
}

func (s *Site) overlapsOurs(p netip.Prefix) bool {
	for _, n := range s.Networks {
		if n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// Within reports whether any prefix holds addr.
func Within(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
