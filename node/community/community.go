// Package community runs the services that a community of organisations shares:
// its clearinghouse and, if configured, its relay.
package community

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"dragnet/ask/relay"
	"dragnet/clearinghouse"
	"dragnet/clearinghouse/server"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/publish"
	"dragnet/publish/outputs"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// Configuration of the role clearinghouse. Each section is named after the
// package that reads it.
type Configuration struct {
	// Site is the network of the organisation that runs the clearinghouse. It is
	// read so that all roles can share a file, and has no effect here.
	Site flow.Site `yaml:"site"`
	// Server is the service itself: its directory, roster and address.
	Server server.Configuration `yaml:"server"`
	// Clearinghouse sets what is published, and how it is masked.
	Clearinghouse clearinghouse.Configuration `yaml:"clearinghouse"`
	// Publish hands out what is published, in the forms that other programs read.
	// Each output is off until it is configured.
	Publish outputs.Configuration `yaml:"publish"`
	// Relay stores questions for witnesses that cannot be reached.
	Relay relay.Configuration `yaml:"relay"`
	// Admin serves health checks and metrics to this machine.
	Admin admin.Configuration `yaml:"admin"`
	// Logging sets what the role logs to standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// DefaultConfiguration has no address, and so cannot be served.
func DefaultConfiguration() Configuration {
	return Configuration{
		Server: server.DefaultConfiguration(), Clearinghouse: clearinghouse.DefaultConfiguration(), Relay: relay.DefaultConfiguration(), Publish: outputs.DefaultConfiguration(),
		Admin: admin.Configuration{Listen: "127.0.0.1:9122"}, Logging: logging.DefaultConfiguration(),
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Section("site", c.Site.Validate())
	p.Section("server", c.Server.Validate())
	p.Section("clearinghouse", c.Clearinghouse.Validate())
	p.Section("publish", c.Publish.Validate())
	p.Section("relay", c.Relay.Validate())
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	return p.Join()
}

// AllowList holds the hosts about which nothing is published: one list for what the
// clearinghouse decides and for what the outputs hand out, in the service and in the
// verbs of its operator.
func (c *Configuration) AllowList() (*flow.AllowList, error) {
	allow, err := c.Publish.AllowList()
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	allow.Add("clearinghouse.never", c.Clearinghouse.Never...)
	return allow, nil
}

// LoadConfiguration reads files over the defaults; a later file wins.
func LoadConfiguration(files ...string) (Configuration, error) {
	return conf.LoadOver(DefaultConfiguration(), files...)
}

// Community is a running clearinghouse. Start, Reload and Stop are called from
// one goroutine.
type Community struct {
	program run.Program
	config  Configuration
	parts   run.Parts
	admin   *admin.Server
	server  *server.Service
	// outputs is nil where nothing is configured.
	outputs *outputs.Service
	relay   bool
}

// New makes the services; Start starts them.
func New(c Configuration, p run.Program) (*Community, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Community{program: p, config: c, relay: c.Relay.Serve}
	log := func(part string) *slog.Logger { return logging.Component(p.Log, part) }
	allow, err := c.AllowList()
	if err != nil {
		return nil, err
	}
	if m.admin, err = admin.New(c.Admin, p.Release, p.Commit, log("admin")); err != nil {
		return nil, err
	}
	db := c.Server.Database()
	handlers := map[string]http.Handler{}
	if m.server, err = server.New(c.Server, server.Dependencies{
		Publication: c.Clearinghouse, Logger: log("clearinghouse"), DB: db, Allow: allow, Admin: m.admin, Handlers: handlers, Published: m.refreshOutputs,
	}); err != nil {
		return nil, err
	}
	m.admin.AddStatus(db.Status)
	m.parts = run.Parts{db}
	if c.Relay.Serve {
		messages := db
		if !db.IsPostgres() {
			// Messages are large and short-lived: they have a separate file.
			messages = state.New(filepath.Join(c.Server.Directory, "relay.db"))
			m.parts = append(m.parts, messages)
		}
		mailboxes, err := relay.NewMailboxes(messages, c.Relay)
		if err != nil {
			return nil, err
		}
		r := relay.NewService(mailboxes, relay.Dependencies{Member: m.membership, Log: log("relay")})
		m.admin.AddStatus(r.Status)
		path, handler := r.Handler()
		handlers[path] = handler
		m.parts = append(m.parts, r)
	}
	m.parts = append(m.parts, m.server)
	if !c.Publish.Off() {
		if m.outputs, err = outputs.New(c.Publish, outputs.Dependencies{
			Source: source{m.server}, Allow: allow, Key: m.server.SigningKey, Every: c.Clearinghouse.Batch, Log: log("publish"), Admin: m.admin,
		}); err != nil {
			return nil, err
		}
		m.parts = append(m.parts, m.outputs)
	}
	m.parts = append(m.parts, m.admin)
	return m, nil
}

// membership is what the roster says of a key.
func (m *Community) membership(p identity.Public) (relay.Membership, bool) {
	member, err := m.server.Member(p.ID(), 0)
	if err != nil {
		return relay.Membership{}, false
	}
	return relay.Membership{Organisation: member.Class, Ask: member.Roles&roster.Ask != 0}, true
}

// refreshOutputs makes the outputs follow a batch.
func (m *Community) refreshOutputs() {
	if m.outputs != nil {
		m.outputs.Refresh()
	}
}

// source is what the clearinghouse publishes, for the outputs.
type source struct{ server *server.Service }

// Snapshot is that of publish.Source.
func (s source) Snapshot(ctx context.Context) (out publish.Snapshot, err error) {
	out.Sequence, out.Entries, out.Groups, err = s.server.Core().Snapshot(ctx)
	return out, err
}

// Changes is that of publish.Source.
func (s source) Changes(ctx context.Context, after int64, since flow.Time, limit int) ([]dossier.Change, error) {
	return s.server.Core().ChangesSince(ctx, after, since, limit)
}

// Start starts the services.
func (m *Community) Start(ctx context.Context) error {
	if err := m.parts.Start(ctx); err != nil {
		return err
	}
	m.program.Log.Info("clearinghouse started", "listen", m.server.Address(), "admin", m.admin.Address(), "key", m.server.Key().String(), "relay", m.relay)
	return nil
}

// Address is where the community is served, Key what it answers with, from Start on.
func (m *Community) Address() string { return m.server.Address() }

// Key is the public key of the clearinghouse.
func (m *Community) Key() identity.Public { return m.server.Key() }

// Failed receives the error of the first service that failed.
func (m *Community) Failed() <-chan error { return m.parts.Failed() }

// Stop stops the services.
func (m *Community) Stop(ctx context.Context) error { return m.parts.Stop(ctx) }

// Reload reads the roster again and sets the log level; it logs which other changed
// keys need a restart.
func (m *Community) Reload(_ context.Context, c Configuration) error {
	if m.program.Level != nil {
		m.program.Level.Set(c.Logging.Level)
	}
	m.server.ReloadRoster()
	m.program.Log.Info("roster and log level reloaded", "level", c.Logging.Level)
	old := m.config
	old.Logging.Level = c.Logging.Level
	run.LogRestart(m.program.Log, conf.ChangedKeys(old, c))
	return nil
}
