package daw

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"dragnet/flow"
)

// snapshotHead begins a snapshot and carries its version.
const snapshotHead = "dragnet daw edge 1\n"

// Snapshot is all an edge knows, but for the requests that wait for their
// replies: an agent that ends and begins again goes on with the same counts,
// limits and blocks.
func (e *Edge) Snapshot() []byte {
	w := &writer{b: []byte(snapshotHead)}
	w.u64(e.p.Seed)
	c := &e.clock
	w.u64(uint64(c.shift), uint64(c.now), uint64(c.day), uint64(c.end), c.steps)
	w.counts(&e.counts)
	w.counts(&e.previous)
	w.tier(&e.hosts)
	w.tier(&e.networks)
	w.recent(&e.recent)
	s := &e.spatial
	w.bucket(&s.bucket)
	w.bool(s.active)
	w.u64(s.count, uint64(s.members), s.asked, s.dropped)
	w.u64(uint64(len(e.blocks)))
	for k, h := range e.blocks {
		w.u64(k.hi, k.lo, uint64(h.from), uint64(h.until), uint64(h.blocks))
	}
	return binary.BigEndian.AppendUint32(w.b, checksum(w.b))
}

// Restore makes an edge that goes on from a snapshot. Parameters and scope are
// the present ones; where tables became smaller, what has no room is dropped.
func Restore(p Parameters, s Scope, now flow.Time, snapshot []byte) (*Edge, error) {
	n := len(snapshot) - 4
	if n < len(snapshotHead) || string(snapshot[:len(snapshotHead)]) != snapshotHead {
		return nil, errors.New("snapshot of an edge: this is none, or one of another version")
	}
	if checksum(snapshot[:n]) != binary.BigEndian.Uint32(snapshot[n:]) {
		return nil, errors.New("snapshot of an edge: it is damaged")
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
		return nil, errors.New("snapshot of an edge: its day begins at another time (midnight was changed)")
	}
	r.counts(&e.counts)
	r.counts(&e.previous)
	r.tier(&e.hosts)
	r.tier(&e.networks)
	r.recent(&e.recent)
	r.bucket(&e.spatial.bucket)
	e.spatial.active = r.u8() != 0
	e.spatial.count, e.spatial.members, e.spatial.asked, e.spatial.dropped = r.u64(), int(r.u64()), r.u64(), r.u64()
	for range r.length(40) {
		k := key{r.u64(), r.u64()}
		e.blocks[k] = &history{from: flow.Time(r.u64()), until: flow.Time(r.u64()), blocks: int(r.u64())}
	}
	if r.short || len(r.b) > 0 {
		return nil, errors.New("snapshot of an edge: its lengths make no sense")
	}
	e.tell(now)
	e.requests.epoch = e.clock.now
	e.requests.forget(e.clock.now)
	return e, nil
}

// forget marks that requests from before now may still be answered.
func (rs *requests) forget(now flow.Time) {
	for i := range rs.lines {
		rs.lines[i].lost = rs.tick(now) + rs.life
	}
}

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

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

func (w *writer) bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

func (w *writer) counts(c *Counts) {
	w.u64(uint64(c.Day), c.Requests, c.Successes)
	w.u64(c.Verdicts[:]...)
	w.u64(c.Outcomes[:]...)
}

func (w *writer) bucket(b *bucket) { w.u64(math.Float64bits(b.tokens), uint64(b.at)) }

func (w *writer) rate(r *rate) {
	w.u32(math.Float32bits(r.f), r.c)
	w.u64(uint64(r.at))
}

func (w *writer) tier(t *tier) {
	w.u64(uint64(len(t.entries)))
	for i := range t.entries {
		e := &t.entries[i]
		w.rate(&e.rate)
		w.u32(e.asked, e.answered)
		w.bool(e.promoted)
	}
	w.u64(uint64(t.records.count()))
	t.records.each(func(slot uint32, r *record) {
		w.u64(r.key.hi, r.key.lo)
		w.bucket(&r.bucket)
		w.rate(&r.rate)
		w.u32(r.asked, r.answered, r.lastSite, uint32(r.omega)<<16|uint32(r.days)<<8|uint32(r.flags))
		b := t.records.book(slot)
		w.u32(b.weekly, b.monthly, uint32(b.forgiven))
	})
}

// recent lists the oldest first.
func (w *writer) recent(l *recent) {
	kept := append([]key{}, l.ring[:l.next]...)
	if l.full {
		kept = append(append([]key{}, l.ring[l.next:]...), kept...)
	}
	w.u64(l.inserted, uint64(len(kept)))
	for _, k := range kept {
		w.u64(k.hi, k.lo)
	}
}

// reader takes numbers back; beyond the end it gives 0 and says so.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.b, r.short = nil, true
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u8() byte    { return r.take(1)[0] }

// length reads how many items of size bytes follow; no more than there are.
func (r *reader) length(size int) int {
	n := r.u64()
	if n > uint64(len(r.b)/size) {
		r.b, r.short = nil, true
		return 0
	}
	return int(n)
}

func (r *reader) counts(c *Counts) {
	c.Day, c.Requests, c.Successes = int64(r.u64()), r.u64(), r.u64()
	for i := range c.Verdicts {
		c.Verdicts[i] = r.u64()
	}
	for i := range c.Outcomes {
		c.Outcomes[i] = r.u64()
	}
}

func (r *reader) bucket(b *bucket) {
	b.tokens, b.at = math.Float64frombits(r.u64()), flow.Time(r.u64())
}

func (r *reader) rate(f *rate) {
	f.f, f.c, f.at = math.Float32frombits(r.u32()), r.u32(), flow.Time(r.u64())
}

func (r *reader) tier(t *tier) {
	entries := make([]entry, r.length(25))
	for i := range entries {
		e := &entries[i]
		r.rate(&e.rate)
		e.asked, e.answered, e.promoted = r.u32(), r.u32(), r.u8() != 0
	}
	if len(entries) == len(t.entries) {
		t.entries = entries // of another length, none is where it belongs
	}
	for range r.length(76) {
		var rec record
		rec.key = key{r.u64(), r.u64()}
		r.bucket(&rec.bucket)
		r.rate(&rec.rate)
		rec.asked, rec.answered, rec.lastSite = r.u32(), r.u32(), r.u32()
		bits := r.u32()
		rec.omega, rec.days, rec.flags = uint16(bits>>16), uint8(bits>>8), uint8(bits)|live
		book := ledger{weekly: r.u32(), monthly: r.u32(), forgiven: uint16(r.u32())}
		if hash := rec.key.hash(t.seed); t.records.find(rec.key, hash) == none && t.records.count() < t.records.limit {
			s := source{entry: t.entry(hash)}
			t.open(&s, rec.key)
			*s.record, *t.records.book(s.slot) = rec, book
		}
	}
}

func (r *reader) recent(l *recent) {
	inserted := r.u64()
	for range r.length(16) {
		l.add(key{r.u64(), r.u64()})
	}
	l.inserted = inserted
}
