package token

import (
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"time"
)

// minAccounts keeps one user from reserving half of the store.
const minAccounts = 8

// enforceLimits starts a new segment when the active one is full, and begins to
// free space before the store is full; the caller holds the lock.
func (s *Store) enforceLimits() error {
	if s.active.size < s.segmentSize() {
		return nil
	}
	if err := s.sealSegment(); err != nil {
		return err
	}
	expired := s.oldest != 0 && s.oldest < s.now().Add(-s.limits.MaxAge).UnixNano()
	if s.total+s.segmentSize() > s.limits.MaxBytes*15/16 || expired {
		s.beginCompaction()
	}
	return nil
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
	if s.failed != nil || s.oldest == 0 || s.oldest >= s.now().Add(-s.limits.MaxAge).UnixNano() {
		s.mu.Unlock()
		return nil
	}
	if s.active.size > int64(headerSize) {
		if err := s.sealSegment(); err != nil {
			s.mu.Unlock()
			return fmt.Errorf("expire records: %w", err)
		}
	}
	done := s.beginCompaction()
	s.mu.Unlock()
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck != nil {
		return fmt.Errorf("expire records: %w", s.stuck)
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

// compaction rewrites the segments that were sealed when it began, without the
// store's lock: nothing else touches them, and records go on to be stored.
type compaction struct {
	store  *Store
	sealed []*segment
	total  int64 // of the store when it began
	freed  int64
	oldest int64
}

// beginCompaction begins a compaction unless one runs, and returns what is closed
// at its end; the caller holds the lock.
func (s *Store) beginCompaction() chan struct{} {
	if s.compacting != nil {
		return s.compacting
	}
	done := make(chan struct{})
	s.compacting = done
	c := &compaction{store: s, total: s.total}
	for _, g := range s.sealed { // scanning a segment writes to it
		copied := *g
		c.sealed = append(c.sealed, &copied)
	}
	began := len(s.sealed)
	go func() {
		defer close(done)
		err := c.makeRoom()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sealed = append(c.sealed, s.sealed[began:]...)
		s.total -= c.freed
		s.stuck = err
		if err == nil {
			s.oldest = c.oldest
		}
		s.compacting = nil
	}()
	return done
}

// waitForRoom waits until there is room for a record, which is so unless records
// come faster than room can be made.
func (s *Store) waitForRoom() error {
	for {
		s.mu.Lock()
		full := s.total+s.segmentSize() > s.limits.MaxBytes
		done, stuck := s.compacting, s.stuck
		if full && done == nil && stuck == nil && len(s.sealed) > 0 {
			done = s.beginCompaction()
		}
		s.mu.Unlock()
		switch {
		case !full || done == nil && stuck == nil:
			return nil
		case done == nil:
			return fmt.Errorf("the store is full: %w", stuck)
		}
		<-done
	}
}

// makeRoom removes expired records and, if that is not enough, records chosen
// as Limits says, until an eighth of the store is free.
func (c *compaction) makeRoom() error {
	s := c.store
	entries, err := c.listEntries()
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
	if over := c.total + s.segmentSize(); over > s.limits.MaxBytes*15/16 {
		want = over - s.limits.MaxBytes*7/8
	}
	for _, e := range chooseRemovals(kept, want-free, s.limits.MaxBytes/2) {
		gone[e.token] = true
	}
	for _, e := range kept {
		if !gone[e.token] && (c.oldest == 0 || e.time < c.oldest) {
			c.oldest = e.time
		}
	}
	return c.removeRecords(gone)
}

// listEntries lists the records of sealed segments, oldest first.
func (c *compaction) listEntries() ([]entry, error) {
	at := map[Hash]int{}
	var list []entry
	for _, g := range c.sealed {
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
// account that uses most, and in it the oldest loose one of the largest group.
// Reserved bytes are divided among accounts.
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
