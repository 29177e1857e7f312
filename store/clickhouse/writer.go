package clickhouse

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"dragnet/flow"
	"dragnet/store"
)

// Writer adds flows. Flows appended become part of the store with the next
// Commit, all or none. It is safe for concurrent use; several writers may be
// open, on several nodes.
type Writer struct {
	*Store
	id uint64 // of this opening

	mu     sync.Mutex // guards all below
	batch  uint64     // the number of the one being filled
	filled []flow.Flow
	days   map[uint16]*flow.Coverage // contents of the batch, inserted or not
	claims claims
	broken error // the error after which nothing is written
}

// blockRows is how many flows are inserted at a time: many for ClickHouse,
// which merges inserts, and few for our memory, about 60 MB.
const blockRows = 1 << 17

// OpenWriter opens the store at an address for reading and writing, and creates
// it if it does not exist.
func OpenWriter(ctx context.Context, address string) (*Writer, error) {
	s, err := connect(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := s.applyMigrations(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return newWriter(s), nil
}

func newWriter(s *Store) *Writer {
	w := &Writer{Store: s, batch: 1, days: map[uint16]*flow.Coverage{}}
	var b [8]byte
	rand.Read(b[:]) // never fails
	// The two ends of the range are kept: none, and the end of a list.
	w.id = max(1, binary.LittleEndian.Uint64(b[:])>>1)
	w.claims = claims{held: map[string]bool{}, seen: map[uint64]uint64{}}
	return w
}

// Close ends writing. Uncommitted flows are discarded.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(w.releaseClaims(ctx), w.Store.Close())
}

// Append takes flows, which it copies.
func (w *Writer) Append(ctx context.Context, flows []flow.Flow) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	if err := w.renewClaims(ctx); err != nil {
		return w.markBroken(err)
	}
	for len(flows) > 0 {
		n := min(len(flows), blockRows-len(w.filled))
		w.filled = append(w.filled, flows[:n]...)
		flows = flows[n:]
		if len(w.filled) == blockRows {
			if err := w.flushBlock(ctx); err != nil {
				return w.markBroken(err)
			}
		}
	}
	return nil
}

// markBroken refuses all further work. How much of a failed insert the server
// did is not known, and does not count without a commit.
func (w *Writer) markBroken(err error) error {
	w.broken = err
	return err
}

// maxPartitions is how many days one block may touch; servers refuse more than
// a hundred.
const maxPartitions = 90

// flushBlock inserts the appended flows.
func (w *Writer) flushBlock(ctx context.Context) error {
	byDay := map[uint16][]flow.Flow{}
	var days []uint16
	for i := range w.filled {
		day := dayOf(w.filled[i].Start)
		if byDay[day] == nil {
			days = append(days, day)
		}
		byDay[day] = append(byDay[day], w.filled[i])
	}
	slices.Sort(days)
	for some := range slices.Chunk(days, maxPartitions) {
		block := byDay[some[0]]
		for _, day := range some[1:] {
			block = append(block, byDay[day]...)
		}
		if err := w.insertBlock(ctx, flowColumns, makeColumns(block, w.id, w.batch)...); err != nil {
			return err
		}
	}
	for _, day := range days {
		if w.days[day] == nil {
			w.days[day] = &flow.Coverage{}
		}
		w.days[day].Saw(byDay[day])
	}
	clear(w.filled) // the histories are no longer needed
	w.filled = w.filled[:0]
	return nil
}

// commitWithin bounds a commit, whose inserts are small but wait for the disk.
const commitWithin = 5 * time.Minute

// Commit makes everything appended since the last Commit part of the store,
// together with the state of the logs it came from, each of which replaces the
// one with its ID. When Commit returns nil, all of it is committed. After an
// error it is not known whether it is, and the Writer cannot be used: open
// another, whose Sources show it.
func (w *Writer) Commit(sources ...store.ImportedLog) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitWithin)
	defer cancel()
	if len(w.filled)+len(w.days)+len(sources) > 0 {
		if err := w.commitBatch(ctx, sources); err != nil {
			return w.markBroken(err)
		}
	}
	return w.releaseClaims(ctx)
}

func (w *Writer) commitBatch(ctx context.Context, sources []store.ImportedLog) error {
	if err := w.flushBlock(ctx); err != nil {
		return err
	}
	if err := w.insertDays(ctx); err != nil {
		return err
	}
	if err := w.holdClaims(ctx); err != nil {
		return err
	}
	all := append([]store.ImportedLog{{}}, sources...) // the first is the commit itself
	column := func(field func(store.ImportedLog) string) []string {
		out := make([]string, len(all))
		for i, f := range all {
			out[i] = field(f)
		}
		return out
	}
	number := func(field func(store.ImportedLog) int64) []int64 {
		out := make([]int64, len(all))
		for i, f := range all {
			out[i] = field(f)
		}
		return out
	}
	whole, flows, skipped := make([]uint8, len(all)), make([]uint64, len(all)), make([]uint64, len(all))
	for i, f := range all {
		if f.Whole {
			whole[i] = 1
		}
		flows[i], skipped[i] = f.Flows, f.Skipped
	}
	err := w.insertBlock(ctx, "$db.commits ("+sourceColumns+")",
		column(func(f store.ImportedLog) string { return f.ID }), repeatValue(w.id, len(all)), repeatValue(w.batch, len(all)),
		column(func(f store.ImportedLog) string { return f.Name }), number(func(f store.ImportedLog) int64 { return f.Offset }),
		column(func(f store.ImportedLog) string { return f.Head }), column(func(f store.ImportedLog) string { return f.Tail }),
		number(func(f store.ImportedLog) int64 { return f.Line }), column(func(f store.ImportedLog) string { return f.Header }), whole, flows, skipped,
		number(func(f store.ImportedLog) int64 { return int64(f.Imported) }))
	if err != nil {
		return err
	}
	w.batch++
	clear(w.days)
	return nil
}

// insertDays inserts what the batch holds of each day.
func (w *Writer) insertDays(ctx context.Context) error {
	var days []uint16
	for day := range w.days {
		days = append(days, day)
	}
	slices.Sort(days)
	for some := range slices.Chunk(days, maxPartitions) {
		n := len(some)
		flows, first, last, sampling := make([]uint64, n), make([]int64, n), make([]int64, n), make([]uint32, n)
		for i, day := range some {
			c := w.days[day]
			flows[i], first[i], last[i], sampling[i] = c.Flows, int64(c.From), int64(c.To), c.Sampling
		}
		err := w.insertBlock(ctx, "$db.days (day, writer, batch, flows, first_start, last_start, sampling_rate)",
			some, repeatValue(w.id, n), repeatValue(w.batch, n), flows, first, last, sampling)
		if err != nil {
			return err
		}
	}
	return nil
}

// Log reads what was committed.
func (w *Writer) Log() flow.Log { return w.Store }

// Rotate does nothing: the database hashes columns when asked and keeps no keys.
func (w *Writer) Rotate(context.Context, string) error { return nil }

// ReleaseMemory frees the buffer of flows, if there is nothing to commit.
func (w *Writer) ReleaseMemory() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.filled) == 0 {
		w.filled = nil
	}
	return nil
}
