//go:build linux

package sensor

import (
	"time"

	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/packet/live"
	"dragnet/wire/channel"
)

// Configuration of a sensor.
type Configuration struct {
	// Live says which interface is watched, and through which buffer; each
	// worker has one of that size.
	Live live.Configuration `yaml:"live"`
	// Workers share the packets of the interface by conversation, each on one
	// processor core. With more than one, an ICMP error is noted at the flow it
	// quotes only by chance.
	Workers int `yaml:"workers"`
	// MaxFlows bounds the flows that each worker holds, of about 600 bytes each;
	// those nearest to their end are reported early if there are more.
	MaxFlows int `yaml:"max_flows"`
	// Every is how often flows that ended are handed to the spool.
	Every time.Duration `yaml:"every"`
	// IgnoreChecksums accepts packets with a wrong checksum.
	IgnoreChecksums bool `yaml:"ignore_checksums"`
	// Payload has signatures of the node's signature centre matched in payload.
	Payload Payload `yaml:"payload"`
	// Channel is the agent's end of the channel to its node; the agent must be
	// enrolled as a sensor.
	Channel channel.Configuration `yaml:"channel"`
	// Admin is where health checks and metrics are served, on this machine only.
	Admin admin.Configuration `yaml:"admin"`
	// Logging configures the log on standard error.
	Logging logging.Configuration `yaml:"logging"`
}

// Payload says whether payload is inspected, and bounds what is held of it.
type Payload struct {
	// Match has whole packets captured, and what signatures match reported.
	// Without it, headers only are kept.
	Match bool `yaml:"match"`
	// Bytes of each direction of a connection are compared.
	Bytes int `yaml:"bytes"`
	// Held bounds what each worker holds of all connections, in bytes.
	Held int `yaml:"held"`
	// Connections bounds those that each worker follows.
	Connections int `yaml:"connections"`
	// Reset has connections reset that carry what a signature matches, if a
	// decision of the node says so for that signature ('dragnet decision propose
	// --signature'); without it, such decisions are a dry run here.
	Reset bool `yaml:"reset"`
}

// DefaultConfiguration watches no interface.
func DefaultConfiguration() Configuration {
	c := Configuration{Live: live.DefaultConfiguration(), Workers: 1, MaxFlows: 1 << 18, Every: time.Second,
		Payload: Payload{Bytes: 1 << 20, Held: 64 << 20, Connections: 1 << 16}, Channel: channel.DefaultConfiguration(), Logging: logging.DefaultConfiguration()}
	c.Live.Promiscuous = true
	c.Channel.State = "/var/lib/dragnet-agent/sensor"
	return c
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Workers >= 1 && c.Workers <= 64, "workers", "is %d; want 1 to 64", c.Workers)
	p.Check(c.MaxFlows >= 1, "max_flows", "is %d; want at least 1", c.MaxFlows)
	p.Check(c.Every >= 100*time.Millisecond && c.Every <= time.Minute, "every", "is %v; want 100ms to 1m", c.Every)
	p.Check(c.Payload.Bytes >= 1<<10 && c.Payload.Bytes <= 1<<26, "payload.bytes", "is %d; want 1024 to 67108864", c.Payload.Bytes)
	p.Check(c.Payload.Held >= 1<<20 && c.Payload.Held <= 1<<34, "payload.held", "is %d; want 1048576 to 17179869184", c.Payload.Held)
	p.Check(c.Payload.Connections >= 1 && c.Payload.Connections <= 1<<22, "payload.connections", "is %d; want 1 to 4194304", c.Payload.Connections)
	p.Check(c.Payload.Match || !c.Payload.Reset, "payload.reset", "is set, and payload.match is not; what is not compared is not reset")
	p.Section("channel", c.Channel.Validate())
	p.Section("admin", c.Admin.Validate())
	p.Section("logging", c.Logging.Validate())
	p.Section("live", c.Live.Validate())
	return p.Join()
}
