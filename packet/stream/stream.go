// Package stream reassembles the two byte streams of TCP connections from
// captured segments.
//
// Segments may arrive late, twice, overlapping or not at all. Each direction is
// delivered in order and once; for a hole in the capture, its length is
// reported instead. A hole is given up as soon as the receiver acknowledges
// data after it, when too much waits above it, or when the connection ends. If
// segments disagree about a byte, the one that arrived first wins.
//
// Memory is bounded per connection and in total.
package stream

import (
	"fmt"
	"net/netip"
	"time"
)

// Key names a connection by its ends. The client is the sender of the SYN; of a
// connection seen from the middle, the sender of the first packet seen.
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

// CloseReason is why a connection ended.
type CloseReason uint8

// The reasons.
const (
	// Finished: both sides sent a FIN and all data before it was delivered.
	Finished CloseReason = iota
	// Reset: one side sent a RST.
	Reset
	// Idle: no packet arrived for too long.
	Idle
	// Reused: a new connection started between the same ports.
	Reused
	// Evicted: there were too many connections, and this one had been idle
	// longest.
	Evicted
	// Flushed: the capture ended.
	Flushed
)

// String is the reason in lower case.
func (r CloseReason) String() string {
	return [...]string{"finished", "reset", "idle", "reused", "evicted", "flushed"}[r]
}

// Handler receives the data of one connection.
type Handler interface {
	// Data is the next bytes of a direction; b is valid during the call.
	Data(dir Direction, b []byte)
	// Gap reports that the next n bytes of a direction are not in the capture.
	Gap(dir Direction, n int64)
	// Close is called once, last.
	Close(why CloseReason)
}

// Configuration bounds an Assembler.
type Configuration struct {
	// MaxConnections bounds the connections followed at once.
	MaxConnections int
	// MaxWaiting bounds the bytes that wait above a hole in one direction, and
	// MaxWaitingTotal those of all connections.
	MaxWaiting, MaxWaitingTotal int
	// IdleTimeout ends a connection without packets.
	IdleTimeout time.Duration
	// IgnoreChecksums accepts segments with a wrong checksum. Otherwise they
	// are dropped, as by their receiver.
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
