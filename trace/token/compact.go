package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
)

// removeRecords rewrites the segments without the removed entries, joining
// segments that have become small. Each step leaves a readable store.
func (c *compaction) removeRecords(gone map[Hash]bool) error {
	var kept []*segment
	for i, g := range c.sealed {
		next, err := c.rewrite(kept, g, gone)
		if err != nil {
			c.sealed = append(kept, c.sealed[i:]...)
			return err
		}
		kept = next
	}
	c.sealed = kept
	return c.dropEmptyStart()
}

// rewrite adds a segment without the removed entries to those that are kept.
func (c *compaction) rewrite(kept []*segment, g *segment, gone map[Hash]bool) ([]*segment, error) {
	r := rewriter{store: c.store, gone: gone, segment: *g}
	joined := len(kept) > 0 && kept[len(kept)-1].size+g.size < c.store.segmentSize()
	if joined {
		// Continue the previous segment; its entries are copied already.
		before := kept[len(kept)-1]
		r.segment.path, r.segment.first, r.segment.before = before.path, before.first, before.before
		if err := before.scanFrames(r.copyFrame); err != nil {
			return nil, err
		}
	}
	if err := g.scanFrames(r.copyFrame); err != nil {
		return nil, err
	}
	if !r.changed && !joined {
		return append(kept, g), nil
	}
	if err := r.writeFile(); err != nil {
		return nil, err
	}
	c.freed += g.size - r.segment.size
	if joined {
		c.freed += kept[len(kept)-1].size
		kept = kept[:len(kept)-1]
		if err := os.Remove(g.path); err != nil {
			return nil, err
		}
	}
	return append(kept, &r.segment), nil
}

// rewriter copies frames, turning runs of removed ones into signed gaps.
type rewriter struct {
	store   *Store
	gone    map[Hash]bool
	segment segment // what the result is
	changed bool
	out     []byte
	gap     *frame
	link    Hash
	signed  bool // the last frame of out is a checkpoint
}

func (r *rewriter) copyFrame(f *frame, before Hash) error {
	after := f.nextLink(before)
	r.link, r.segment.link = after, after
	switch {
	case f.holdsData() && r.gone[f.tokenOf()]:
		r.changed = true
		r.extendGap(f.number, f.number, f.time, before, after)
	case f.kind == gapFrame:
		r.extendGap(f.number, f.last, f.time, f.before, f.after)
	case f.kind == checkpointFrame && (r.gap != nil || r.signed):
		// A gap is signed itself, and one checkpoint is enough.
	default:
		r.closeGap()
		r.out = f.appendTo(r.out)
		r.signed = f.kind == checkpointFrame
	}
	if f.holdsData() {
		r.segment.next = f.number + 1
	} else if f.kind == gapFrame {
		r.segment.next = f.last + 1
	}
	return nil
}

func (r *rewriter) extendGap(first, last uint64, at int64, before, after Hash) {
	if r.gap == nil {
		r.gap = &frame{kind: gapFrame, number: first, before: before}
	}
	r.gap.last, r.gap.time, r.gap.after = last, at, after
}

func (r *rewriter) closeGap() {
	if r.gap == nil {
		return
	}
	r.gap.signature = ed25519.Sign(r.store.key, r.gap.signedBytes())
	r.out = r.gap.appendTo(r.out)
	r.gap, r.signed = nil, false
}

func (r *rewriter) writeFile() error {
	r.closeGap()
	if !r.signed {
		r.out = r.store.makeCheckpoint(r.segment.next-1, r.store.now().UnixNano(), r.link).appendTo(r.out)
	}
	if err := writeFile(r.segment.path, r.segment.encodeHeader(), r.out); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	r.segment.size = int64(headerSize + len(r.out))
	return nil
}

// dropEmptyStart removes leading segments that hold nothing but gaps: the chain
// then starts later.
func (c *compaction) dropEmptyStart() error {
	stop := errors.New("holds records")
	for len(c.sealed) > 0 {
		g := *c.sealed[0] // its scan may end early, and would leave a part's size
		err := g.scanFrames(func(f *frame, _ Hash) error {
			if f.holdsData() {
				return stop
			}
			return nil
		})
		if errors.Is(err, stop) {
			return nil
		}
		if err == nil {
			err = os.Remove(g.path)
		}
		if err != nil {
			return err
		}
		c.freed += g.size
		c.sealed = c.sealed[1:]
	}
	return nil
}
