package dnsbl

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"dragnet/internal/conf"
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
	// TransferKey is the name of the key that must sign requests for the zone
	// (TSIG, RFC 8945, HMAC-SHA256); it signs answers and notices, too. Empty
	// trusts the addresses of Secondaries alone.
	TransferKey string `yaml:"transfer_key"`
	// TransferSecret is that key, in base64.
	TransferSecret conf.Secret `yaml:"transfer_secret"`
	// PerSecond is how many queries a network (IPv4 /24, IPv6 /56) may ask in a
	// second, and again over TCP or with a DNS cookie, where others cannot ask in its
	// name; more are refused.
	PerSecond int `yaml:"per_second"`
	// Objections is set from the section it is part of.
	Objections string `yaml:"-"`
}

// DefaultConfiguration has no zone.
func DefaultConfiguration() Configuration {
	return Configuration{Nameservers: []string{}, Secondaries: []string{}, MinConfidence: 50, TTL: 10 * time.Minute, PerSecond: 1000}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	if c.Zone == "" {
		p.Check(c.Listen == "", "zone", "is empty; listen needs one, such as bl.example.org")
		return p.Join()
	}
	isName := func(s string) bool { _, ok := dns.IsDomainName(s); return ok && s != "" }
	p.Check(isName(c.Zone) && len(c.Zone) <= 180, "zone", "%.200q is not a domain name of at most 180 bytes", c.Zone)
	p.Check(len(c.Nameservers) > 0, "nameservers", "is empty; a zone names its servers")
	p.Check(isName(c.Hostmaster), "hostmaster", "%.200q is not a mail address with a dot for its @", c.Hostmaster)
	for i, name := range c.Nameservers {
		p.Check(isName(name), fmt.Sprintf("nameservers[%d]", i), "%.200q is not a domain name", name)
	}
	p.Check(c.TTL >= time.Second && c.TTL <= 24*time.Hour, "ttl", "is %v; want 1s to 24h", c.TTL)
	p.Check(c.PerSecond >= 1, "per_second", "is %d; want at least 1", c.PerSecond)
	p.Check(c.MinConfidence >= 0 && c.MinConfidence <= 100, "min_confidence", "is %d; want 0 to 100", c.MinConfidence)
	secret, err := base64.StdEncoding.DecodeString(c.TransferSecret.Reveal())
	p.Check(c.TransferKey == "" && c.TransferSecret == "" || isName(c.TransferKey) && err == nil && len(secret) >= 16, "transfer_key", "want a name, and transfer_secret in base64 of at least 16 bytes, such as 'tsig-keygen' makes")
	for i, s := range c.Secondaries {
		_, err := parseSecondary(s)
		p.Check(err == nil, fmt.Sprintf("secondaries[%d]", i), "%q: want an address, with or without a port", s)
	}
	if c.Listen != "" {
		_, _, err := net.SplitHostPort(c.Listen)
		p.Check(err == nil, "listen", "%w; want such as 203.0.113.1:53", err)
	}
	return p.Join()
}

// parseSecondary reads an address with or without a port, which is 53.
func parseSecondary(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}
