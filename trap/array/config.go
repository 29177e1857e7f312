// Package array is the outbound array: it takes every connection and datagram
// that an inbound honeypot sends to anybody, answers as the service that it was
// meant for would, and records all of it (Tang 2006, section 2.2).
//
// It cannot be used against others: it opens no connections, and over UDP it
// never sends more bytes than it received, so that a forged source gets no more
// than was sent in its name.
package array

import (
	"time"

	"dragnet/internal/conf"
)

// Configuration of an array.
type Configuration struct {
	// Port is the TCP and UDP port to which the translator redirects; packets
	// keep their own destination.
	Port uint16 `yaml:"port"`
	// Sessions bounds the sessions at a time; more connections are closed at
	// once, and counted.
	Sessions int `yaml:"sessions"`
	// PerClient bounds those of one honeypot's address.
	PerClient int `yaml:"per_client"`
	// SessionBytes bounds what is kept of each side of a session.
	SessionBytes int `yaml:"session_bytes"`
	// MemoryBytes bounds what is kept of all sessions at a time, beside the first
	// 4096 bytes of each; what is beyond is counted as lost.
	MemoryBytes int64 `yaml:"memory_bytes"`
	// Idle ends a session whose client is silent; Longest ends any.
	Idle time.Duration `yaml:"idle"`
	// Longest bounds how long one session may last.
	Longest time.Duration `yaml:"longest"`
}

// DefaultConfiguration suits one honeypot host on a small machine.
func DefaultConfiguration() Configuration {
	return Configuration{Port: 5113, Sessions: 10_000, PerClient: 5000, SessionBytes: 1 << 20, MemoryBytes: 128 << 20, Idle: 30 * time.Second, Longest: 10 * time.Minute}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Port > 0, "port", "is 0; want 1 to 65535")
	p.Check(c.Sessions >= 1 && c.Sessions <= 1_000_000, "sessions", "is %d; want 1 to 1000000", c.Sessions)
	p.Check(c.PerClient >= 1, "per_client", "is %d; want at least 1", c.PerClient)
	p.Check(c.SessionBytes >= 1024 && c.SessionBytes <= 64<<20, "session_bytes", "is %d; want 1024 to 67108864", c.SessionBytes)
	p.Check(c.MemoryBytes >= 1<<20, "memory_bytes", "is %d; want at least 1048576", c.MemoryBytes)
	p.Check(c.Idle >= 100*time.Millisecond && c.Idle <= time.Hour, "idle", "is %v; want 100ms to 1h", c.Idle)
	p.Check(c.Longest >= c.Idle && c.Longest <= 24*time.Hour, "longest", "is %v; want idle, %v, to 24h", c.Longest, c.Idle)
	return p.Join()
}
