// Package server runs a clearinghouse: it serves a community over TLS 1.3,
// publishes in batches, and follows its roster.
package server

import (
	"net"
	"path/filepath"
	"strings"
	"time"

	"dragnet/internal/conf"
	"dragnet/internal/state"
	"dragnet/wire/identity"
)

// Configuration of the service; what is published, and when, is the section
// clearinghouse.
type Configuration struct {
	// Directory holds the private key, the roster that was taken over, and the
	// state unless that is elsewhere.
	Directory string `yaml:"directory"`
	// State is the database: a file, or a URL such as
	// postgres://dragnet@host/clearing; empty is state.db in the directory.
	State conf.Secret `yaml:"state"`
	// Roster is the signed roster ('dragnet roster sign'), looked at every few
	// seconds; empty is roster.bin in the directory.
	Roster string `yaml:"roster"`
	// Signer is the public key that signs the roster, the first one or a later;
	// empty is the key in the directory. The one that signs may lie elsewhere.
	Signer string `yaml:"signer"`
	// Listen is the address on which the community is served, such as
	// 203.0.113.1:8443; empty serves none.
	Listen string `yaml:"listen"`
	// Requests bounds how many requests are worked on at a time; each may hold
	// 8 MB.
	Requests int `yaml:"requests"`
	// ObjectionsPerMinute bounds what strangers may file, all together.
	ObjectionsPerMinute int `yaml:"objections_per_minute"`
}

// DefaultConfiguration has no address, and so cannot be served.
func DefaultConfiguration() Configuration {
	return Configuration{Directory: "/var/lib/dragnet/clearinghouse", Requests: 32, ObjectionsPerMinute: 10}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Directory != "", "directory", "is empty; name one such as /var/lib/dragnet/clearinghouse")
	p.Check(c.Requests >= 1 && c.Requests <= 10_000, "requests", "is %d; want 1 to 10000", c.Requests)
	p.Check(c.ObjectionsPerMinute >= 1, "objections_per_minute", "is %d; want at least 1: to be listed without a way to object is not fair", c.ObjectionsPerMinute)
	if c.Signer != "" {
		_, err := identity.ParsePublic(c.Signer)
		p.Error("signer", err)
	}
	if c.Listen != "" {
		_, _, err := net.SplitHostPort(c.Listen)
		p.Check(err == nil, "listen", "%w; want such as 203.0.113.1:8443", err)
	}
	return p.Join()
}

// KeyPath is where the private key is.
func (c *Configuration) KeyPath() string { return filepath.Join(c.Directory, "identity.key") }

// Database is the database of the state, closed.
func (c *Configuration) Database() *state.DB {
	return state.New(c.StatePath())
}

// StatePath is the file of the state, or the URL of its database.
func (c *Configuration) StatePath() string { return c.pathOr(c.State.Reveal(), "state.db") }

// RosterPath is the file of the signed roster.
func (c *Configuration) RosterPath() string { return c.pathOr(c.Roster, "roster.bin") }

func (c *Configuration) heldPath() string { return filepath.Join(c.Directory, "roster.held") }

func (c *Configuration) pathOr(given, name string) string {
	if given = strings.TrimSpace(given); given != "" {
		return given
	}
	return filepath.Join(c.Directory, name)
}

// signer is the key whose rosters are taken.
func (c *Configuration) signer(own identity.Public) (identity.Public, error) {
	if c.Signer == "" {
		return own, nil
	}
	return identity.ParsePublic(c.Signer)
}

const (
	// rosterEvery is how often the roster's file is looked at.
	rosterEvery = 5 * time.Second
	// overdue is how much later than planned a batch makes /livez complain.
	overdue = 5 * time.Minute
)
