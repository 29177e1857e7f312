package disk

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dragnet/flow"
)

// Scan calls fn with the flows that start in w, in batches, from several
// goroutines at once and in no particular order; a batch is valid only during
// the call. Of the optional columns those in cols are filled; see flow.Columns.
// The coverage counts everything stored. A damaged segment is left out and
// listed among the problems.
func (s *Store) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	return s.eachSegment(ctx, w, func(r *visitor) error {
		for i, b := range r.footer.blocks {
			if !windowOverlaps(w, b.first, b.last) {
				continue
			}
			if err := r.readBlock(i, cols); err != nil {
				return err
			}
			r.batch = r.rows.appendFlows(r.batch[:0], w)
			if len(r.batch) > 0 {
				if err := fn(r.batch); err != nil {
					return stop{err}
				}
			}
			if ctx.Err() != nil {
				return stop{ctx.Err()}
			}
		}
		return nil
	})
}

// windowOverlaps reports whether w holds an instant of [first, last].
func windowOverlaps(w flow.Window, first, last int64) bool {
	return flow.Time(last) >= w.From && (w.To == 0 || flow.Time(first) < w.To)
}

// appendFlows appends the rows that start in w.
func (t *table) appendFlows(batch []flow.Flow, w flow.Window) []flow.Flow {
	for i := range t.n {
		if w.Contains(flow.Time(t.start[i])) {
			batch = append(batch, flow.Flow{})
			t.toFlow(i, &batch[len(batch)-1])
		}
	}
	return batch
}

// stop wraps an error not caused by a segment, and ends the scan.
type stop struct{ error }

// visitor reads the segments one after the other; one goroutine uses it.
type visitor struct {
	*blockReader
	segment *segment
	batch   []flow.Flow
	hits    []int32
	hashed  []uint32
}

// eachSegment calls visit for every segment that may hold flows of w, on all
// cores. An error of visit means that the segment is damaged, unless it is a
// stop.
func (s *Store) eachSegment(ctx context.Context, w flow.Window, visit func(*visitor) error) (flow.Coverage, error) {
	view := s.beginReading()
	defer s.endReading()
	var next atomic.Int64
	var mu sync.Mutex
	cov := view.cat.coverage()
	group, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), max(len(view.segments), 1)) {
		group.Go(func() error {
			reader, err := newBlockReader()
			if err != nil {
				return err
			}
			defer reader.dec.zstd.Close()
			v := &visitor{blockReader: reader}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(view.segments) {
					return nil
				}
				g := view.segments[i]
				if !windowOverlaps(w, int64(g.From), int64(g.To)) {
					continue
				}
				if err := v.visitSegment(g, visit); err != nil {
					if end, ok := err.(stop); ok {
						return end.error
					}
					mu.Lock()
					cov.Skip(g.path, "%v; 'dragnet store check' reports all damage and what can be done", err)
					mu.Unlock()
				}
			}
			return ctx.Err()
		})
	}
	err := group.Wait()
	return cov, err
}

func (v *visitor) visitSegment(g *segment, visit func(*visitor) error) error {
	if err := g.openFile(); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	v.segment = g
	v.openSegment(g.file, g.footer)
	return visit(v)
}
