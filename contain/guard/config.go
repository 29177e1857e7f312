package guard

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"time"

	"dragnet/daw"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/packet/live"
	"dragnet/wire/channel"
)

// Configuration of the role guard.
type Configuration struct {
	// Site is the network of this organisation. Where scope.sources is empty,
	// its networks are watched, and its exempt sources are never judged.
	Site flow.Site `yaml:"site"`
	// Name identifies this edge in reports and receipts; empty takes the host
	// name.
	Name string `yaml:"name"`
	// Live is the interface toward the customer network, and how much of its
	// packets is kept.
	Live live.Configuration `yaml:"live"`
	// Scope is S and P: the sources whose requests are watched, and to which
	// ports. The station, if there is one, can replace it.
	Scope daw.Scope `yaml:"scope"`
	// Kernel has the limits act in the kernel, on each packet. Without interfaces, the
	// guard watches the interface of 'live', and acts by nftables.
	Kernel KernelConfiguration `yaml:"kernel"`
	// Limits are the parameters of DAW.
	Limits daw.Parameters `yaml:"limits"`
	// Allow lists addresses that are never held back or blocked, whatever the
	// station decides.
	Allow []netip.Prefix `yaml:"allow"`
	// Standing is the decision under which this guard acts on its own. Without
	// it, and without a policy from a station, it only counts.
	Standing StandingConfiguration `yaml:"standing"`
	// Validation says how source addresses are known to be true.
	Validation ValidationConfiguration `yaml:"validation"`
	// Most bounds the addresses blocked at this router at a time, by all
	// decisions together.
	Most int `yaml:"most"`
	// Holds bounds the sources held back at a time. Sources beyond it pass, which
	// the log and the metrics say.
	Holds int `yaml:"holds"`
	// Every is how often the guard looks for persistent scanners.
	Every time.Duration `yaml:"every"`
	// Station has this guard report to the station of the node that it is
	// enrolled with, and follow its policy. Without, it acts alone.
	Station bool `yaml:"station"`
	// Channel configures the connection of an enrolled agent to its node.
	Channel channel.Configuration `yaml:"channel"`
	// Edges are the other edges of the same customer network.
	Edges EdgesConfiguration `yaml:"edges"`
	// Report is the interval between reports to the station.
	Report time.Duration `yaml:"report"`
	// State is the folder of the state that survives a restart and of
	// events.jsonl; empty keeps nothing.
	State string `yaml:"state"`
	// Save is how often the state is saved, besides at the end.
	Save time.Duration `yaml:"save"`
	// UndoAtStop removes all blocks when the role stops; otherwise they last
	// until they expire.
	UndoAtStop bool `yaml:"undo_at_stop"`
	// Admin is where health checks and metrics are served, on this machine only.
	Admin admin.Configuration `yaml:"admin"`
	// Logging configures the log on standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// KernelConfiguration has eBPF programs judge and count (Linux 6.6 or later).
type KernelConfiguration struct {
	// Interfaces are those toward the customer network, of a router or ports of a
	// bridge. They share the counters.
	Interfaces []string `yaml:"interfaces"`
	// Pins is a folder in a BPF file system where the counters outlive the agent.
	Pins string `yaml:"pins"`
	// Stay has the limits go on while no agent runs: after it was killed, or with
	// 'undo_at_stop: false'. Without, all packets pass then.
	Stay bool `yaml:"stay"`
}

// mostKernelRecords bounds the records of a tier that the kernel walks at midnight.
const mostKernelRecords = 1 << 22

// isUsed reports whether the limits are in the kernel.
func (c *KernelConfiguration) isUsed() bool { return len(c.Interfaces) > 0 }

// Validate reports all invalid settings.
func (c *KernelConfiguration) Validate() error {
	var p conf.Problems
	for i, name := range c.Interfaces {
		p.Check(name != "", fmt.Sprintf("interfaces[%d]", i), "is empty: name an interface such as eth1")
	}
	p.Check(c.Pins != "" || !c.Stay, "pins", "is empty: what stays needs a folder in a BPF file system, such as /sys/fs/bpf/dragnet-guard")
	return p.Join()
}

// StandingConfiguration is a standing decision as an operator writes it down.
type StandingConfiguration struct {
	// By names the person who decided; empty means no standing decision.
	By string `yaml:"by"`
	// Why is for those who are affected.
	Why string `yaml:"why"`
	// Enforce makes it take effect; without it, it is a dry run.
	Enforce bool `yaml:"enforce"`
	// Most is how many addresses may be blocked under it at a time. Sources that
	// are held back for the moment, since they are at a limit, are not counted.
	Most int `yaml:"most"`
	// For is how long it is valid after each start of the role.
	For time.Duration `yaml:"for"`
}

// DefaultConfiguration watches nothing until a scope and an interface are set,
// and blocks nothing.
func DefaultConfiguration() Configuration {
	enrolled := channel.DefaultConfiguration()
	enrolled.State += "/guard" // where 'dragnet-agent enrol guard' puts it
	return Configuration{
		Channel: enrolled, Live: live.DefaultConfiguration(), Limits: daw.DefaultParameters(), Standing: StandingConfiguration{Most: 10, For: 30 * 24 * time.Hour},
		Kernel: KernelConfiguration{Pins: "/sys/fs/bpf/dragnet-guard", Stay: true},
		Most:   1000, Holds: 1 << 16, Every: time.Minute, Report: 10 * time.Second, State: "/var/lib/dragnet-guard", Save: 5 * time.Minute, UndoAtStop: true,
		Logging: logging.DefaultConfiguration(),
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Section("site", c.Site.Validate())
	p.Section("channel", c.Channel.Validate())
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	scope := c.watchedScope()
	p.Section("scope", scope.Validate())
	_, err := c.Limits.Validate()
	p.Section("limits", err)
	p.Section("kernel", c.Kernel.Validate())
	if l := &c.Limits; c.Kernel.isUsed() {
		p.Check(l.Records <= mostKernelRecords && l.Entries <= mostKernelRecords && l.Waiting <= mostKernelRecords, "limits",
			"records, entries and waiting are at most %d in the kernel, which walks them while packets wait", mostKernelRecords)
	}
	for i, n := range c.Allow {
		p.Check(n.IsValid(), fmt.Sprintf("allow[%d]", i), "is not a prefix such as 198.51.100.7/32")
	}
	p.Check(c.Most >= 1, "most", "is %d; want at least 1 address", c.Most)
	p.Check(c.Holds >= 1 && c.Holds <= 1<<20, "holds", "is %d; want 1 to %d sources", c.Holds, 1<<20)
	p.Section("edges", c.Edges.Validate())
	limits := c.Limits.Split(c.Edges.count())
	if _, err := limits.Validate(); err != nil && c.Edges.count() > 1 {
		p.Section("edges", fmt.Errorf("peers: divided by %d edges: limits.%w", c.Edges.count(), err))
	}
	p.Section("validation", c.Validation.Validate())
	p.Check(c.Validation.isValidated() || !c.Standing.Enforce, "validation", "is empty: name who validates source addresses ('by'), or the stations they are bound to ('bindings'); "+
		"else anybody can have a neighbour held back, so that enforcement is refused")
	p.Check(!c.Live.Promiscuous || !c.Standing.Enforce, "live.promiscuous", "shows a mirror port, where the direction of packets is not known; enforcement needs the router's own interface")
	p.Check(c.Every >= time.Second, "every", "is %v; want at least 1s", c.Every)
	p.Check(c.Report >= 100*time.Millisecond && c.Report <= time.Hour, "report", "is %v; want 100ms to 1h", c.Report)
	p.Check(c.Save >= time.Second, "save", "is %v; want at least 1s", c.Save)
	s := &c.Standing
	p.Check(s.By != "" || !s.Enforce, "standing.by", "is empty; say who decided that sources may be held back: enforcement needs a name")
	p.Check(s.By == "" || s.Why != "", "standing.why", "is empty; say why, for those who are affected")
	p.Check(s.By == "" || s.Most >= 1, "standing.most", "is %d; want at least 1 address", s.Most)
	p.Check(s.By == "" || s.For > 0, "standing.for", "is %v; want a positive duration", s.For)
	return p.Join()
}

// watchedScope is the scope as configured, completed from the site where it is
// empty.
func (c *Configuration) watchedScope() daw.Scope {
	s := c.Scope
	if len(s.Sources) == 0 {
		s.Sources = c.Site.Networks
	}
	s.Exempt = append(append([]netip.Prefix{}, s.Exempt...), c.Site.Exempt...)
	return s
}

// allAddresses is the target of a standing decision: all addresses in the
// scope.
func allAddresses() netip.Prefix { return netip.MustParsePrefix("0.0.0.0/0") }

func (s *StandingConfiguration) makeDecision(now flow.Time) dossier.Decision {
	v := dossier.DryRun
	if s.Enforce {
		v = dossier.Active
	}
	return dossier.Decision{
		Version: dossier.DecisionVersion, ID: deriveID("standing", s.By, s.Why, now), Target: allAddresses(), Verdict: v, Why: s.Why,
		Findings: []string{}, Until: now + flow.Time(s.For), Standing: &dossier.Standing{Rule: "daw", Most: s.Most},
		Steps: []dossier.Step{{Time: now, Who: s.By, Verdict: v, Why: s.Why}},
		Undo:  "remove 'standing' from the guard's configuration and restart it",
	}
}

// deriveID is a short identifier, the same for the same facts.
func deriveID(facts ...any) string {
	h := sha256.Sum256(fmt.Appendln(nil, facts...))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:10])
}
