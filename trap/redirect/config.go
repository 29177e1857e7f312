// Package redirect is the two translators of the double honeypot (Tang 2006,
// section 2.2), as rules of the kernel: the gate translator brings unwanted
// connections from outside to an inbound honeypot, and the internal translator
// brings everything that honeypots send to the outbound array.
//
// It owns one nftables table, "inet dragnet-trap", one routing rule and one
// routing table for each family. What honeypots originate never leaves by another
// way: the rule that drops it comes in the same transaction as those that
// redirect, and it stays until Remove.
package redirect

import (
	"fmt"
	"net/netip"
	"slices"

	"dragnet/internal/conf"
)

// Configuration of the translators.
type Configuration struct {
	// Outside is the interface toward the Internet; empty has no gate.
	Outside string `yaml:"outside"`
	// Inside is the interface toward the inbound honeypots. Everything that is
	// sent there is theirs: nothing else may be behind it.
	Inside string `yaml:"inside"`
	// Unused are our prefixes without hosts, whose connections are brought to
	// inbound honeypots; empty takes site.unused.
	Unused []netip.Prefix `yaml:"unused"`
	// Networks are prefixes of ours in which every TCP connection from outside is
	// unwanted, but those to Public; UDP is only to the ports that honeypots list.
	// Hosts in use no longer get other connections from outside: empty, the default,
	// has unused prefixes only.
	Networks []netip.Prefix `yaml:"networks"`
	// Public are the servers in Networks that everybody may reach.
	Public []PublicServer `yaml:"public"`
	// Honeypots are the inbound honeypots, by service.
	Honeypots []Honeypot `yaml:"honeypots"`
	// Share is how many of a thousand new connections are brought to a honeypot;
	// others are left alone.
	Share int `yaml:"share"`
	// PerSecond bounds the connections, and the datagrams without one, that the gate
	// takes in a second of each family: the kernel remembers each for a minute or
	// more, and a table that is full stops everybody's. More are dropped.
	PerSecond int `yaml:"per_second"`
	// Mark is the packet mark and the number of the routing table that the
	// redirection uses; no other program may use them.
	Mark uint32 `yaml:"mark"`
}

// Honeypot is an inbound honeypot.
type Honeypot struct {
	// Address is that of the honeypot, behind the inside interface.
	Address netip.Addr `yaml:"address"`
	// TCP and UDP are the ports that it serves; without any it is brought all.
	TCP []uint16 `yaml:"tcp"`
	// UDP ports.
	UDP []uint16 `yaml:"udp"`
}

// PublicServer is a host of ours that offers services to everybody.
type PublicServer struct {
	// Address is that of the server.
	Address netip.Addr `yaml:"address"`
	// TCP and UDP are the ports of its services; without any, all are.
	TCP []uint16 `yaml:"tcp"`
	// UDP ports.
	UDP []uint16 `yaml:"udp"`
}

// DefaultConfiguration redirects nothing until the interfaces are named.
func DefaultConfiguration() Configuration {
	return Configuration{Unused: []netip.Prefix{}, Networks: []netip.Prefix{}, Public: []PublicServer{}, Honeypots: []Honeypot{}, Share: 1000, PerSecond: 500, Mark: 0x7261}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Inside != "", "inside", "is empty; name the interface toward the inbound honeypots")
	p.Check(len(c.Inside) < 16 && len(c.Outside) < 16, "inside", "%q or %q is longer than an interface name can be", c.Inside, c.Outside)
	p.Check(c.Outside == "" || c.Outside != c.Inside, "outside", "is the same interface as inside")
	p.Check(c.Share >= 1 && c.Share <= 1000, "share", "is %d; want 1 to 1000 of a thousand", c.Share)
	p.Check(c.PerSecond >= 1 && c.PerSecond <= 1_000_000, "per_second", "is %d; want 1 to 1000000", c.PerSecond)
	p.Check(c.Mark > 0 && c.Mark < 1<<31, "mark", "is %d; want 1 to 2147483647", c.Mark)
	for i, n := range c.Unused {
		p.Check(n.IsValid() && n == n.Masked(), fmt.Sprintf("unused[%d]", i), "%s is not a prefix such as 192.0.2.192/27", n)
	}
	p.Check(c.Outside == "" || len(c.Unused)+len(c.Networks) > 0, "unused", "is empty; name our prefixes without hosts")
	c.checkNetworks(&p)
	p.Check(c.Outside == "" || len(c.Honeypots) > 0, "honeypots", "is empty; name where connections are brought")
	for i, h := range c.Honeypots {
		key := fmt.Sprintf("honeypots[%d].address", i)
		p.Check(h.Address.IsValid() && !h.Address.Is4In6(), key, "is not an address")
		for _, n := range c.Unused {
			p.Check(!n.Contains(h.Address), key, "%s lies in the unused prefix %s", h.Address, n)
		}
	}
	return p.Join()
}

func (c *Configuration) checkNetworks(p *conf.Problems) {
	contains := func(all []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(all, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	p.Check(len(c.Networks) == 0 || c.Outside != "", "networks", "needs redirect.outside, the interface that connections come in on")
	p.Check(len(c.Networks) == 0 || len(c.Public) > 0, "public", "is empty; name the servers that stay reachable, or list prefixes without hosts under unused")
	for i, n := range c.Networks {
		key := fmt.Sprintf("networks[%d]", i)
		p.Check(n.IsValid() && n == n.Masked(), key, "%s is not a prefix such as 192.0.2.0/24", n)
		p.Check(!slices.ContainsFunc(c.Networks[:i], n.Overlaps), key, "%s overlaps one before it", n)
		for _, h := range c.Honeypots {
			p.Check(!n.Contains(h.Address), key, "%s contains the honeypot %s", n, h.Address)
		}
	}
	for i, s := range c.Public {
		key := fmt.Sprintf("public[%d].address", i)
		p.Check(contains(c.Networks, s.Address), key, "%s is not in networks", s.Address)
		p.Check(!contains(c.Unused, s.Address), key, "%s is in an unused prefix", s.Address)
	}
}
