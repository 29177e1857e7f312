// Package stream puts the two byte streams of TCP connections together from
// captured segments.
//
// Segments may come late, twice, overlapping or not at all. Each direction is
// handed out in order and once; where the capture has a hole, its length is
// stated instead. A hole is given up as soon as the receiver acknowledges data
// behind it, when too much waits above it, or when the connection ends. Where
// segments disagree about a byte, the one that came first wins.
//
// Memory is bounded per connection and in total.
package stream

import (
	"fmt"
	"net/netip"
	"time"
)

// Key names a connection by its ends. The client is who sent the SYN; of a
// connection seen from the middle, who sent the first packet seen.
type Key struct {
	Client, Server netip.AddrPort
}

// String is "client > server".
func (k Key) String() string { return fmt.Sprintf("%v > %v", k.Client, k.Server) }

// Direction is one of the two streams of a connection.
type Direction uint8

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// Reason says why a connection is over.
type Reason uint8

// The reasons.
const (
	// Finished: both sides sent a FIN and all data before it was handed out.
	Finished Reason = iota
	// Reset: one side sent a RST.
	Reset
	// Idle: nothing came for too long.
	Idle
	// Reused: a new connection began between the same ports.
	Reused
	// Evicted: there were too many connections, and this one had been silent
	// longest.
	Evicted
	// Flushed: the capture ended.
	Flushed
)

// String is the reason in lower case.
func (r Reason) String() string {
	return [...]string{"finished", "reset", "idle", "reused", "evicted", "flushed"}[r]
}

// Handler receives what one connection carries.
type Handler interface {
	// Data is the next bytes of a direction; b is valid during the call.
	Data(dir Direction, b []byte)
	// Gap tells that the next n bytes of a direction are not in the capture.
	Gap(dir Direction, n int64)
	// Close is called last, once.
	Close(why Reason)
}

// Configuration bounds an Assembler.
type Configuration struct {
	// MaxConnections bounds the connections followed at once.
	MaxConnections int
	// MaxWaiting bounds the bytes that wait above a hole in one direction, and
	// MaxWaitingTotal in all.
	MaxWaiting, MaxWaitingTotal int
	// IdleTimeout ends a connection on which nothing was sent.
	IdleTimeout time.Duration
	// IgnoreChecksums takes segments with a wrong checksum as good. They are
	// dropped otherwise, as their receiver will have done.
	IgnoreChecksums bool
}

// DefaultConfiguration is for a host with a few hundred megabytes to spare.
func DefaultConfiguration() Configuration {
	return Configuration{
		MaxConnections:  1 << 18,
		MaxWaiting:      1 << 20,
		MaxWaitingTotal: 128 << 20,
		IdleTimeout:     5 * time.Minute,
	}
}
