package dnsbl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Configuration of the DNS list.
type Configuration struct {
	// Listen is the address of UDP and TCP, such as 203.0.113.1:53; empty serves
	// none.
	Listen string `yaml:"listen"`
	// Zone is the domain of the list, such as bl.example.org; empty writes none.
	Zone string `yaml:"zone"`
	// Nameservers are the names of the zone's servers, the first one this.
	Nameservers []string `yaml:"nameservers"`
	// Hostmaster is a mail address with its @ written as a dot.
	Hostmaster string `yaml:"hostmaster"`
	// MinConfidence is what a host needs to be on the list.
	MinConfidence int `yaml:"min_confidence"`
	// TTL is how long an answer may be kept.
	TTL time.Duration `yaml:"ttl"`
	// Secondaries may fetch the whole zone, and are told when it changes.
	Secondaries []string `yaml:"secondaries"`
	// PerSecond is how many queries a network (IPv4 /24, IPv6 /56) may ask in a
	// second; more are refused.
	PerSecond int `yaml:"per_second"`
	// Objections is set from the section it is part of.
	Objections string `yaml:"-"`
}

// DefaultConfiguration has no zone.
func DefaultConfiguration() Configuration {
	return Configuration{Nameservers: []string{}, Secondaries: []string{}, MinConfidence: 50, TTL: 10 * time.Minute, PerSecond: 1000}
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	if c.Zone == "" {
		if c.Listen != "" {
			return errors.New("publish.dnsbl: listen needs a zone")
		}
		return nil
	}
	if _, ok := dns.IsDomainName(c.Zone); !ok || len(c.Zone) > 180 {
		return fmt.Errorf("publish.dnsbl.zone: %.200q is not a domain name of at most 180 bytes", c.Zone)
	}
	if len(c.Nameservers) == 0 || c.Hostmaster == "" {
		return errors.New("publish.dnsbl: nameservers and hostmaster are needed, as in any zone")
	}
	for _, name := range append([]string{c.Hostmaster}, c.Nameservers...) {
		if _, ok := dns.IsDomainName(name); !ok {
			return fmt.Errorf("publish.dnsbl: %.200q is not a domain name", name)
		}
	}
	if c.TTL < time.Second || c.TTL > 24*time.Hour || c.PerSecond < 1 || c.MinConfidence < 0 || c.MinConfidence > 100 {
		return errors.New("publish.dnsbl: ttl is 1s to 24h, per_second at least 1, min_confidence 0 to 100")
	}
	for _, s := range c.Secondaries {
		if _, err := parseSecondary(s); err != nil {
			return fmt.Errorf("publish.dnsbl.secondaries: %q: want an address, with or without a port", s)
		}
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return fmt.Errorf("publish.dnsbl.listen: %w; want such as 203.0.113.1:53", err)
		}
	}
	return nil
}

// parseSecondary reads an address with or without a port, which is 53.
func parseSecondary(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}
