package daw

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"

	"dragnet/flow"
)

// snapshotHead starts a snapshot and carries its version.
const snapshotHead = "dragnet daw edge 4\n"

// Snapshot encodes the state of an edge, except the requests waiting for
// replies: an agent that restarts continues with the same counts, limits and
// blocks.
func (e *Edge) Snapshot() []byte {
	w := &writer{b: []byte(snapshotHead)}
	w.u64(e.p.Seed)
	c := &e.clock
	w.u64(uint64(c.shift), uint64(c.now), uint64(c.day), uint64(c.end), c.steps)
	w.writeCounts(&e.counts)
	w.writeCounts(&e.previous)
	w.writeTier(&e.hosts)
	for i := range e.prefixes {
		w.writeTier(&e.prefixes[i])
	}
	w.writeRecent(&e.recent)
	w.writeServices(&e.answered.today)
	w.writeServices(&e.answered.before)
	s := &e.spatial
	w.writeBucket(&s.bucket)
	w.writeBool(s.active)
	w.u64(s.count, uint64(s.members), s.asked, s.dropped)
	w.u64(uint64(len(e.blocks)))
	for k, h := range e.blocks {
		w.u64(k.hi, k.lo, uint64(h.from), uint64(h.until), uint64(h.blocks))
	}
	return binary.BigEndian.AppendUint32(w.b, computeCRC(w.b))
}

// Restore makes an edge from a snapshot. Parameters and scope are the current
// ones; if tables became smaller, entries beyond them are dropped.
func Restore(p Parameters, s Scope, now flow.Time, snapshot []byte) (*Edge, error) {
	n := len(snapshot) - 4
	if n < len(snapshotHead) || string(snapshot[:len(snapshotHead)]) != snapshotHead {
		return nil, errors.New("snapshot of an edge: not a snapshot, or of another version")
	}
	if computeCRC(snapshot[:n]) != binary.BigEndian.Uint32(snapshot[n:]) {
		return nil, errors.New("snapshot of an edge: damaged")
	}
	r := &reader{b: snapshot[len(snapshotHead):n]}
	p.Seed = r.u64()
	e, err := New(p, s, now)
	if err != nil {
		return nil, err
	}
	c := &e.clock
	c.shift, c.now, c.day, c.end, c.steps = int64(r.u64()), flow.Time(r.u64()), int64(r.u64()), flow.Time(r.u64()), r.u64()
	if c.end != flow.Time((c.day+1)*int64(day)+c.midnight+c.shift) {
		return nil, errors.New("snapshot of an edge: its day starts at another time (midnight was changed)")
	}
	r.readCounts(&e.counts)
	r.readCounts(&e.previous)
	r.readTier(&e.hosts)
	for i := range e.prefixes {
		r.readTier(&e.prefixes[i])
	}
	r.readRecent(&e.recent)
	r.readServices(&e.answered.today)
	r.readServices(&e.answered.before)
	r.readBucket(&e.spatial.bucket)
	e.spatial.active = r.u8() != 0
	e.spatial.count, e.spatial.members, e.spatial.asked, e.spatial.dropped = r.u64(), int(r.u64()), r.u64(), r.u64()
	for range r.readLength(40) {
		k := key{r.u64(), r.u64()}
		e.blocks[k] = &blockHistory{from: flow.Time(r.u64()), until: flow.Time(r.u64()), blocks: int(r.u64())}
	}
	if r.short || len(r.b) > 0 {
		return nil, errors.New("snapshot of an edge: invalid lengths")
	}
	e.advanceClock(now)
	e.requests.epoch = e.clock.now
	e.requests.markLost(e.clock.now)
	return e, nil
}

// markLost marks that requests from before now may still be answered.
func (rs *requests) markLost(now flow.Time) {
	for i := range rs.lines {
		rs.lines[i].lost = rs.tickOf(now) + rs.life
	}
}

func computeCRC(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// writer appends numbers in network byte order.
type writer struct{ b []byte }

func (w *writer) u64(values ...uint64) {
	for _, v := range values {
		w.b = binary.BigEndian.AppendUint64(w.b, v)
	}
}

func (w *writer) u32(values ...uint32) {
	for _, v := range values {
		w.b = binary.BigEndian.AppendUint32(w.b, v)
	}
}

func (w *writer) writeBool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

func (w *writer) writeCounts(c *Counts) {
	w.u64(uint64(c.Day), c.Requests, c.Successes, c.Silences, c.Known)
	w.u64(c.Verdicts[:]...)
	w.u64(c.Outcomes[:]...)
}

func (w *writer) writeBucket(b *bucket) { w.u64(uint64(b.tokens), uint64(b.at)) }

func (w *writer) writeRate(r *rate) {
	w.u32(r.f, r.c)
	w.u64(uint64(r.at))
}

func (w *writer) writeTier(t *tier) {
	w.u64(uint64(len(t.entries)))
	for i := range t.entries {
		e := &t.entries[i]
		w.writeRate(&e.rate)
		w.u32(e.asked, e.answered)
		w.writeBool(e.promoted)
	}
	w.u64(uint64(t.records.countLive()))
	t.records.eachRecord(func(slot uint32, r *record) {
		w.u64(r.key.hi, r.key.lo)
		w.writeBucket(&r.bucket)
		w.writeRate(&r.rate)
		w.u32(r.asked, r.answered, r.lastSite, uint32(r.days)<<8|uint32(r.flags))
		b := t.records.historyAt(slot)
		w.u32(b.weekly, b.monthly, b.silent, uint32(b.forgiven))
	})
}

// writeRecent lists the oldest first.
func (w *writer) writeRecent(l *recent) {
	kept := append([]key{}, l.ring[:l.next]...)
	if l.full {
		kept = append(append([]key{}, l.ring[l.next:]...), kept...)
	}
	w.u64(l.inserted, uint64(len(kept)))
	for _, k := range kept {
		w.u64(k.hi, k.lo)
	}
}

// writeServices lists them with the oldest first.
func (w *writer) writeServices(l *services) {
	var kept []netip.AddrPort
	for i := range l.ring {
		if s, ok := l.serviceAt((l.next + i) % len(l.ring)); ok {
			kept = append(kept, s)
		}
	}
	w.u64(uint64(len(kept)))
	for _, s := range kept {
		k := keyOf(s.Addr())
		w.u64(k.hi, k.lo)
		w.u32(uint32(s.Port()))
	}
}

func (r *reader) readServices(l *services) {
	for range r.readLength(20) {
		k := key{r.u64(), r.u64()}
		s := netip.AddrPortFrom(k.toAddr(), uint16(r.u32()))
		if slot := l.next; len(l.ring) > 0 && l.addAddr(serviceKey(s)) {
			l.ports[slot] = s.Port()
		}
	}
}

// reader decodes what writer wrote; beyond the end it returns 0 and sets
// failed.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) takeBytes(n int) []byte {
	if len(r.b) < n {
		r.b, r.short = nil, true
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.takeBytes(8)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.takeBytes(4)) }
func (r *reader) u8() byte    { return r.takeBytes(1)[0] }

// readLength reads the number of items of size bytes that follow, and checks
// that they fit.
func (r *reader) readLength(size int) int {
	n := r.u64()
	if n > uint64(len(r.b)/size) {
		r.b, r.short = nil, true
		return 0
	}
	return int(n)
}

func (r *reader) readCounts(c *Counts) {
	c.Day, c.Requests, c.Successes, c.Silences, c.Known = int64(r.u64()), r.u64(), r.u64(), r.u64(), r.u64()
	for i := range c.Verdicts {
		c.Verdicts[i] = r.u64()
	}
	for i := range c.Outcomes {
		c.Outcomes[i] = r.u64()
	}
}

func (r *reader) readBucket(b *bucket) {
	b.tokens, b.at = int64(r.u64()), flow.Time(r.u64())
}

func (r *reader) readRate(f *rate) {
	f.f, f.c, f.at = r.u32(), r.u32(), flow.Time(r.u64())
}

func (r *reader) readTier(t *tier) {
	entries := make([]entry, r.readLength(25))
	for i := range entries {
		e := &entries[i]
		r.readRate(&e.rate)
		e.asked, e.answered, e.promoted = r.u32(), r.u32(), r.u8() != 0
	}
	if len(entries) == len(t.entries) {
		t.entries = entries // of another length, entries would be misplaced
	}
	for range r.readLength(80) {
		var rec record
		rec.key = key{r.u64(), r.u64()}
		r.readBucket(&rec.bucket)
		r.readRate(&rec.rate)
		rec.asked, rec.answered, rec.lastSite = r.u32(), r.u32(), r.u32()
		bits := r.u32()
		rec.days, rec.flags = uint8(bits>>8), uint8(bits)|live
		book := history{weekly: r.u32(), monthly: r.u32(), silent: r.u32(), forgiven: uint16(r.u32())}
		if hash := rec.key.hashWith(t.seed); t.records.findSlot(rec.key, hash) == none && t.records.countLive() < t.records.limit {
			s := source{entry: t.entryOf(hash)}
			t.openRecord(&s, rec.key)
			*s.record, *t.records.historyAt(s.slot) = rec, book
		}
	}
}

func (r *reader) readRecent(l *recent) {
	inserted := r.u64()
	for range r.readLength(16) {
		if k := (key{r.u64(), r.u64()}); len(l.ring) > 0 {
			l.addAddr(k)
		}
	}
	l.inserted = inserted
}
