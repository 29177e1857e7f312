// Package store has the types shared by all stores of flows: imported logs and
// retention. The stores are its subfolders: disk, a data directory on one
// machine, and clickhouse, a database shared by many nodes.
package store

import (
	"time"

	"dragnet/flow"
)

// ImportedLog is the state of a log or capture that was imported, at least in
// part. It is identified by its content, so it is recognised after it was
// renamed, compressed, or has grown.
type ImportedLog struct {
	// ID is a random name that does not change.
	ID string `json:"id"`
	// Name is the path under which it was last read.
	Name string `json:"name"`
	// Offset is the number of its bytes, decompressed, that are in the store.
	Offset int64 `json:"offset"`
	// Head and Tail are SHA-256 of the first and of the last bytes before
	// Offset, 64 KiB of them or as many as there are.
	Head string `json:"head"`
	Tail string `json:"tail"`
	// Line and Header are the reader's position; see zeek.Mark.
	Line   int64  `json:"line,omitempty"`
	Header string `json:"header,omitempty"`
	// Whole says that it was read in one piece and cannot be continued.
	Whole bool `json:"whole,omitempty"`
	// Flows counts the flows read, Skipped the lines or packets that could not
	// be used.
	Flows   uint64 `json:"flows"`
	Skipped uint64 `json:"skipped"`
	// Imported is the time of the last import.
	Imported flow.Time `json:"imported"`
}

// Keep is the retention policy; 0 means no bound.
type Keep struct {
	// Age is how long a flow is kept, counted back from the newest flow, or
	// from now if that is later than now: a clock that jumps ahead must not
	// empty the store. What is removed together is removed when its last flow
	// is too old.
	Age time.Duration
	// Bytes bounds the size of what is stored; the oldest go first.
	Bytes int64
}

// Removed describes what retention removed together.
type Removed struct {
	Flows uint64
	// From and To are the first and the last start of a flow.
	From, To flow.Time
}

// Grouping is what flows are counted by.
type Grouping uint8

// The groupings; ByService is protocol and responder's port.
const (
	All Grouping = iota
	BySource
	ByDestination
	ByService
	ByProto
	ByState
	ByHour
	ByDay
)

// Tally is the sum over the flows of one group.
type Tally struct {
	// Flow has only the group's value: of an hour or a day, First as its start.
	Flow flow.Flow
	// Flows counts all, Established and Failed the established and the failed
	// ones.
	Flows, Established, Failed uint64
	// Bytes counts from the IP header on if the source did, else payload.
	Bytes uint64
	// First and Last are the first and the last start.
	First, Last flow.Time
}
