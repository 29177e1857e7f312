//go:build linux

// Package ripcord runs the gateway between one host and its network: those who
// receive what the host sends can end it, by an ordinary RST or, for anything
// but TCP, by the protocol in PROTOCOL.md.
//
// The packets themselves are judged by the programs of contain/ripcord/bpf,
// which stay in the kernel when this process ends. This package maintains their
// tables: the sources of the host, the key of the nonces, expired connections,
// and it answers the messages of victims who want a conversation to end.
package ripcord

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"time"

	"dragnet/contain/ripcord/tables"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
)

// Configuration of the role ripcord.
type Configuration struct {
	// Host is the interface to the host. The gateway takes over both
	// interfaces: they need no addresses, and their IPv6 addresses are removed.
	Host string `yaml:"host"`
	// Network is the interface to everything else.
	Network string `yaml:"network"`
	// Ports are several hosts, such as the virtual machines of a hypervisor; then
	// host, network and addresses are those of each port. Pins and state have a folder
	// for each, and all else holds for all.
	Ports []Port `yaml:"ports"`
	// Enforce drops and shifts; without it the gateway only counts what it
	// would drop.
	Enforce bool `yaml:"enforce"`
	// FailOpen lets segments pass whose connection the gateway does not know:
	// of connections from before its first start, of new ones when the table
	// is full, and any that a hostile host makes up. Their peers cannot end
	// them. They are counted, and the log warns. The default refuses them.
	FailOpen bool `yaml:"fail_open"`
	// SignedTCP says what happens to connections with TCP-MD5 or TCP-AO,
	// whose numbers cannot be shifted: refuse, or pass without nonces.
	SignedTCP string `yaml:"signed_tcp"`
	// Pins is a folder in a BPF file system; its contents outlive the agent.
	Pins string `yaml:"pins"`
	// State is the folder of the standing decision and the record of blocks.
	State string `yaml:"state"`
	// RunAs is the user the agent switches to once the gateway runs.
	RunAs string `yaml:"run_as"`

	// Addresses are those of the host, if known. Others are learnt.
	Addresses []netip.Addr `yaml:"addresses"`
	// Learn bounds the addresses a host may take for itself.
	Learn Learn `yaml:"learn"`

	// Connections bounds the tables. A change takes effect when the pinned
	// tables are removed.
	Connections Connections `yaml:"connections"`
	// Block is how long the host may not open a connection again that the peer
	// refused by a valid RST. Of a connection that the peer ended later nothing
	// leaves either, but the host may open another at once.
	Block time.Duration `yaml:"block"`
	// Coarse says when a port that answers new connections by RST is left
	// alone.
	Coarse Coarse `yaml:"coarse"`
	// Idle says when connections are forgotten.
	Idle Idle `yaml:"idle"`
	// Pull bounds terminations by protocol.
	Pull PullLimits `yaml:"pull"`

	// Findings says when requests to be silent make a finding about the host itself.
	Findings Findings `yaml:"findings"`

	// Admin is where health checks and metrics are served, on this machine only.
	Admin admin.Configuration `yaml:"admin"`
	// Logging configures the log on standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// Port is one of several hosts behind an agent.
type Port struct {
	// Name is that of its folders, and of its label in metrics.
	Name string `yaml:"name"`
	// Host is the interface to the host, such as the tap of a virtual machine.
	Host string `yaml:"host"`
	// Network is the interface to everything else, such as one end of a veth pair whose
	// other end is a port of a bridge.
	Network string `yaml:"network"`
	// Addresses are those of the host, as the operator knows them, link-local ones too.
	// Then no other is learnt; without them a host may take its neighbour's.
	Addresses []netip.Addr `yaml:"addresses"`
}

// maxPorts bounds the hosts behind one agent.
const maxPorts = 256

// portName matches names that can be part of a file's name.
var portName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// validatePorts checks the ports, or that there is one host without them.
func (c *Configuration) validatePorts(p *conf.Problems) {
	if len(c.Ports) == 0 {
		p.Check(c.Host != "" && c.Network != "" && c.Host != c.Network, "host", "host and network must name two interfaces")
		return
	}
	p.Check(c.Host == "" && c.Network == "" && len(c.Addresses) == 0, "host", "host, network and addresses are those of each port where there are ports")
	p.Check(len(c.Ports) <= maxPorts, "ports", "%d are more than the limit of %d", len(c.Ports), maxPorts)
	names, interfaces := map[string]bool{}, map[string]bool{}
	for i, port := range c.Ports {
		key := fmt.Sprintf("ports[%d].", i)
		p.Check(portName.MatchString(port.Name) && !names[port.Name], key+"name", "%q: want a name of its own of 1 to 32 lower-case letters, digits, - and _", port.Name)
		names[port.Name] = true
		for name, dev := range map[string]string{"host": port.Host, "network": port.Network} {
			p.Check(dev != "" && !interfaces[dev], key+name, "%q: want an interface that is named once", dev)
			interfaces[dev] = true
		}
		validateAddresses(p, key+"addresses", port.Addresses)
	}
}

func validateAddresses(p *conf.Problems, key string, all []netip.Addr) {
	for i, a := range all {
		ok := a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback() && !a.Is4In6()
		p.Check(ok, fmt.Sprintf("%s[%d]", key, i), "%v is not a valid host address", a)
	}
	p.Check(len(all) <= 64, key, "%d are more than the limit of 64", len(all))
}

// ForPorts returns a configuration for each host, without ports.
func (c *Configuration) ForPorts() []Configuration {
	if len(c.Ports) == 0 {
		return []Configuration{*c}
	}
	var all []Configuration
	for _, port := range c.Ports {
		one := *c
		one.Ports, one.Host, one.Network, one.Addresses = nil, port.Host, port.Network, port.Addresses
		if len(port.Addresses) > 0 {
			one.Learn.IPv4, one.Learn.IPv6 = 0, 0
		}
		// Beside each other: a folder of pins holds nothing but pins.
		one.Pins, one.State = c.Pins+"-"+port.Name, filepath.Join(c.State, port.Name)
		all = append(all, one)
	}
	return all
}

// Learn bounds the addresses a host may take for itself.
type Learn struct {
	// IPv4 is how many IPv4 addresses are learnt.
	IPv4 int `yaml:"ipv4"`
	// IPv6 is how many IPv6 addresses are learnt, link-local ones included.
	IPv6 int `yaml:"ipv6"`
	// Quiet is how long an address must not have been used before another may
	// take its place.
	Quiet time.Duration `yaml:"quiet"`
}

// Connections are numbers of table entries.
type Connections struct {
	// IPv4 is how many connections of IPv4 there is room for.
	IPv4 int `yaml:"ipv4"`
	// IPv6 is how many of IPv6.
	IPv6 int `yaml:"ipv6"`
	// HalfOpen is how many connections that began with a SYN from outside may wait
	// for their peer's agreement, of each family. The oldest give way: with F
	// spoofed SYNs a second, handshakes that take longer than HalfOpen/F s fail.
	HalfOpen int `yaml:"half_open"`
}

// Coarse says when a port that answers new connections by RST is left alone.
type Coarse struct {
	// Resets is how many RSTs, faster than two a second, raise the block; from
	// any ports of one peer it takes four times as many.
	Resets int `yaml:"resets"`
	// Duration is the longest block: it begins with a second, and doubles.
	Duration time.Duration `yaml:"duration"`
}

// Idle says when connections are forgotten.
type Idle struct {
	// Handshake is for connections that are not agreed on.
	Handshake time.Duration `yaml:"handshake"`
	// Established is for open connections.
	Established time.Duration `yaml:"established"`
	// Closed is for connections that both sides have closed; the next use
	// of their ports must be distinguished from the last.
	Closed time.Duration `yaml:"closed"`
}

// PullLimits bound terminations by protocol.
type PullLimits struct {
	// Port is the UDP port of the protocol, at the host's address.
	Port uint16 `yaml:"port"`
	// Active is how recent a conversation must be to be ended.
	Active time.Duration `yaml:"active"`
	// Longest is how long one may be ended.
	Longest time.Duration `yaml:"longest"`
	// PerSecond bounds the requests answered per second for each /24 or /48 of
	// victims. What is not a request, or names no address that the host sends to, does
	// not count.
	PerSecond int `yaml:"per_second"`
}

// DefaultConfiguration observes.
func DefaultConfiguration() Configuration {
	return Configuration{
		SignedTCP: "refuse", Pins: "/sys/fs/bpf/dragnet-ripcord", State: "/var/lib/dragnet-ripcord",
		RunAs:       "nobody",
		Learn:       Learn{IPv4: 1, IPv6: 16, Quiet: time.Minute},
		Connections: Connections{IPv4: 65536, IPv6: 65536, HalfOpen: 65536},
		Block:       30 * time.Second,
		Coarse:      Coarse{Resets: 8, Duration: time.Minute},
		Idle:        Idle{Handshake: 75 * time.Second, Established: 120 * time.Hour, Closed: 2 * time.Minute},
		Pull:        PullLimits{Port: 4817, Active: 30 * time.Second, Longest: time.Hour, PerSecond: 1000},
		Findings:    Findings{Networks: 3, Window: 24 * time.Hour},
		Logging:     logging.DefaultConfiguration(),
	}
}

// LoadConfiguration reads files over the defaults.
func LoadConfiguration(files ...string) (Configuration, error) {
	return conf.LoadOver(DefaultConfiguration(), files...)
}

// longest bounds the difference of two times: the kernel's are 32 bits of
// milliseconds, compared by difference.
const longest = 20 * 24 * time.Hour

// Validate reports every invalid value.
func (c *Configuration) Validate() error {
	var p conf.Problems
	c.validatePorts(&p)
	p.Check(c.SignedTCP == "refuse" || c.SignedTCP == "pass", "signed_tcp", "is %q; write refuse or pass", c.SignedTCP)
	validateAddresses(&p, "addresses", c.Addresses)
	for key, d := range map[string]time.Duration{
		"learn.quiet": c.Learn.Quiet, "block": c.Block, "coarse.duration": c.Coarse.Duration, "idle.handshake": c.Idle.Handshake,
		"idle.established": c.Idle.Established, "idle.closed": c.Idle.Closed, "pull.active": c.Pull.Active, "pull.longest": c.Pull.Longest,
		"findings.window": c.Findings.Window,
	} {
		p.Check(d >= time.Second && d <= longest, key, "%v is not between 1s and %v", d, longest)
	}
	for key, n := range map[string]int{
		"learn.ipv4": c.Learn.IPv4, "learn.ipv6": c.Learn.IPv6,
	} {
		p.Check(n >= 0 && n <= 64, key, "%d is not between 0 and 64", n)
	}
	for key, n := range map[string]int{
		"connections.ipv4": c.Connections.IPv4, "connections.ipv6": c.Connections.IPv6, "connections.half_open": c.Connections.HalfOpen, "coarse.resets": c.Coarse.Resets, "pull.per_second": c.Pull.PerSecond,
		"findings.networks": c.Findings.Networks,
	} {
		p.Check(n >= 1 && n <= 1<<26, key, "%d is not between 1 and %d", n, 1<<26)
	}
	p.Check(c.Pull.Port != 0, "pull.port", "must not be 0")
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	return p.Join()
}

func (c *Configuration) kernelSettings(observe bool) tables.Settings {
	return tables.Settings{
		Observe: observe, FailOpen: c.FailOpen, SignedPass: c.SignedTCP == "pass",
		BlockMS: toMilliseconds(c.Block), CoarseMS: toMilliseconds(c.Coarse.Duration), CoarseResets: uint32(c.Coarse.Resets),
		HandshakeMS: toMilliseconds(c.Idle.Handshake), EstablishedMS: toMilliseconds(c.Idle.Established),
		ClosedMS:    toMilliseconds(c.Idle.whenFilled(1, 1).Closed), // they are for a full table
		ControlPort: c.Pull.Port,
	}
}

func toMilliseconds(d time.Duration) uint32 { return uint32(d.Milliseconds()) }
