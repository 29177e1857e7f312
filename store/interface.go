package store

import (
	"context"
	"time"

	"dragnet/flow"
)

// Reader is a store that is open for reading.
type Reader interface {
	flow.Log
	// Coverage describes what is stored.
	Coverage(ctx context.Context) (flow.Coverage, error)
	// Bytes is the size on disk.
	Bytes(ctx context.Context) (int64, error)
	Close() error
}

// Appender takes flows.
type Appender interface {
	// Append takes flows, which become part of the store with the next Commit,
	// all or none.
	Append(ctx context.Context, flows []flow.Flow) error
	// Commit makes them durable, and the new states of the logs they are from.
	Commit(logs ...ImportedLog) error
}

// Claimer is an Appender of a store into which others import at the same time.
type Claimer interface {
	Appender
	// Claim reserves a log, named by the sum of its beginning, until the next
	// Commit; free is false if another importer has it. News are the logs of
	// which others committed something since the last call.
	Claim(ctx context.Context, name string) (free bool, news []ImportedLog, err error)
}

// Writer is a store that is open for writing.
type Writer interface {
	Appender
	// Sources lists the imported logs.
	Sources(ctx context.Context) ([]ImportedLog, error)
	// Coverage describes what is stored.
	Coverage(ctx context.Context) (flow.Coverage, error)
	// Bytes is the size on disk.
	Bytes(ctx context.Context) (int64, error)
	// Log reads what was committed.
	Log() flow.Log
	// Prune removes what exceeds keep, and returns it.
	Prune(ctx context.Context, keep Keep, now time.Time) ([]Removed, error)
	// Rotate computes the keys of standard questions for the salts of another
	// epoch, if the store keeps keys.
	Rotate(ctx context.Context, epoch string) error
	// ReleaseMemory frees buffers that the next flows allocate again.
	ReleaseMemory() error
	// Close ends writing. Uncommitted flows are discarded.
	Close() error
}
