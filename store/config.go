package store

import (
	"time"

	"dragnet/internal/conf"
)

// Configuration says where flows are kept, and how long.
type Configuration struct {
	// Directory is the data directory; it is created if it does not exist.
	Directory string `yaml:"directory"`
	// ClickHouse is the address of a database that holds the flows instead,
	// such as clickhouse://dragnet@db.example:9000/flows; other nodes may use
	// the same. Its password is read from DRAGNET_CLICKHOUSE_PASSWORD.
	ClickHouse string `yaml:"clickhouse"`
	// KeepDays is how much older than the newest flow a flow may become; 0
	// keeps all.
	KeepDays int `yaml:"keep_days"`
	// KeepBytes bounds the size of the data directory: the oldest flows are
	// removed first; 0 keeps all.
	KeepBytes int64 `yaml:"keep_bytes"`
}

// DefaultConfiguration keeps flows for 30 days.
func DefaultConfiguration() Configuration {
	return Configuration{Directory: "/var/lib/dragnet", KeepDays: 30}
}

// Validate reports all invalid settings; the address of a database is checked by
// its own package.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Directory != "", "directory", "is empty; name one such as /var/lib/dragnet")
	p.Check(c.KeepDays >= 0 && c.KeepDays <= 36500, "keep_days", "is %d; want 0 to 36500", c.KeepDays)
	p.Check(c.KeepBytes >= 0, "keep_bytes", "is %d; want at least 0", c.KeepBytes)
	return p.Join()
}

// Place is where the flows are kept: the database if there is one, else the data
// directory.
func (c *Configuration) Place() string {
	if c.ClickHouse != "" {
		return c.ClickHouse
	}
	return c.Directory
}

// Keep is the retention policy.
func (c *Configuration) Keep() Keep {
	return Keep{Age: time.Duration(c.KeepDays) * 24 * time.Hour, Bytes: c.KeepBytes}
}
