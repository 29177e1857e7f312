package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dragnet/flow"
	"dragnet/internal/durable"
	"dragnet/store"
)

// mergeWidth is how many small segments of one size are merged into one: a flow
// is rewritten at most once for each size.
const mergeWidth = 8

// sizeClass is a segment's size: 0 up to 8192 flows, 1 up to 65,536, 2 up to
// the limit of a segment, 3 full.
func sizeClass(g Segment) int {
	switch {
	case g.Flows == segmentRows:
		return 3
	case g.Flows > segmentRows/mergeWidth:
		return 2
	case g.Flows > segmentRows/mergeWidth/mergeWidth:
		return 1
	}
	return 0
}

// mergeSegments merges small neighbouring segments, as long as there are any.
// The caller holds w.mu and everything is committed.
func (w *Writer) mergeSegments() error {
	for {
		from, to := findMergeable(w.s.currentCatalogue().Segments)
		if from == to {
			return nil
		}
		if ok, err := w.joinSegments(from, to); err != nil || !ok {
			return err
		}
	}
}

// findMergeable finds neighbours of one size, newest first.
func findMergeable(all []Segment) (from, to int) {
	for to := len(all); to > 0; {
		c := sizeClass(all[to-1])
		from := to
		for from > 0 && sizeClass(all[from-1]) == c {
			from--
		}
		if c < 3 && to-from >= mergeWidth {
			end, flows := from, 0
			for end < from+mergeWidth && flows+all[end].Flows <= segmentRows {
				flows += all[end].Flows
				end++
			}
			if end-from > 1 {
				return from, end
			}
		}
		to = from
	}
	return 0, 0
}

// joinSegments replaces segments from to to by one; ok is false if one is damaged.
func (w *Writer) joinSegments(from, to int) (ok bool, err error) {
	if w.filling == nil {
		if err := w.nextTable(context.Background()); err != nil {
			return false, err
		}
	}
	old := slices.Clone(w.s.currentCatalogue().Segments[from:to])
	if err := w.s.readAll(old, w.filling); err != nil {
		// It stays as it is; 'store check' reports the damage.
		w.filling.reset()
		return false, nil
	}
	w.flushTable()
	err = w.work.Wait()
	w.work = &errgroup.Group{}
	if err != nil {
		w.discardPending()
		return false, err
	}
	joined := w.pending[0].segment
	err = w.s.replaceCatalogue(func(c *catalogue) {
		c.Segments = slices.Replace(c.Segments, from, to, joined)
		c.Next++
	})
	if err != nil {
		return false, err
	}
	w.pending = nil
	for _, g := range old {
		w.s.removeWhenUnread(w.s.segmentFiles(g))
	}
	return true, nil
}

// readAll adds all flows of segments to t.
func (s *Store) readAll(segments []Segment, t *table) error {
	r, err := newBlockReader()
	if err != nil {
		return err
	}
	defer r.dec.zstd.Close()
	var batch []flow.Flow
	for _, g := range segments {
		f, size, err := openSized(s.segmentPath(g.Number))
		if err != nil {
			return err
		}
		defer f.Close()
		foot, err := readFooter(f, size)
		if err != nil {
			return err
		}
		r.openSegment(f, foot)
		for i := range foot.blocks {
			if err := r.readBlock(i, flow.AllColumns); err != nil {
				return err
			}
			batch = r.rows.appendFlows(batch[:0], flow.AllTime)
			if len(batch) > t.rowsLeft() {
				return damagedError("%s holds more flows than the catalogue says", f.Name())
			}
			t.addFlows(batch)
		}
	}
	return nil
}

// Prune removes the segments that exceed keep, and returns them.
func (w *Writer) Prune(_ context.Context, keep store.Keep, now time.Time) (removed []store.Removed, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.s.broken != nil {
		return nil, w.s.broken
	}
	all := w.s.currentCatalogue().Segments
	gone := chooseRemoved(all, keep, flow.FromTime(now))
	if len(gone) == 0 {
		return nil, nil
	}
	err = w.s.replaceCatalogue(func(c *catalogue) {
		c.Segments = slices.DeleteFunc(c.Segments, func(g Segment) bool { return gone[g.Number] })
		c.forgetLogs(flow.FromTime(now))
	})
	if err != nil {
		return nil, err
	}
	for _, g := range all {
		if gone[g.Number] {
			w.s.removeWhenUnread(w.s.segmentFiles(g))
			removed = append(removed, store.Removed{Flows: uint64(g.Flows), From: g.From, To: g.To})
		}
	}
	return removed, nil
}

// forgetLogs drops the logs that no stored flow can be from and whose files are
// gone, so that the catalogue does not grow for ever. A flow begins before it is
// imported; a log that still exists is kept, or it would be imported again. So is
// a source that is not a file, such as a topic, which has no head.
func (c *catalogue) forgetLogs(now flow.Time) {
	earliest := now
	for _, g := range c.Segments {
		earliest = min(earliest, g.From)
	}
	c.Sources = slices.DeleteFunc(c.Sources, func(f store.ImportedLog) bool {
		if f.Imported >= earliest || f.Head == "" {
			return false
		}
		_, err := os.Stat(f.Name)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func chooseRemoved(all []Segment, keep store.Keep, now flow.Time) map[uint64]bool {
	gone := map[uint64]bool{}
	if len(all) == 0 {
		return gone
	}
	newest := slices.MaxFunc(all, func(a, b Segment) int { return cmp.Compare(a.To, b.To) }).To
	oldest := min(now, newest) - flow.Time(keep.Age)
	var bytes int64
	for _, g := range newestFirst(all, now) {
		bytes += g.Bytes + g.RunBytes
		if keep.Age > 0 && g.To < oldest || keep.Bytes > 0 && bytes > keep.Bytes {
			gone[g.Number] = true
		}
	}
	return gone
}

// newestFirst sorts segments by their last flow. One flow that claims to be of the
// future would keep its segment for ever and push others out, so a segment that
// has one counts as old as those written before it.
func newestFirst(all []Segment, now flow.Time) []Segment {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b Segment) int { return cmp.Compare(a.Number, b.Number) })
	age := make(map[uint64]flow.Time, len(all))
	latest := flow.MinTime
	for _, g := range sorted {
		if age[g.Number] = latest; g.To <= now {
			age[g.Number] = g.To
			latest = max(latest, g.To)
		}
	}
	slices.SortFunc(sorted, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(age[b.Number], age[a.Number]), cmp.Compare(b.Number, a.Number))
	})
	return sorted
}

// rotateAtOnce is the number of runs committed together.
const rotateAtOnce = 32

// Rotate computes the runs of all segments for the salts of another epoch and
// removes the old runs.
func (w *Writer) Rotate(ctx context.Context, epoch string) error {
	return w.Reindex(ctx, epoch, false, nil)
}

// Reindex computes the runs of all segments for the salts of another epoch and
// removes the old runs. Runs of that epoch are kept, unless again is set.
// Progress, if not nil, is called with the number of flows hashed.
func (w *Writer) Reindex(ctx context.Context, epoch string, again bool, progress func(flows int)) error {
	if !epochName.MatchString(epoch) {
		return fmt.Errorf("epoch %q: want letters, digits, -, _ and ., such as 2026-11-22", epoch)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.epoch = epoch
	for range cap(w.idle) {
		m := <-w.idle
		x, err := newIndexer(epoch)
		if err != nil {
			return err
		}
		w.idle <- &maker{m.builder, x}
	}
	var stale []Segment
	for _, g := range w.s.currentCatalogue().Segments {
		if again || g.Epoch != epoch {
			stale = append(stale, g)
		}
	}
	for some := range slices.Chunk(stale, rotateAtOnce) {
		if err := w.rotateRuns(ctx, some, progress); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) rotateRuns(ctx context.Context, stale []Segment, progress func(int)) error {
	sizes := make([]int64, len(stale))
	for i, g := range stale {
		w.work.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m := <-w.idle
			defer func() { w.idle <- m }()
			var err error
			sizes[i], err = w.s.writeRun(m.indexer, g)
			if progress != nil {
				progress(g.Flows)
			}
			return err
		})
	}
	err := w.work.Wait()
	w.work = &errgroup.Group{}
	if err != nil {
		return err
	}
	err = w.s.replaceCatalogue(func(c *catalogue) {
		for i, g := range stale {
			at := slices.IndexFunc(c.Segments, func(x Segment) bool { return x.Number == g.Number })
			if c.Segments[at].RunBytes = sizes[i]; sizes[i] > 0 {
				c.Segments[at].Epoch = w.epoch
			} else {
				c.Segments[at].Epoch = ""
			}
		}
	})
	if err != nil {
		return err
	}
	for _, g := range stale {
		if g.Epoch != w.epoch {
			w.s.removeWhenUnread(w.s.segmentFiles(g)[1:])
		}
	}
	return nil
}

// writeRun writes the run of a segment and returns its size; 0 for a damaged
// segment.
func (s *Store) writeRun(x *indexer, g Segment) (int64, error) {
	r, err := newBlockReader()
	if err != nil {
		return 0, err
	}
	defer r.dec.zstd.Close()
	f, size, err := openSized(s.segmentPath(g.Number))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = x.readSegment(r, f, size)
	data := x.finishRun()
	if err != nil {
		return 0, nil
	}
	return int64(len(data)), durable.WriteFile(s.runPath(g.Number, x.epoch), data, 0o640)
}

func (x *indexer) readSegment(r *blockReader, f io.ReaderAt, size int64) error {
	foot, err := readFooter(f, size)
	if err != nil {
		return err
	}
	r.openSegment(f, foot)
	for i := range foot.blocks {
		if err := r.readBlock(i, 0); err != nil {
			return err
		}
		x.addBlock(i, r.rows)
	}
	return nil
}
