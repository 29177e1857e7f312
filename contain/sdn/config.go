// Package sdn applies Decisions at an OpenFlow switch: packets of a source are
// dropped, metered, sent to a port with a middlebox behind it, or moved to a path
// that leads through the switch of another server.
//
// It speaks OpenFlow 1.3 to the switch on a connection that it opens for each
// Apply and closes again, so that there is no connection to lose. Open vSwitch
// accepts such connections at a bridge's management socket, and on TCP or TLS
// where a controller "ptcp:" or "pssl:" is added to the bridge. That is the way
// that leaves its other controllers alone: a switch which calls us would count us
// as a primary controller, and what it does when controllers are away (fail-mode)
// would hang on us as well. For the same reason no role is asked for.
//
// Rules carry a cookie by which they are known after a restart of either side, and
// a hard timeout, so that the switch forgets those that are not renewed.
// Apply makes the switch's rules with that cookie equal to the active decisions:
// what an earlier run left behind goes with the first call. It does so in one
// bundle; a switch without bundles gets the changes one by one, and its former
// rules back if it refuses one. Receipts report what the switch lists afterwards,
// with its counters.
package sdn

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Restraint is what is done to the packets of a source.
type Restraint string

// The restraints.
const (
	Drop    Restraint = "drop"
	Slow    Restraint = "meter"
	Reroute Restraint = "reroute"
	Move    Restraint = "move"
)

// Configuration of one switch.
type Configuration struct {
	// Name identifies the switch in receipts.
	Name string `yaml:"name"`
	// Address is where it listens: unix:/run/openvswitch/br0.mgmt,
	// tcp:192.0.2.1:6653, or tls:192.0.2.1:6653.
	Address string `yaml:"address"`
	// TLS names the files for tls: addresses.
	TLS TLS `yaml:"tls"`
	// Enforce lets rules be put into the switch; without it, what would be done
	// is reported, and rules of ours that are there are taken out.
	Enforce bool `yaml:"enforce"`
	// Allow lists sources that are never touched.
	Allow []netip.Prefix `yaml:"allow"`
	// Restraint is drop, meter, reroute or move.
	Restraint Restraint `yaml:"restraint"`
	// Rate is what all metered sources may send together, in kbit/s.
	Rate uint32 `yaml:"rate"`
	// Burst is what they may send at once, in kbit.
	Burst uint32 `yaml:"burst"`
	// Meter is the number of the meter, which no other program may use.
	Meter uint32 `yaml:"meter"`
	// Port is the name of the port to which packets are rerouted.
	Port string `yaml:"port"`
	// Detour says how packets are moved.
	Detour Detour `yaml:"detour"`
	// Priority of the rules, which should be above that of any other rule.
	Priority uint16 `yaml:"priority"`
	// Lease is how long a rule stays if it is not renewed, at most 18h12m15s.
	Lease time.Duration `yaml:"lease"`
	// Timeout bounds one exchange with the switch.
	Timeout time.Duration `yaml:"timeout"`
}

// TLS names files in PEM form.
type TLS struct {
	// Authority signs the switch's certificate; ovs-pki calls it
	// switchca/cacert.pem.
	Authority string `yaml:"authority"`
	// Certificate is ours.
	Certificate string `yaml:"certificate"`
	// Key is the private key of our certificate.
	Key string `yaml:"key"`
	// Name, unless empty, must be a name of the switch's certificate: without
	// it, any switch of the authority may answer for this one.
	Name string `yaml:"name"`
}

// DefaultConfiguration is a dry run that would drop. The meter has a number that
// Open vSwitch accepts and others are unlikely to take.
func DefaultConfiguration() Configuration {
	return Configuration{Restraint: Drop, Allow: []netip.Prefix{}, Detour: DefaultDetour(), Rate: 1000, Burst: 1000, Meter: 60_000, Priority: 65_000, Lease: 10 * time.Minute, Timeout: 10 * time.Second}
}

// WithDefaults fills settings that are zero from the defaults.
func (c Configuration) WithDefaults() Configuration {
	d := DefaultConfiguration()
	c.Restraint, c.Rate, c.Burst, c.Meter = cmp.Or(c.Restraint, d.Restraint), cmp.Or(c.Rate, d.Rate), cmp.Or(c.Burst, d.Burst), cmp.Or(c.Meter, d.Meter)
	c.Detour.Every = cmp.Or(c.Detour.Every, d.Detour.Every)
	c.Priority, c.Lease, c.Timeout = cmp.Or(c.Priority, d.Priority), cmp.Or(c.Lease, d.Lease), cmp.Or(c.Timeout, d.Timeout)
	return c
}

// maxTimeout is what the hard timeout of a rule holds.
const maxTimeout = (1<<16 - 1) * time.Second

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	network, address := c.splitAddress()
	switch {
	case network == "" || address == "":
		return fmt.Errorf("the address of a switch is %q; want such as unix:/run/openvswitch/br0.mgmt, tcp:192.0.2.1:6653 or tls:192.0.2.1:6653", c.Address)
	case network == "tls" && (c.TLS.Authority == "" || c.TLS.Certificate == "" || c.TLS.Key == ""):
		return fmt.Errorf("%s needs tls.authority, tls.certificate and tls.key", c.Address)
	case !slices.Contains([]Restraint{Drop, Slow, Reroute, Move}, c.Restraint):
		return fmt.Errorf("restraint %q is none of drop, meter, reroute and move", c.Restraint)
	case c.Restraint == Slow && (c.Rate == 0 || c.Burst == 0 || c.Meter == 0):
		return fmt.Errorf("to meter needs a rate, a burst and the number of a meter")
	case c.Restraint == Reroute && (c.Port == "" || len(c.Port) > 15):
		return fmt.Errorf("to reroute needs the name of a port, of at most 15 letters")
	case c.Lease < time.Second || c.Lease > maxTimeout:
		return fmt.Errorf("lease %s is not between 1s and %s", c.Lease, maxTimeout)
	case c.Timeout <= 0:
		return fmt.Errorf("timeout must be positive")
	}
	for i, p := range c.Allow {
		if !p.IsValid() || p != p.Masked() {
			return fmt.Errorf("allow[%d]: %s is not a prefix such as 198.51.100.0/24", i, p)
		}
	}
	if c.Restraint == Move {
		return c.validateDetour()
	}
	return nil
}

// splitAddress takes Address apart; network is empty if it is of no known form.
func (c *Configuration) splitAddress() (network, address string) {
	network, address, _ = strings.Cut(c.Address, ":")
	switch network {
	case "unix", "tcp", "tls":
		return network, address
	case "ssl": // as Open vSwitch calls it
		return "tls", address
	}
	return "", ""
}

func (c *Configuration) describeSwitch() string { return "openflow: " + c.Name + " at " + c.Address }
