package redirect

import (
	"net/netip"
	"strings"
	"testing"
)

func TestConfigurationMistakes(t *testing.T) {
	good := func() Configuration {
		c := DefaultConfiguration()
		c.Inside, c.Outside = "hp0", "eth0"
		c.Unused = []netip.Prefix{netip.MustParsePrefix("192.0.2.192/27")}
		c.Honeypots = []Honeypot{{Address: netip.MustParseAddr("10.66.0.2")}}
		return c
	}
	c := good()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Configuration){
		"inside":               func(c *Configuration) { c.Inside = "" },
		"outside":              func(c *Configuration) { c.Outside = "hp0" },
		"unused":               func(c *Configuration) { c.Unused = nil },
		"unused[0]":            func(c *Configuration) { c.Unused[0] = netip.MustParsePrefix("192.0.2.193/27") },
		"honeypots":            func(c *Configuration) { c.Honeypots = nil },
		"honeypots[0].address": func(c *Configuration) { c.Honeypots[0].Address = netip.MustParseAddr("192.0.2.200") },
		"public":               func(c *Configuration) { c.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} },
		"networks[0]": func(c *Configuration) {
			c.Networks = []netip.Prefix{netip.MustParsePrefix("10.66.0.0/24")}
			c.Public = []PublicServer{{Address: netip.MustParseAddr("10.66.0.9")}}
		},
		"networks[1]": func(c *Configuration) {
			c.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("198.51.100.128/25")}
			c.Public = []PublicServer{{Address: netip.MustParseAddr("198.51.100.9")}}
		},
		"public[0].address": func(c *Configuration) {
			c.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
			c.Public = []PublicServer{{Address: netip.MustParseAddr("203.0.113.9")}}
		},
		"share":      func(c *Configuration) { c.Share = 0 },
		"per_second": func(c *Configuration) { c.PerSecond = 0 },
		"mark":       func(c *Configuration) { c.Mark = 0 },
	} {
		c := good()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
