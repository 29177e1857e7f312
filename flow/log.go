package flow

import (
	"context"
	"sync"
)

// Log is what was seen: a file, a capture, a store.
type Log interface {
	// Scan hands flows to fn in batches, from several goroutines at once; a
	// batch is valid only during the call. Flows that start outside w may be
	// left out; columns outside cols need not be filled. The coverage counts
	// everything read.
	Scan(ctx context.Context, w Window, cols Columns, fn func([]Flow) error) (Coverage, error)
}

// SerializeCalls returns fn for Scan such that one call waits for another.
func SerializeCalls(fn func([]Flow) error) func([]Flow) error {
	var mu sync.Mutex
	return func(batch []Flow) error {
		mu.Lock()
		defer mu.Unlock()
		return fn(batch)
	}
}
