package disk

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"dragnet/flow"
	"dragnet/internal/durable"
	"dragnet/store"
)

var epochName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

// Writer adds flows. Flows appended become part of the store with the next
// Commit, all or none. Append and Commit may be called from several goroutines.
// A store has one Writer at a time.
type Writer struct {
	s     *Store
	owned bool // closed with the writer
	epoch string

	mu      sync.Mutex // guards all below
	filling *table
	work    *errgroup.Group
	pending []*pending
	idle    chan *maker
	tables  chan *table
}

// pending is a segment that is being written.
type pending struct{ segment Segment }

// maker has the buffers for building segments; it is used by one goroutine at a
// time.
type maker struct {
	builder *builder
	indexer *indexer
}

// NewWriter opens a data directory, creating it if it does not exist, and starts
// writing, as Store.NewWriter does. Closing the writer closes the directory.
func NewWriter(dir, epoch string) (*Writer, error) {
	s, err := OpenWriter(dir)
	if err != nil {
		return nil, err
	}
	w, err := s.NewWriter(epoch)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	w.owned = true
	return w, nil
}

// NewWriter starts writing; epoch names the salts of new runs, by convention
// the day in UTC (see key.OneShotSalt). It takes about 60 MB of memory for each
// core, two at most, and 40 MB more.
func (s *Store) NewWriter(epoch string) (*Writer, error) {
	if !s.writer {
		return nil, fmt.Errorf("%s is open for reading only", s.dir)
	}
	if !epochName.MatchString(epoch) {
		return nil, fmt.Errorf("epoch %q: want letters, digits, -, _ and ., such as 2026-11-22", epoch)
	}
	const most = 2
	makers := min(most, runtime.GOMAXPROCS(0))
	w := &Writer{s: s, epoch: epoch, idle: make(chan *maker, makers), tables: make(chan *table, makers+1), work: &errgroup.Group{}}
	for range makers {
		b, err := newBuilder()
		if err != nil {
			return nil, err
		}
		x, err := newIndexer(epoch)
		if err != nil {
			return nil, err
		}
		w.idle <- &maker{b, x}
	}
	for range makers + 1 {
		w.tables <- nil // made when needed
	}
	s.writing.Lock()
	return w, nil
}

// Close ends writing. Uncommitted flows are discarded.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.work.Wait()
	w.discardPending()
	w.s.writing.Unlock()
	if w.owned {
		err = errors.Join(err, w.s.Close())
	}
	return err
}

// Sources lists the imported logs.
func (w *Writer) Sources(ctx context.Context) ([]store.ImportedLog, error) { return w.s.Sources(ctx) }

// Coverage describes what is stored.
func (w *Writer) Coverage(ctx context.Context) (flow.Coverage, error) { return w.s.Coverage(ctx) }

// Bytes is the size of all segments and runs.
func (w *Writer) Bytes(ctx context.Context) (int64, error) { return w.s.Bytes(ctx) }

// Log reads what was committed, through its keys if a question is standard.
func (w *Writer) Log() flow.Log { return w.s }

// ReleaseMemory frees the memory used for importing, if there is nothing to commit;
// the next flows allocate it again.
func (w *Writer) ReleaseMemory() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.filling != nil || len(w.pending) > 0 {
		return nil
	}
	for range cap(w.tables) {
		<-w.tables
		w.tables <- nil
	}
	for range cap(w.idle) {
		b, err := newBuilder()
		if err != nil {
			return err
		}
		x, err := newIndexer(w.epoch)
		if err != nil {
			return err
		}
		<-w.idle
		w.idle <- &maker{b, x}
	}
	return nil
}

// discardPending removes the files of segments that were never committed.
func (w *Writer) discardPending() {
	var paths []string
	for _, p := range w.pending {
		paths = append(paths, w.s.segmentFiles(p.segment)...)
	}
	w.pending = nil
	w.s.removeWhenUnread(paths)
}

// Append takes flows, which it copies. Full segments are written in the
// background; it blocks if flows arrive faster than they can be written.
func (w *Writer) Append(ctx context.Context, flows []flow.Flow) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(flows) > 0 {
		if w.filling == nil {
			if err := w.nextTable(ctx); err != nil {
				return err
			}
		}
		n := min(len(flows), w.filling.rowsLeft())
		w.filling.addFlows(flows[:n])
		flows = flows[n:]
		if w.filling.rowsLeft() == 0 {
			w.flushTable()
		}
	}
	return ctx.Err()
}

func (w *Writer) nextTable(ctx context.Context) error {
	select {
	case t := <-w.tables:
		if t == nil {
			t = newTable(segmentRows)
		}
		t.reset()
		w.filling = t
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flushTable starts writing the appended flows as a segment.
func (w *Writer) flushTable() {
	t := w.filling
	w.filling = nil
	p := &pending{Segment{Number: w.s.currentCatalogue().Next + uint64(len(w.pending)), Epoch: w.epoch}}
	w.pending = append(w.pending, p)
	w.work.Go(func() error {
		m := <-w.idle
		defer func() {
			w.idle <- m
			w.tables <- t
		}()
		return w.s.writeSegment(m, t, &p.segment)
	})
}

// writeSegment writes the files of a segment and completes its description.
func (s *Store) writeSegment(m *maker, t *table, g *Segment) error {
	g.Flows = t.n
	g.From, g.To = flow.Time(t.start[0]), flow.Time(t.start[0])
	for i := range t.n {
		g.From, g.To = min(g.From, flow.Time(t.start[i])), max(g.To, flow.Time(t.start[i]))
		g.Sampling = max(g.Sampling, t.u32[sampling][i])
	}
	data := m.builder.buildSegment(t, m.indexer.addBlock)
	g.Bytes = int64(len(data))
	if err := durable.WriteFile(s.segmentPath(g.Number), data, 0o640); err != nil {
		return fmt.Errorf("write a segment: %w", err)
	}
	data = m.indexer.finishRun()
	g.RunBytes = int64(len(data))
	if err := durable.WriteFile(s.runPath(g.Number, g.Epoch), data, 0o640); err != nil {
		return fmt.Errorf("write a run: %w", err)
	}
	return nil
}

// Commit makes everything appended since the last Commit part of the store,
// together with the state of the sources it came from, each of which replaces
// the one with its ID. When Commit returns nil, all of it is durable. After an
// error none of it is, and the Writer cannot be used.
func (w *Writer) Commit(sources ...store.ImportedLog) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.s.broken != nil {
		return w.s.broken
	}
	if w.filling != nil && w.filling.n > 0 {
		w.flushTable()
	}
	err := w.work.Wait()
	w.work = &errgroup.Group{}
	if err != nil {
		w.discardPending()
		return err
	}
	err = w.s.replaceCatalogue(func(c *catalogue) {
		for _, p := range w.pending {
			c.Segments = append(c.Segments, p.segment)
		}
		c.Next += uint64(len(w.pending))
		for _, f := range sources {
			c.setSource(f)
		}
	})
	if err != nil {
		return err
	}
	w.pending = nil
	// The commit is done. If small segments could not be merged, for example
	// because the disk is full, they stay as they are.
	_ = w.mergeSegments()
	return nil
}

// setSource stores a log's new state.
func (c *catalogue) setSource(f store.ImportedLog) {
	for i := range c.Sources {
		if c.Sources[i].ID == f.ID {
			c.Sources[i] = f
			return
		}
	}
	c.Sources = append(c.Sources, f)
}
