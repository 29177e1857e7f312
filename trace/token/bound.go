package token

import (
	"container/heap"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// minAccounts keeps one user from reserving half of the store.
const minAccounts = 8

// enforceLimits starts a new segment when the active one is full, and frees
// space when the store is full; the caller holds the lock.
func (s *Store) enforceLimits() error {
	if s.active.size < s.segmentSize() {
		return nil
	}
	if err := s.sealSegment(); err != nil {
		return err
	}
	expired := s.oldest != 0 && s.oldest < s.now().Add(-s.limits.MaxAge).UnixNano()
	// The active segment may grow by one record before the next check.
	if s.total+s.segmentSize() <= s.limits.MaxBytes && !expired {
		return nil
	}
	return s.makeRoom()
}

func (s *Store) segmentSize() int64 { return min(max(s.limits.MaxBytes/64, 4<<10), 4<<20) }

// sealSegment ends the active segment with a signature and starts another.
func (s *Store) sealSegment() error {
	s.buf = s.makeCheckpoint(s.active.next-1, s.now().UnixNano(), s.active.link).appendTo(s.buf[:0])
	if err := s.writeBuffer(); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		s.failed = err
		return err
	}
	old, file := s.active, s.file
	if err := s.startSegment(old.next, old.link); err != nil {
		return err
	}
	s.sealed = append(s.sealed, old)
	s.unsigned = false
	return file.Close()
}

// Expire removes records older than the limit; it is cheap if there are none.
func (s *Store) Expire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil || s.oldest == 0 || s.oldest >= s.now().Add(-s.limits.MaxAge).UnixNano() {
		return nil
	}
	if s.active.size > int64(headerSize) {
		if err := s.sealSegment(); err != nil {
			return fmt.Errorf("expire records: %w", err)
		}
	}
	if err := s.makeRoom(); err != nil {
		return fmt.Errorf("expire records: %w", err)
	}
	return nil
}

// entry is a record with the answers that belong to it.
type entry struct {
	token   Hash
	account uint32
	group   uint32
	time    int64
	bytes   int64
}

// makeRoom removes expired records and, if that is not enough, records chosen
// as Limits says, until an eighth of the store is free.
func (s *Store) makeRoom() error {
	entries, err := s.listEntries()
	if err != nil {
		return err
	}
	deadline := s.now().Add(-s.limits.MaxAge).UnixNano()
	gone := map[Hash]bool{}
	kept := entries[:0]
	var free int64
	for _, e := range entries {
		if e.time < deadline {
			gone[e.token] = true
			free += e.bytes
			continue
		}
		kept = append(kept, e)
	}
	var want int64
	if over := s.total + s.segmentSize(); over > s.limits.MaxBytes {
		want = over - s.limits.MaxBytes*7/8
	}
	for _, e := range chooseRemovals(kept, want-free, s.limits.MaxBytes/2) {
		gone[e.token] = true
	}
	s.oldest = 0
	for _, e := range kept {
		if !gone[e.token] && (s.oldest == 0 || e.time < s.oldest) {
			s.oldest = e.time
		}
	}
	return s.removeRecords(gone)
}

// listEntries lists the records of sealed segments, oldest first.
func (s *Store) listEntries() ([]entry, error) {
	at := map[Hash]int{}
	var list []entry
	for _, g := range s.sealed {
		if err := g.scanFrames(func(f *frame, _ Hash) error {
			if !f.holdsData() {
				return nil
			}
			i, ok := at[f.tokenOf()]
			if !ok {
				i = len(list)
				at[f.tokenOf()] = i
				list = append(list, entry{token: f.tokenOf(), account: f.account, group: f.group, time: f.time})
			}
			list[i].bytes += int64(f.size)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// groupKey is what one asker caused in one hour.
type groupKey struct {
	asker uint32
	hour  int64
}

// group is a part of an account.
type group struct {
	bytes int64
	loose []entry // not reserved, oldest first
}

// share is one account's part of the store.
type share struct {
	bytes  int64
	groups map[groupKey]*group
	loose  int // entries of all groups that are not reserved
}

// takeLargest removes the oldest loose entry of the largest group that has one.
func (s *share) takeLargest() entry {
	var best groupKey
	var top *group
	for k, g := range s.groups {
		if len(g.loose) == 0 {
			continue
		}
		// Of equal ones the older, so that the result does not depend on maps.
		if top == nil || g.bytes > top.bytes || g.bytes == top.bytes && (k.hour < best.hour || k.hour == best.hour && k.asker < best.asker) {
			best, top = k, g
		}
	}
	e := top.loose[0]
	top.loose = top.loose[1:]
	top.bytes -= e.bytes
	s.bytes -= e.bytes
	s.loose--
	return e
}

// byBytes is a heap with the largest share on top.
type byBytes []*share

func (h byBytes) Len() int           { return len(h) }
func (h byBytes) Less(i, j int) bool { return h[i].bytes > h[j].bytes }
func (h byBytes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byBytes) Push(x any)        { *h = append(*h, x.(*share)) }
func (h *byBytes) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// chooseRemovals picks entries of at least want bytes in total, always of the
// account that uses most, and in it the oldest loose one of the largest group. Reserved bytes are divided
// among accounts.
func chooseRemovals(entries []entry, want, reserved int64) []entry {
	shares := map[uint32]*share{}
	for _, e := range entries {
		if shares[e.account] == nil {
			shares[e.account] = &share{groups: map[groupKey]*group{}}
		}
	}
	floor := reserved / int64(max(len(shares), minAccounts))
	for _, e := range entries {
		sh, k := shares[e.account], groupKey{e.group, e.time / int64(time.Hour)}
		if sh.groups[k] == nil {
			sh.groups[k] = &group{}
		}
		sh.groups[k].bytes += e.bytes
		if sh.bytes += e.bytes; sh.bytes > floor {
			sh.groups[k].loose = append(sh.groups[k].loose, e)
			sh.loose++
		}
	}
	var h byBytes
	for _, account := range slices.Sorted(maps.Keys(shares)) {
		if shares[account].loose > 0 {
			h = append(h, shares[account])
		}
	}
	heap.Init(&h)
	var out []entry
	for want > 0 && len(h) > 0 {
		e := h[0].takeLargest()
		want -= e.bytes
		out = append(out, e)
		if h[0].loose == 0 {
			heap.Pop(&h)
		} else {
			heap.Fix(&h, 0)
		}
	}
	return out
}

// removeRecords rewrites the sealed segments without the removed entries,
// joining segments that have become small. Each step leaves a readable store.
func (s *Store) removeRecords(gone map[Hash]bool) error {
	var kept []*segment
	for _, g := range s.sealed {
		r := rewriter{store: s, gone: gone, segment: *g}
		joined := len(kept) > 0 && kept[len(kept)-1].size+g.size < s.segmentSize()
		if joined {
			// Continue the previous segment; its entries are copied already.
			before := kept[len(kept)-1]
			r.segment.path, r.segment.first, r.segment.before = before.path, before.first, before.before
			if err := before.scanFrames(r.copyFrame); err != nil {
				return err
			}
		}
		if err := g.scanFrames(r.copyFrame); err != nil {
			return err
		}
		if !r.changed && !joined {
			kept = append(kept, g)
			continue
		}
		if err := r.writeFile(); err != nil {
			return err
		}
		s.total += r.segment.size - g.size
		if joined {
			s.total -= kept[len(kept)-1].size
			kept = kept[:len(kept)-1]
			if err := os.Remove(g.path); err != nil {
				return err
			}
		}
		kept = append(kept, &r.segment)
	}
	s.sealed = kept
	return s.dropEmptyStart()
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
func (s *Store) dropEmptyStart() error {
	stop := errors.New("holds records")
	for len(s.sealed) > 0 {
		g := s.sealed[0]
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
		s.total -= g.size
		s.sealed = s.sealed[1:]
	}
	return nil
}
