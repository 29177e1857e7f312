// Package store names what every place for flows shares: what was imported, and
// how long it is kept. The places are its subfolders: disk, a data directory on
// one machine, and clickhouse, a database that many nodes share.
package store

import (
	"time"

	"dragnet/flow"
)

// Source is a log or capture of which something was imported. What identifies
// it is its content, so it is known again after it was renamed, compressed, or
// has grown.
type Source struct {
	// ID is a random name that the source keeps.
	ID string `json:"id"`
	// Name is the path under which it was last read.
	Name string `json:"name"`
	// Offset is how many of its bytes, decompressed, are in the store.
	Offset int64 `json:"offset"`
	// Head and Tail are SHA-256 of the first and of the last bytes before
	// Offset, 64 KiB of them or as many as there are.
	Head string `json:"head"`
	Tail string `json:"tail"`
	// Line and Header are the reader's place; see zeek.Mark.
	Line   int64  `json:"line,omitempty"`
	Header string `json:"header,omitempty"`
	// Whole says that it was read in one piece and cannot be continued.
	Whole bool `json:"whole,omitempty"`
	// Flows and Skipped count what was read and what could not be used.
	Flows   uint64 `json:"flows"`
	Skipped uint64 `json:"skipped"`
	// Imported is when the last of it was.
	Imported flow.Time `json:"imported"`
}

// Keep says what retention leaves; 0 means no bound.
type Keep struct {
	// Age is how long a flow is kept, counted back from the newest flow, or
	// from now if that is later than now: a clock that jumps ahead must not
	// empty the store. What is removed together goes when its last flow is too
	// old.
	Age time.Duration
	// Bytes bounds the size of what is stored; the oldest go first.
	Bytes int64
}

// Removed is what retention removed together.
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

// Tally sums up the flows of one group.
type Tally struct {
	// Flow has the group's value and nothing else: of an hour or a day, First as
	// its start.
	Flow flow.Flow
	// Flows counts all, Established and Failed those that were.
	Flows, Established, Failed uint64
	// Bytes counts from the IP header on where the source did, else payload.
	Bytes uint64
	// First and Last are the first and the last start.
	First, Last flow.Time
}
