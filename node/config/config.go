// Package config is the configuration of a node: one struct whose comments are
// the reference in docs/reference/configuration.md, its defaults and its rules.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"dragnet/ask/relay"
	"dragnet/ask/witness"
	"dragnet/ask/witness/endpoint"
	"dragnet/clearinghouse"
	"dragnet/clearinghouse/server"
	"dragnet/decide"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/node/api"
	"dragnet/node/detection"
	"dragnet/node/enforcement"
	"dragnet/node/follow"
	"dragnet/node/notify"
	"dragnet/source/collect"
)

// Configuration is all that a node can be told in files. Every role reads the
// section site; it usually stands in a file of its own that they share.
type Configuration struct {
	// Site is the network this organisation answers for.
	Site flow.Site `yaml:"site"`
	// Witness bounds what a question may cost, and which are refused.
	Witness witness.Configuration `yaml:"witness"`
	// Store is the data directory and the logs that are followed into it.
	Store follow.Configuration `yaml:"store"`
	// Collect receives what flow exporters send: NetFlow, IPFIX and sFlow.
	Collect collect.Configuration `yaml:"collect"`
	// Detect says how scanners are looked for among the flows taken in.
	Detect detection.Configuration `yaml:"detect"`
	// Decide are the rules of the judge: nothing is blocked against them.
	Decide decide.Configuration `yaml:"decide"`
	// Station hears the guards at the edges and proposes whom to block.
	Station enforcement.Configuration `yaml:"station"`
	// Notify tells people and other programs what was found and decided.
	Notify notify.Configuration `yaml:"notify"`
	// API is where operators and agents reach the node.
	API api.Configuration `yaml:"api"`
	// State is where the node keeps who is enrolled and what was decided: a
	// PostgreSQL database such as postgres://dragnet@db.example.org/dragnet, or
	// an SQLite file. Empty stands for one within the data directory.
	State conf.Secret `yaml:"state"`
	// Testify lets detectives of other organisations ask this node, as far as
	// its policy permits. It is off until it has an address or a relay.
	Testify endpoint.Configuration `yaml:"testify"`
	// Clearinghouse is the service of a community's clearinghouse ('dragnet run
	// clearinghouse').
	Clearinghouse server.Configuration `yaml:"clearinghouse"`
	// Publication says what a clearinghouse publishes, and how masked.
	Publication clearinghouse.Configuration `yaml:"publication"`
	// Relay is the clearinghouse's relay, for witnesses that nobody can
	// reach.
	Relay relay.Configuration `yaml:"relay"`
	// Log says what the node writes to standard error about itself.
	Log Log `yaml:"log"`
}

// Log says what a role writes to standard error about itself.
type Log struct {
	// Level is the least severe level that is written: DEBUG, INFO, WARN or
	// ERROR.
	Level slog.Level `yaml:"level"`
	// Format is text, json, or auto: text on a terminal, JSON elsewhere.
	Format string `yaml:"format"`
}

// DefaultConfiguration is what holds without any file. It answers nobody,
// since it names no networks.
func DefaultConfiguration() Configuration {
	return Configuration{
		Witness: witness.DefaultConfiguration(), Store: follow.DefaultConfiguration(), Collect: collect.DefaultConfiguration(), Detect: detection.DefaultConfiguration(),
		Decide: decide.DefaultConfiguration(), Station: enforcement.DefaultConfiguration(), Notify: notify.DefaultConfiguration(),
		Testify: endpoint.DefaultConfiguration(), Clearinghouse: server.DefaultConfiguration(), Publication: clearinghouse.DefaultConfiguration(),
		Relay: relay.DefaultConfiguration(), API: api.DefaultConfiguration(), Log: Log{Level: slog.LevelInfo, Format: "auto"},
	}
}

// Validate reports the first value that makes no sense.
func (c *Configuration) Validate() error {
	if err := c.Site.Validate(); err != nil {
		return err
	}
	if err := c.Witness.Validate(); err != nil {
		return err
	}
	if !c.Testify.Off() && (c.Site.Name == "" || len(c.Site.Networks) == 0) {
		return errors.New("testify: others may ask only once site.name and site.networks say what is yours")
	}
	for _, section := range []interface{ Validate() error }{
		&c.Store, &c.Collect, &c.Detect, &c.Decide, &c.Station, &c.Notify, &c.API, &c.Testify, &c.Clearinghouse, &c.Publication, &c.Relay,
	} {
		if err := section.Validate(); err != nil {
			return err
		}
	}
	return c.Log.validate()
}

func (l Log) validate() error {
	switch l.Format {
	case "auto", "text", "json":
		return nil
	}
	return fmt.Errorf("log.format: %q is not one of auto, text, json", l.Format)
}

// Load reads files over the defaults; a later file wins.
func Load(files ...string) (Configuration, error) {
	c := DefaultConfiguration()
	err := conf.Load(&c, files...)
	return c, err
}

// Handler writes log records to w as configured; "auto" looks whether w is a
// terminal.
func (l Log) Handler(w io.Writer) slog.Handler {
	opts := &slog.HandlerOptions{Level: l.Level}
	if l.Format == "text" || l.Format == "auto" && terminal(w) {
		return slog.NewTextHandler(w, opts)
	}
	return slog.NewJSONHandler(w, opts)
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
