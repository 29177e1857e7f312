//go:build linux

// Package trap is the double honeypot (Tang 2006, section 2): it brings unwanted
// connections to inbound honeypots, takes everything that those send to an array
// of emulated services, keeps it, and reports it to the node.
//
// Inbound honeypots are the operator's own machines. They never open connections
// by themselves, so whatever one sends is an attack, and nothing that it sends
// leaves: the rules that say so are put in before anything is brought to it, and
// stay when the agent stops.
package trap

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/doctor"
	"dragnet/internal/logging"
	"dragnet/internal/metric"
	"dragnet/internal/run"
	"dragnet/trap/array"
	"dragnet/trap/recording"
	"dragnet/trap/redirect"
	"dragnet/trap/session"
	"dragnet/trap/vault"
	"dragnet/wire/channel"
)

// Configuration of the role trap.
type Configuration struct {
	// Site is the network of this organisation; site.unused are the prefixes for
	// which the trap answers, unless redirect.unused names others.
	Site flow.Site `yaml:"site"`
	// Redirect brings connections to honeypots, and what those send to the array.
	Redirect redirect.Configuration `yaml:"redirect"`
	// Array answers what honeypots send.
	Array array.Configuration `yaml:"array"`
	// Vault keeps what was recorded.
	Vault vault.Configuration `yaml:"vault"`
	// Recording keeps the packets on the honeypots' link, in the vault's directory.
	Recording recording.Configuration `yaml:"recording"`
	// Report has captures sent to the node that this agent is enrolled with.
	Report bool `yaml:"report"`
	// Channel configures the connection to the node.
	Channel channel.Configuration `yaml:"channel"`
	// Admin is where health checks and metrics are served, on this machine only.
	Admin admin.Configuration `yaml:"admin"`
	// Logging configures the log on standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// DefaultConfiguration redirects nothing until the interfaces are named.
func DefaultConfiguration() Configuration {
	enrolled := channel.DefaultConfiguration()
	enrolled.State += "/trap" // where 'dragnet-agent enrol trap' puts it
	return Configuration{
		Redirect: redirect.DefaultConfiguration(), Array: array.DefaultConfiguration(), Vault: vault.DefaultConfiguration(), Recording: recording.DefaultConfiguration(), Channel: enrolled,
		Logging: logging.DefaultConfiguration(),
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Section("site", c.Site.Validate())
	translators := c.translators()
	p.Section("redirect", translators.Validate())
	p.Section("array", c.Array.Validate())
	p.Section("vault", c.Vault.Validate())
	p.Section("recording", c.Recording.Validate())
	p.Section("channel", c.Channel.Validate())
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	return p.Join()
}

// translators is the section redirect, completed from the site.
func (c *Configuration) translators() redirect.Configuration {
	r := c.Redirect
	if len(r.Unused) == 0 {
		r.Unused = c.Site.Unused
	}
	return r
}

// LoadConfiguration reads files over the defaults.
func LoadConfiguration(files ...string) (Configuration, error) {
	return conf.LoadOver(DefaultConfiguration(), files...)
}

// What a trap sends its node on the agents' channel: a Report as JSON.
const (
	ReportKind   = "trap.capture"
	ReportFormat = 1
)

// MaxPayload bounds the payload of a Report; what is longer is cut, and counted
// in Lost.
const MaxPayload = 512 << 10

// CaptureReport is one outbound session of an inbound honeypot: what it sent, cut to
// MaxPayload, with Source the honeypot and Target whom it meant.
type CaptureReport struct {
	Version int `json:"version"`
	// Session names the line in the trap's vault.
	Session string `json:"session"`
	Service string `json:"service"`
	// Attackers had sessions with the honeypot when it sent this: one of them
	// took it over.
	Attackers []Attacker `json:"attackers"`
	dossier.Capture
}

// Attacker had a session with an inbound honeypot.
type Attacker struct {
	Addr netip.Addr `json:"addr"`
	// Target is the unused address and port that it meant.
	Target netip.AddrPort `json:"target"`
	Proto  flow.Proto     `json:"proto"`
}

// ReportVersion is the version of the JSON form of a Report.
const ReportVersion = 1

// PacketsFolder is the folder of recorded packets in the vault's directory.
const PacketsFolder = "packets"

// Trap is the role. Start and Stop are called once.
type Trap struct {
	c       Configuration
	log     *slog.Logger
	vault   *vault.Vault
	array   *array.Array
	channel *channel.Client // nil if nothing is reported
	redir   *redirect.Translator
	packets *recording.Recording // nil if none are recorded
	parts   run.Parts

	attackers  attackers
	loggedFull atomic.Int64 // when logFull last logged, in ns
}

// New makes a trap; Start starts it.
func New(c Configuration, p run.Program) (*Trap, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	t := &Trap{c: c, log: logging.Component(p.Log, "trap")}
	admins, err := admin.New(c.Admin, p.Release, p.Commit, logging.Component(p.Log, "admin"))
	if err != nil {
		return nil, err
	}
	if t.vault, err = vault.New(c.Vault); err != nil {
		return nil, err
	}
	if t.array, err = array.New(c.Array, array.Dependencies{Record: t.keepSession, Log: logging.Component(p.Log, "array")}); err != nil {
		return nil, err
	}
	if t.redir, err = redirect.New(c.translators(), c.Array.Port); err != nil {
		return nil, err
	}
	// The rules come before the array listens, so that a honeypot is contained
	// while nothing answers it, and at the end they are left until last.
	t.parts = run.Parts{t.redir, t.vault}
	if c.Recording.Record {
		if t.packets, err = recording.New(c.Recording, recording.Dependencies{
			Directory: filepath.Join(c.Vault.Directory, PacketsFolder), Link: c.Redirect.Inside, Recipients: t.vault.Recipients, Log: logging.Component(p.Log, "recording"),
		}); err != nil {
			return nil, err
		}
		t.parts = append(t.parts, t.packets)
	}
	if c.Report {
		if t.channel, err = channel.New(c.Channel, channel.Dependencies{
			Log: logging.Component(p.Log, "channel"), Admin: admins, Role: "trap", Release: p.Release,
		}); err != nil {
			return nil, err
		}
		t.parts = append(t.parts, t.channel)
	}
	t.parts = append(t.parts, t.array, admins)
	t.addMetrics(admins)
	return t, nil
}

func (t *Trap) addMetrics(a *admin.Server) {
	m := metric.Under(a.Metrics(), "dragnet_trap_")
	m.CounterFunc("sessions_total", "Sessions of honeypots that were recorded.", func() uint64 { return t.array.Totals().Taken })
	m.CounterFunc("sessions_refused_total", "Sessions of honeypots beyond the bounds.", func() uint64 { return t.array.Totals().Refused })
	m.CounterFunc("datagrams_total", "Datagrams of honeypots.", func() uint64 { return t.array.Totals().Datagrams })
	m.GaugeFunc("sessions_open", "Sessions that are being served.", func() float64 { return float64(t.array.Totals().Open) })
	m.CounterFunc("payloads_total", "Payloads kept for the first time.", func() uint64 { return t.vault.Totals().Payloads })
	m.CounterFunc("answers_evicted_total", "Answers of servers that were removed, or not kept, for the bound.", func() uint64 { return t.vault.Totals().Evicted })
	m.CounterFunc("payloads_refused_total", "First copies that were not kept, since the vault or the share of a source is full.", func() uint64 { return t.vault.Totals().Refused })
	m.CounterFunc("sessions_skipped_total", "Sessions with nothing new that were not kept, since the vault or the share of a source is full.", func() uint64 { return t.vault.Totals().Skipped })
	m.GaugeFunc("vault_bytes", "Bytes of captures on disk.", func() float64 { return float64(t.vault.Totals().Bytes) })
	m.CounterFunc("payloads_failed_total", "Payloads that could not be written.", func() uint64 { return t.vault.Totals().Failed })
}

// Start contains the honeypots and starts to take what they send, in the calling
// thread's network namespace. It needs CAP_NET_ADMIN, and CAP_NET_RAW to record
// packets.
func (t *Trap) Start(ctx context.Context) error {
	if err := t.parts.Start(ctx); err != nil {
		return err
	}
	t.log.Info("trap started", "outside", t.c.Redirect.Outside, "inside", t.c.Redirect.Inside, "unused", t.c.translators().Unused, "report", t.c.Report)
	return nil
}

// Failed receives the error that ended the trap.
func (t *Trap) Failed() <-chan error { return t.parts.Failed() }

// Stop ends the sessions and keeps them. Honeypots stay contained.
func (t *Trap) Stop(ctx context.Context) error {
	err := t.parts.Stop(ctx)
	a, v := t.array.Totals(), t.vault.Totals()
	var p recording.Totals
	if t.packets != nil {
		p = t.packets.Totals()
	}
	t.log.Info("trap stopped; honeypots stay contained until 'dragnet-agent trap remove'", "sessions", a.Taken, "refused", a.Refused, "payloads", v.Payloads, "payloads_refused", v.Refused, "sessions_skipped", v.Skipped, "answers_evicted", v.Evicted, "failed", v.Failed, "packets", p.Kept, "packets_lost", p.Lost)
	return err
}

// keepSession keeps a session and reports it.
func (t *Trap) keepSession(s *session.Session) {
	attackers, sure, err := t.attackers.find(s.Client.Addr(), s.Start.Time())
	if err != nil {
		t.log.Warn("read sessions with the honeypot failed", "honeypot", s.Client.Addr(), "err", err)
	}
	isNew, err := t.vault.Add(s, addresses(attackers[:sure]))
	switch {
	case errors.Is(err, vault.ErrNoRoom):
		t.logFull(s, err)
	case err != nil:
		t.log.Error("store capture failed", "session", s.ID, "err", err)
	}
	t.log.Info("honeypot session recorded", "honeypot", s.Client, "to", s.Server, "service", s.Service, "bytes", len(s.Sent), "new", isNew, "reason", s.Reason)
	if t.channel == nil || len(s.Sent) == 0 {
		return
	}
	body, err := json.Marshal(newReport(s, attackers))
	if err == nil {
		err = t.channel.Send(channel.Item{Kind: ReportKind, Format: ReportFormat, Body: body})
	}
	if err != nil {
		t.log.Error("report capture failed", "session", s.ID, "err", err)
	}
}

func addresses(all []Attacker) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, a.Addr)
	}
	return out
}

// logFull reports that first copies are lost, at most once a minute: a
// flood of the vault must not fill the log too.
func (t *Trap) logFull(s *session.Session, err error) {
	now := time.Now().UnixNano()
	last := t.loggedFull.Load()
	if now-last < int64(time.Minute) && last != 0 || !t.loggedFull.CompareAndSwap(last, now) {
		return
	}
	t.log.Error("new payloads of honeypots are not kept: raise vault.bytes, or move captures away", "honeypot", s.Client, "session", s.ID, "refused", t.vault.Totals().Refused, "err", err)
}

func newReport(s *session.Session, attackers []Attacker) *CaptureReport {
	r := &CaptureReport{Version: ReportVersion, Session: s.ID, Service: s.Service, Attackers: attackers, Capture: s.Capture()}
	if more := len(s.Sent) - MaxPayload; more > 0 {
		r.Payload, r.Lost = s.Sent[:MaxPayload], s.Lost+uint64(more)
	}
	return r
}

// Examine checks what keeps the honeypots of a configuration apart from others.
func Examine(c Configuration) []doctor.Check { return redirect.Examine(c.translators()) }

// Remove removes the rules. Honeypots that still run are not contained any
// more: stop them first.
func Remove(c Configuration) error {
	t, err := redirect.New(c.translators(), c.Array.Port)
	if err != nil {
		return err
	}
	return t.Remove()
}
