package ingest

import (
	"context"
	"errors"
	"time"

	"dragnet/ask/witness"
	"dragnet/flow"
	"dragnet/store"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
)

// Writer is what an Importer needs of a store.
type Writer interface {
	// Append takes flows, which become part of the store with the next Commit,
	// all or none.
	Append(ctx context.Context, flows []flow.Flow) error
	// Commit makes them, and the new states of the logs they are from, last.
	Commit(sources ...store.ImportedLog) error
}

// Shared is a Writer of a store into which others import at the same time.
type Shared interface {
	Writer
	// Claim reserves a log, named by the sum of its beginning, until the next
	// Commit; free is false if another importer has it. News are the logs of
	// which others committed something since the last call.
	Claim(ctx context.Context, name string) (free bool, news []store.ImportedLog, err error)
}

// Place is a store that is open for writing.
type Place interface {
	Writer
	Sources(ctx context.Context) ([]store.ImportedLog, error)
	Coverage(ctx context.Context) (flow.Coverage, error)
	// Log reads what was committed.
	Log() witness.Log
	// Bytes is the size on disk.
	Bytes(ctx context.Context) (int64, error)
	// Prune removes what keep does not leave, and returns it.
	Prune(ctx context.Context, keep store.Keep, now time.Time) ([]store.Removed, error)
	// Rotate makes the keys of standard questions for the salts of another
	// epoch, where a store keeps such.
	Rotate(ctx context.Context, epoch string) error
	Close() error
}

// OpenPlace opens a data directory, or the database at a clickhouse:// address,
// for writing, and makes it where there is none. New flows get keys of epoch.
func OpenPlace(ctx context.Context, place, epoch string) (Place, error) {
	if clickhouse.Is(place) {
		w, err := clickhouse.OpenWriter(ctx, place)
		if err != nil {
			return nil, err
		}
		return database{w}, nil
	}
	s, err := disk.OpenWriter(place)
	if err != nil {
		return nil, err
	}
	w, err := s.NewWriter(epoch)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return directory{w, s}, nil
}

// Store is a store that is open for reading.
type Store interface {
	witness.Log
	Coverage(ctx context.Context) (flow.Coverage, error)
	Close() error
}

// OpenStore opens a data directory, or the database at a clickhouse:// address,
// for reading.
func OpenStore(ctx context.Context, place string) (Store, error) {
	if clickhouse.Is(place) {
		s, err := clickhouse.Open(ctx, place)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := disk.Open(place)
	if err != nil {
		return nil, err
	}
	return readable{s}, nil
}

// readable is a data directory as a Store.
type readable struct{ *disk.Store }

// Coverage tells what is stored.
func (r readable) Coverage(context.Context) (flow.Coverage, error) { return r.Store.Coverage(), nil }

// directory is a data directory as a Place.
type directory struct {
	*disk.Writer
	store *disk.Store
}

// Sources lists what was imported.
func (d directory) Sources(context.Context) ([]store.ImportedLog, error) {
	return d.store.Sources(), nil
}

// Coverage tells what is stored.
func (d directory) Coverage(context.Context) (flow.Coverage, error) { return d.store.Coverage(), nil }

// Log reads the directory, through its keys where a question is standard.
func (d directory) Log() witness.Log { return d.store }

// Bytes is the size of segments and runs.
func (d directory) Bytes(context.Context) (int64, error) { return d.store.Bytes(), nil }

// Prune removes segments.
func (d directory) Prune(_ context.Context, keep store.Keep, now time.Time) ([]store.Removed, error) {
	segments, err := d.Writer.Prune(keep, now)
	removed := make([]store.Removed, len(segments))
	for i, g := range segments {
		removed[i] = store.Removed{Flows: uint64(g.Flows), From: g.From, To: g.To}
	}
	return removed, err
}

// Rotate rebuilds the runs of all segments.
func (d directory) Rotate(ctx context.Context, epoch string) error {
	return d.Writer.Rotate(ctx, epoch, false, nil)
}

// Close ends writing and closes the directory.
func (d directory) Close() error { return errors.Join(d.Writer.Close(), d.store.Close()) }

// database is ClickHouse as a Place. It hashes columns when asked and keeps no
// keys.
type database struct{ *clickhouse.Writer }

// Log reads the database.
func (d database) Log() witness.Log { return d.Store }

// Rotate does nothing.
func (database) Rotate(context.Context, string) error { return nil }
