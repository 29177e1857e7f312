// Package server runs a clearinghouse: it serves a community over TLS 1.3,
// publishes in batches, and follows its roster.
package server

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"dragnet/wire/identity"
)

// Configuration of the running service; what is published, and when, is the
// section publication.
type Configuration struct {
	// Directory holds the private key, the roster that was taken over, and the
	// state unless that is elsewhere.
	Directory string `yaml:"directory"`
	// State is the database: a file, or a URL such as
	// postgres://dragnet@host/clearing; empty is state.db in the directory.
	State string `yaml:"state"`
	// Roster is the signed roster ('dragnet roster sign'), looked at every few
	// seconds; empty is roster.bin in the directory.
	Roster string `yaml:"roster"`
	// Signer is the public key that signs the roster, the first one or a later;
	// empty is the key in the directory. The one that signs may lie elsewhere.
	Signer string `yaml:"signer"`
	// Listen is the address on which the community is served, such as
	// 203.0.113.1:8443; empty serves none.
	Listen string `yaml:"listen"`
	// Admin is the loopback address of /livez, /readyz and /metrics; empty
	// serves them nowhere.
	Admin string `yaml:"admin"`
	// Requests bounds how many requests are worked on at a time; each may hold
	// 8 MB.
	Requests int `yaml:"requests"`
	// ObjectionsPerMinute bounds what strangers may file, all together.
	ObjectionsPerMinute int `yaml:"objections_per_minute"`
}

// DefaultConfiguration has no address, and so cannot be served.
func DefaultConfiguration() Configuration {
	return Configuration{Directory: "/var/lib/dragnet/clearinghouse", Admin: "127.0.0.1:9122", Requests: 32, ObjectionsPerMinute: 10}
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	switch {
	case c.Directory == "":
		return errors.New("clearinghouse.directory: name a directory, such as /var/lib/dragnet/clearinghouse")
	case c.Requests < 1 || c.Requests > 10_000:
		return fmt.Errorf("clearinghouse.requests is %d; want 1 to 10000", c.Requests)
	case c.ObjectionsPerMinute < 1:
		return errors.New("clearinghouse.objections_per_minute must be positive; to be listed without a way to object is not fair")
	}
	if c.Signer != "" {
		if _, err := identity.ParsePublic(c.Signer); err != nil {
			return fmt.Errorf("clearinghouse.signer: %w", err)
		}
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return fmt.Errorf("clearinghouse.listen: %w; want such as 203.0.113.1:8443", err)
		}
	}
	if c.Admin == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Admin)
	if err != nil {
		return fmt.Errorf("clearinghouse.admin: %w; want such as 127.0.0.1:9122", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("clearinghouse.admin: %s is not a loopback address; it serves health checks and metrics without authentication", host)
	}
	return nil
}

// KeyPath is where the private key is.
func (c *Configuration) KeyPath() string { return filepath.Join(c.Directory, "identity.key") }

// StateAddress is where the state is, for state.Open.
func (c *Configuration) StateAddress() string { return c.pathOr(c.State, "state.db") }

func (c *Configuration) rosterPath() string { return c.pathOr(c.Roster, "roster.bin") }

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
