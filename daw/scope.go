package daw

import (
	"fmt"
	"net/netip"

	"dragnet/flow"
	"dragnet/internal/conf"
)

// Scope is what an edge watches: S, the sources, and P, the ports (Tang 2006,
// section 2.3.3).
type Scope struct {
	// Sources are the customer's addresses.
	Sources []netip.Prefix `yaml:"sources"`
	// Exempt are sources that are ignored: research scanners, mapping tools.
	Exempt []netip.Prefix `yaml:"exempt"`
	// Ports are the destination ports to protect.
	Ports []uint16 `yaml:"ports"`
}

// Validate reports all invalid settings.
func (s *Scope) Validate() error {
	var p conf.Problems
	p.Check(len(s.Sources) > 0, "sources", "is empty: name the customer's prefixes")
	p.Check(len(s.Ports) > 0, "ports", "is empty: name the destination ports to protect, such as 80 and 443")
	for key, list := range map[string][]netip.Prefix{"sources": s.Sources, "exempt": s.Exempt} {
		for i, n := range list {
			p.Check(n.IsValid() && !n.Addr().Is4In6(), fmt.Sprintf("%s[%d]", key, i), "%s is not a prefix such as 198.51.100.0/24", n)
		}
	}
	return p.Join()
}

// compiledScope is a Scope prepared for fast look-ups.
type compiledScope struct {
	sources, exempt []netip.Prefix
	ports           [1 << 16 / 64]uint64
}

func (s *Scope) compileScope() *compiledScope {
	c := &compiledScope{sources: s.Sources, exempt: s.Exempt}
	for _, p := range s.Ports {
		c.ports[p/64] |= 1 << (p % 64)
	}
	return c
}

// watchesConn reports whether a connection is within the scope.
func (s *compiledScope) watchesConn(c *Conn) bool {
	return s.ports[c.DstPort/64]&(1<<(c.DstPort%64)) != 0 && flow.Within(s.sources, c.Src) && !flow.Within(s.exempt, c.Src)
}
