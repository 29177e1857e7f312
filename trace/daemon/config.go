//go:build linux

// Package daemon is the STOP ident daemon: it answers on port 113, saves the
// record behind each token, and asks the hosts before.
//
// Guarantees: every line gets an answer, or its connection is closed, within
// the deadline. The answer leaves before hosts before are asked. What they
// answer is stored with the token and never sent. An asker that is not
// configured can make the daemon do no more than one exact look-up and one
// small record per query, within its budget.
package daemon

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/trace/client"
	"dragnet/trace/protocol"
	"dragnet/trace/recorder"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// Configuration of the role ident.
type Configuration struct {
	// Listen holds the addresses to answer on; it is ignored if systemd passes sockets.
	Listen []string `yaml:"listen"`
	// State is the folder of the host's key and the records behind its tokens.
	State string `yaml:"state"`

	// Deadline bounds the time from a question to its answer.
	Deadline time.Duration `yaml:"deadline"`
	// Idle bounds the time that a connection may wait for a question.
	Idle time.Duration `yaml:"idle"`
	// Connections bounds the open connections. A quarter of them is kept for the
	// configured askers.
	Connections int `yaml:"connections"`
	// PerAsker bounds the open connections of one address.
	PerAsker int `yaml:"per_asker"`
	// Lookups bounds the walks through processes that run at a time.
	Lookups int `yaml:"lookups"`
	// Budget bounds the questions of one address (IPv6: of one /64).
	Budget Budget `yaml:"budget"`
	// SaveBudget bounds those of its questions that save process state.
	SaveBudget Budget `yaml:"save_budget"`

	// Askers lists who may ask for more than ID. Everyone else is served ID.
	Askers []Asker `yaml:"askers"`

	// AlwaysToken answers with a token instead of an error.
	AlwaysToken bool `yaml:"always_token"`
	// HideErrors answers UNKNOWN-ERROR for every error.
	HideErrors bool `yaml:"hide_errors"`
	// OptIn lets users have their name sent, to the addresses in their file ~/.ident.
	OptIn bool `yaml:"opt_in"`

	// Recursion configures the questions to the hosts that a connection came from.
	Recursion Recursion `yaml:"recursion"`
	// Walk configures how processes behind a connection are found.
	Walk walk.Configuration `yaml:"walk"`
	// Store bounds the records kept. When it is full, the account with most records
	// loses some.
	Store token.Limits `yaml:"store"`
	// Recorder keeps what is needed to answer for connections that are over.
	Recorder recorder.Configuration `yaml:"recorder"`
	// Redeem configures who may redeem tokens over the network.
	Redeem Redeem `yaml:"redeem"`

	// Admin is where health checks and metrics are served, on this machine only.
	Admin admin.Configuration `yaml:"admin"`
	// Logging configures the log on standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// Budget is a rate with a burst.
type Budget struct {
	// PerMinute is how many are allowed a minute, on average.
	PerMinute float64 `yaml:"per_minute"`
	// Burst is how many are allowed at once after a pause.
	Burst float64 `yaml:"burst"`
}

// Asker lists what a network may ask for.
type Asker struct {
	// Network holds the addresses of the askers.
	Network netip.Prefix `yaml:"network"`
	// Kinds are any of ID, ID_REC, SV, SV_REC: identify, or save state; _REC also
	// asks the hosts before this one.
	Kinds []string `yaml:"kinds"`
	// Remote lets gateways ask about connections of other hosts.
	Remote bool `yaml:"remote"`
}

// Recursion configures questions to the hosts before.
type Recursion struct {
	// Port is where the hosts before are asked.
	Port uint16 `yaml:"port"`
	// Timeout bounds the wait for the answer of one host.
	Timeout time.Duration `yaml:"timeout"`
	// Parallel bounds the hosts asked at a time.
	Parallel int `yaml:"parallel"`
	// Limit bounds the connections followed for one request.
	Limit int `yaml:"limit"`
	// Loop is how long a session identifier is kept, to notice a loop; the paper
	// requires at least 120 s.
	Loop time.Duration `yaml:"loop"`
}

// Redeem says which investigators may redeem tokens by calling, without the
// administrator doing it each time.
type Redeem struct {
	// Listen is the address for such calls; empty means that none are answered.
	Listen string `yaml:"listen"`
	// Investigators holds their public keys.
	Investigators []string `yaml:"investigators"`
}

// DefaultConfiguration serves ID to everyone and nothing else.
func DefaultConfiguration() Configuration {
	return Configuration{
		Listen: []string{":113"}, State: "/var/lib/dragnet-ident",
		Deadline: 5 * time.Second, Idle: 60 * time.Second, Connections: 512, PerAsker: 32, Lookups: 8,
		Budget: Budget{PerMinute: 600, Burst: 200}, SaveBudget: Budget{PerMinute: 60, Burst: 60},
		Recursion: Recursion{Port: client.Port, Timeout: 10 * time.Second, Parallel: 8, Limit: 64, Loop: 120 * time.Second},
		Walk:      walk.DefaultConfiguration(), Store: token.DefaultLimits(), Recorder: recorder.DefaultConfiguration(), Logging: logging.DefaultConfiguration(),
	}
}

// LoadConfiguration reads YAML files over the defaults.
func LoadConfiguration(files ...string) (Configuration, error) {
	return conf.LoadOver(DefaultConfiguration(), files...)
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for _, v := range []struct {
		key string
		ok  bool
	}{
		{"deadline", c.Deadline > 0}, {"idle", c.Idle > 0}, {"connections", c.Connections > 0}, {"per_asker", c.PerAsker > 0},
		{"lookups", c.Lookups > 0}, {"budget.per_minute", c.Budget.PerMinute > 0}, {"budget.burst", c.Budget.Burst >= 1},
		{"save_budget.per_minute", c.SaveBudget.PerMinute > 0}, {"save_budget.burst", c.SaveBudget.Burst >= 1},
		{"recursion.port", c.Recursion.Port > 0}, {"recursion.timeout", c.Recursion.Timeout > 0},
		{"recursion.parallel", c.Recursion.Parallel > 0}, {"recursion.limit", c.Recursion.Limit > 0},
		{"walk.max_processes", c.Walk.MaxProcesses > 0}, {"walk.max_descriptors", c.Walk.MaxDescriptors > 0},
		{"store.max_age", c.Store.MaxAge > 0}, {"recorder.max_age", c.Recorder.MaxAge > 0},
	} {
		p.Check(v.ok, v.key, "must be more than 0")
	}
	p.Check(c.Recursion.Loop >= 120*time.Second, "recursion.loop", "%v is less than 120s, which the protocol requires", c.Recursion.Loop)
	p.Check(c.Recorder.MaxBytes >= 16<<20, "recorder.max_bytes", "%d is less than 16777216", c.Recorder.MaxBytes)
	for i, a := range c.Askers {
		p.Check(a.Network.IsValid(), fmt.Sprintf("askers[%d].network", i), "is missing")
		for j, k := range a.Kinds {
			_, err := protocol.ParseKind(k)
			p.Error(fmt.Sprintf("askers[%d].kinds[%d]", i, j), err)
		}
	}
	for i, k := range c.Redeem.Investigators {
		_, err := token.ParseKey(k)
		p.Error(fmt.Sprintf("redeem.investigators[%d]", i), err)
	}
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	return p.Join()
}
