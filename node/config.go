package node

import (
	"errors"

	"dragnet/ask/witness/endpoint"
	"dragnet/decide"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/state"
	"dragnet/node/api"
	"dragnet/node/bouncers"
	"dragnet/node/centre"
	"dragnet/node/detection"
	"dragnet/node/enforcement"
	"dragnet/node/follow"
	"dragnet/node/layout"
	"dragnet/node/notify"
	"dragnet/node/subscribe"
	"dragnet/source/collect"
	"dragnet/source/kafka"
	"dragnet/store"
	"dragnet/store/clickhouse"
)

// Configuration is everything a node reads from files. Every role reads the
// section site, which usually has its own file that all roles share; each other
// section is named after the package that reads it.
type Configuration struct {
	// Site is the network that this organisation answers for.
	Site flow.Site `yaml:"site"`
	// Store says where flows are kept, and how long.
	Store store.Configuration `yaml:"store"`
	// Follow names the logs that are followed into the store.
	Follow follow.Configuration `yaml:"follow"`
	// Collect receives what flow exporters send: NetFlow, IPFIX and sFlow.
	Collect collect.Configuration `yaml:"collect"`
	// Kafka reads flows from topics, and forwards stored ones to a topic.
	Kafka kafka.Configuration `yaml:"kafka"`
	// Detection looks for scanners among the flows that are stored.
	Detection detection.Configuration `yaml:"detection"`
	// Decide holds the rules of the judge: nothing is blocked against them.
	Decide decide.Configuration `yaml:"decide"`
	// Enforcement takes the reports of guards and proposes blocks.
	Enforcement enforcement.Configuration `yaml:"enforcement"`
	// Centre takes what enrolled traps captured, and learns signatures.
	Centre centre.Configuration `yaml:"centre"`
	// Notify sends findings and decisions to people and other programs.
	Notify notify.Configuration `yaml:"notify"`
	// Witness lets detectives of other organisations ask this node, within its
	// policy. It is off until it has an address or a relay.
	Witness endpoint.Configuration `yaml:"witness"`
	// Subscribe follows a clearinghouse's mirror and proposes to block what it
	// publishes.
	Subscribe subscribe.Configuration `yaml:"subscribe"`
	// Bouncers hands the node's decisions to bouncers of CrowdSec.
	Bouncers bouncers.Configuration `yaml:"bouncers"`
	// API is the interface for operators and agents.
	API api.Configuration `yaml:"api"`
	// State is the database of findings, decisions, enrolments and questions
	// asked: a PostgreSQL URL such as
	// postgres://dragnet@db.example.org/dragnet, or an SQLite file; empty is one
	// in the data directory.
	State conf.Secret `yaml:"state"`
	// Admin serves health checks and metrics to this machine.
	Admin admin.Configuration `yaml:"admin"`
	// Logging sets what the node logs to standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// DefaultConfiguration is the configuration without any file. It answers no
// questions, since it names no networks.
func DefaultConfiguration() Configuration {
	return Configuration{
		Store: store.DefaultConfiguration(), Follow: follow.DefaultConfiguration(), Collect: collect.DefaultConfiguration(), Kafka: kafka.DefaultConfiguration(),
		Detection: detection.DefaultConfiguration(), Decide: decide.DefaultConfiguration(), Enforcement: enforcement.DefaultConfiguration(),
		Centre: centre.DefaultConfiguration(), Notify: notify.DefaultConfiguration(), Witness: endpoint.DefaultConfiguration(), API: api.DefaultConfiguration(),
		Subscribe: subscribe.DefaultConfiguration(),
		Admin:     admin.Configuration{Listen: "127.0.0.1:9120"}, Logging: logging.DefaultConfiguration(),
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Section("site", c.Site.Validate())
	p.Section("store", c.Store.Validate())
	if c.Store.ClickHouse != "" {
		p.Error("store.clickhouse", clickhouse.Check(c.Store.ClickHouse))
	}
	p.Section("follow", c.Follow.Validate())
	p.Section("collect", c.Collect.Validate())
	p.Section("kafka", c.Kafka.Validate())
	p.Section("detection", c.Detection.Validate())
	p.Section("decide", c.Decide.Validate())
	p.Section("enforcement", c.Enforcement.Validate())
	p.Section("centre", c.Centre.Validate())
	p.Section("notify", c.Notify.Validate())
	p.Section("witness", c.Witness.Validate())
	if !c.Witness.Off() && (c.Site.Name == "" || len(c.Site.Networks) == 0) {
		p.Error("witness", errors.New("set site.name and site.networks first: the node answers questions about its own networks only"))
	}
	p.Section("subscribe", c.Subscribe.Validate())
	p.Section("bouncers", c.Bouncers.Validate())
	p.Section("api", c.API.Validate())
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	return p.Join()
}

// LoadConfiguration reads files over the defaults; a later file wins.
func LoadConfiguration(files ...string) (Configuration, error) {
	return conf.LoadOver(DefaultConfiguration(), files...)
}

// Directory is the data directory.
func (c *Configuration) Directory() layout.Directory { return layout.Directory(c.Store.Directory) }

// Database is the database of the control state, closed.
func (c *Configuration) Database() *state.DB {
	if address := c.State.Reveal(); address != "" {
		return state.New(address)
	}
	return state.New(c.Directory().State())
}
