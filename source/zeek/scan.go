package zeek

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dragnet/flow"
	"dragnet/internal/unpack"
)

// Scan reads the whole log and calls fn with its flows in batches. It runs on
// all cores: fn is called from several goroutines at once, in no particular
// order, and must not keep the batch, though it may copy flows out of it. Flows
// that start outside w are left out, but the coverage counts them too. cols are
// the optional columns wanted; the others are not parsed, so a mistake in them
// is not noticed.
//
// Damaged lines and files are counted in the coverage. An error means that a
// file could not be read at all, that ctx ended, or is fn's own; the coverage
// then describes what was read before.
func (l *ConnLog) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	return l.scanChunks(ctx, w, cols, fn, chunkSize)
}

func (l *ConnLog) scanChunks(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error, size int) (flow.Coverage, error) {
	var cov flow.Coverage
	for _, p := range l.foreign {
		cov.Skip(p.Place, "%s", p.Reason)
	}
	if len(l.files) == 0 {
		return cov, nil
	}
	workers := make([]*worker, runtime.GOMAXPROCS(0))
	s := &scan{files: l.files, size: size, turns: make(chan *turn, len(workers))}
	for range min(len(workers), len(l.files)) {
		s.reading.Add(1)
		s.turns <- &turn{}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range workers {
		workers[i] = &worker{scan: s, parser: newParser(cols), window: w, fn: fn, batch: make([]flow.Flow, batchSize)}
		group.Go(func() error { return workers[i].runWorker(ctx) })
	}
	err := group.Wait()
	s.closeFiles()
	var lost losses
	for _, each := range workers {
		cov.Merge(each.cov)
		lost.mergeLosses(each.parser.lost)
	}
	lost.reportTo(&cov, func(i int) string { return l.files[i] })
	return cov, err
}

// scan is the state shared by the workers of one Scan. As many files as there
// are workers are open at a time. The worker that holds a file's turn reads the
// next chunk of it, passes the turn on, and then parses: so the parts of one
// file are parsed in parallel, and several gzip files are decompressed in
// parallel.
type scan struct {
	files   []string
	size    int
	opened  atomic.Int64 // number of files started
	reading atomic.Int64 // number of turns not finished
	turns   chan *turn   // closed when no file is left
}

// turn is the right to read from one file.
type turn struct {
	number int   // of the file
	file   *file // nil before the first and between two
	stream *stream
}

type worker struct {
	*scan
	parser *parser
	window flow.Window
	fn     func([]flow.Flow) error
	cov    flow.Coverage
	batch  []flow.Flow
	buf    []byte
}

func (w *worker) runWorker(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t, ok := <-w.turns:
			if !ok {
				return nil
			}
			if err := w.takeChunk(ctx, t); err != nil {
				return err
			}
		}
	}
}

// takeChunk reads a chunk of t's file, passes t on and parses the chunk.
func (w *worker) takeChunk(ctx context.Context, t *turn) error {
	if t.file == nil {
		return w.nextFile(t)
	}
	c, buf, err := t.stream.nextChunk(w.buf)
	w.buf = buf
	number := t.number
	if err != nil {
		c, err = w.finishFile(t, err)
	}
	if err != nil {
		return err
	}
	w.turns <- t
	return w.parseChunk(ctx, number, c)
}

// nextFile opens another file for t, or ends t if there is none.
func (w *worker) nextFile(t *turn) error {
	n := int(w.opened.Add(1)) - 1
	if n >= len(w.files) {
		if w.reading.Add(-1) == 0 {
			close(w.turns)
		}
		return nil
	}
	f, err := openFile(w.files[n])
	if err != nil {
		return err
	}
	t.number, t.file, t.stream = n, f, newStream(f)
	t.stream.size = w.size
	w.turns <- t
	return nil
}

// finishFile closes a file that ended with err and returns its last chunk.
func (w *worker) finishFile(t *turn, err error) (chunk, error) {
	t.file.Close()
	t.file = nil
	if err == io.EOF {
		return t.stream.lastChunk(), nil
	}
	if unpack.IsDamage(err) {
		w.parser.lost.addLoss(t.number, t.stream.line+1, fault{why: other, text: fmt.Sprintf("%v: nothing from this line on could be read", err)})
		return chunk{}, nil
	}
	return chunk{}, fmt.Errorf("read %s: %w", w.files[t.number], err)
}

func (w *worker) parseChunk(ctx context.Context, number int, c chunk) error {
	w.parser.startChunk(number, c)
	for ctx.Err() == nil {
		n := w.parser.fillBatch(w.batch)
		if n == 0 {
			return nil
		}
		batch := w.batch[:n]
		w.cov.Saw(batch)
		if batch = keepInside(w.window, batch); len(batch) == 0 {
			continue
		}
		if err := w.fn(batch); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// keepInside keeps, in place, the flows that start in w.
func keepInside(w flow.Window, batch []flow.Flow) []flow.Flow {
	if w == flow.AllTime {
		return batch
	}
	n := 0
	for i := range batch {
		if w.Contains(batch[i].Start) {
			batch[n] = batch[i]
			n++
		}
	}
	return batch[:n]
}

// closeFiles closes what an error left open.
func (s *scan) closeFiles() {
	for {
		select {
		case t, ok := <-s.turns:
			if !ok {
				return
			}
			if t.file != nil {
				t.file.Close()
			}
		default:
			return
		}
	}
}
