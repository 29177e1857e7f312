package flow

import (
	"fmt"
	"net/netip"

	"dragnet/internal/conf"
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

// Validate reports all invalid settings.
func (s *Site) Validate() error {
	var p conf.Problems
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"networks", s.Networks}, {"exempt", s.Exempt}, {"silent", s.Silent}, {"unused", s.Unused}} {
		for i, n := range list.prefixes {
			key := fmt.Sprintf("%s[%d]", list.name, i)
			p.Check(n.IsValid(), key, "is not a prefix such as 198.51.100.0/24")
			p.Check(!n.IsValid() || n == n.Masked(), key, "%s has host bits set; write %s", n, n.Masked())
		}
	}
	for i, n := range s.Unused {
		p.Check(!n.IsValid() || s.overlapsOurs(n), fmt.Sprintf("unused[%d]", i), "%s lies outside networks; only our own unused prefixes may be listed", n)
	}
	return p.Join()
}

func (s *Site) overlapsOurs(p netip.Prefix) bool {
	for _, n := range s.Networks {
		if n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// NetworkOf is the network of a number of bits, for IPv4 and for IPv6, in which a valid
// address lies: who has one address of such a network may have all of them.
func NetworkOf(a netip.Addr, bits4, bits6 int) netip.Prefix {
	a = a.Unmap()
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, _ := a.Prefix(bits)
	return p
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
