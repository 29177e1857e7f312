package daw

import (
	"fmt"
	"math"

	"dragnet/flow"
)

// Tables are the state of an edge as flat tables, in which contain/guard/tc keeps it
// in a kernel; the layouts are those of its maps.h.
type Tables struct {
	State  TableState
	Limits Limits
	// Records and Histories of each tier have the slots ever used.
	Records   [tiers][]record
	Histories [tiers][]history
	Entries   [tiers][]entry
	// Keys are those of the lists, as long as these may be; Ports belong to those of
	// services.
	Keys  [lists][]key
	Ports [lists][]uint64
	Lines []line
	// Cells are the indexes of the tables with keys, each as Limits has it; nil is one
	// without a key.
	Cells [tiers + lists][]uint64
}

// tiers is the number of tables of records, lists that of the tables of other keys:
// recent failures, and services twice.
const (
	tiers = 1 + len(prefixBits)
	lists = 3
)

// TableState is what is neither a table nor a setting.
type TableState struct {
	_, Current       uint32 // which list of services is today's
	shift, now       int64
	day, end         int64
	steps            uint64
	bucket           bucket
	count            uint64
	asked, dropped   uint64
	members, active  uint32
	replied, paused  int64
	epoch            int64
	_, _             uint32
	lists            [lists]listState
	Used, Spare      [tiers]uint32 // slots ever used, and those free again
	draw             [tiers]uint64
	counts, previous Counts
	_                [48 + 8*(1+tiers) + 8*tiers]byte // of the packet at hand
}

type listState struct {
	next, full uint32
	inserted   uint64
}

// Table is where a table with keys is.
type Table struct {
	Seed        uint64
	Cells, Mask uint32 // where its index begins, and its length minus 1
	Keys, Size  uint32 // where a list's keys begin, and how many there are
}

// Limits are the settings of an edge as its tables need them.
type Limits struct {
	quotas          [tiers]quota
	network         quota
	Tables          [tiers + lists]Table
	weekly, monthly [tiers]int64
	Seed, beta      uint64
	phi, induced    int64
	midnight        int64
	silence         int64
	tau, grace      uint32
	life            uint32
	Entries         uint32
	Records         uint32
	Lines, Waiting  uint32
	ListAll         uint32
	// Offset is the time of day minus the kernel's monotonic clock.
	Offset int64
	// Acting has limits enforced; Blocks and Bindings say that there are some;
	// BoundOnly leaves sources without a binding unwatched; Share and Events have
	// unmatched replies and drops told.
	Acting, Blocks, Bindings, BoundOnly, Share, Events uint32
}

// tierAt is a tier by its number.
func (e *Edge) tierAt(i int) *tier {
	if i == 0 {
		return &e.hosts
	}
	return &e.prefixes[i-1]
}

// MakeLimits are the settings that this edge has.
func (e *Edge) MakeLimits() Limits {
	p := &e.p
	l := Limits{
		network: e.network, Seed: p.Seed, beta: e.hosts.beta, phi: int64(p.Phi), induced: int64(p.Induced), midnight: int64(p.Midnight), silence: int64(p.Silence),
		tau: uint32(p.Tau), grace: uint32(p.Grace), life: e.requests.life, Entries: uint32(p.Entries), Records: uint32(p.Records),
		Lines: uint32(len(e.requests.lines)), Waiting: uint32(len(e.waiting.ring)), ListAll: boolBit(e.listAll),
	}
	cells, keys := uint32(0), uint32(0)
	place := func(i int, seed uint64, size int) {
		n := uint32(16)
		for n < 2*uint32(size) {
			n *= 2
		}
		l.Tables[i] = Table{Seed: seed, Cells: cells, Mask: n - 1, Keys: keys, Size: uint32(size)}
		cells += n
		if i >= tiers {
			keys += uint32(size)
		}
	}
	for i := range tiers {
		t := e.tierAt(i)
		l.quotas[i], l.weekly[i], l.monthly[i] = t.quota, int64(p.Weekly*t.scale), int64(p.Monthly*t.scale)
		place(i, t.seed, p.Records)
	}
	place(tiers, p.Seed+2, p.Recent)
	place(tiers+1, p.Seed+3, p.Answered)
	place(tiers+2, p.Seed+3, p.Answered)
	return l
}

func boolBit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// listOf is a list by its number; current is which of the services are today's.
func (e *Edge) listOf(i int, current uint32) (l *recent, ports []uint16) {
	if i == 0 {
		return &e.recent, nil
	}
	s := &e.answered.before
	if uint32(i-1) == current {
		s = &e.answered.today
	}
	return &s.recent, s.ports
}

// Export returns the state as tables, without the requests that wait to be silent.
func (e *Edge) Export() *Tables {
	c, s := &e.clock, &e.spatial
	t := &Tables{Limits: e.MakeLimits(), Lines: e.requests.lines, State: TableState{
		shift: c.shift, now: int64(c.now), day: c.day, end: int64(c.end), steps: c.steps,
		bucket: s.bucket, count: s.count, asked: s.asked, dropped: s.dropped, members: uint32(s.members), active: boolBit(s.active),
		replied: int64(e.waiting.replied), paused: int64(e.waiting.paused), epoch: int64(e.requests.epoch), counts: e.counts, previous: e.previous,
	}}
	for i := range tiers {
		tier := e.tierAt(i)
		rs := &tier.records
		t.Entries[i], t.State.draw[i] = tier.entries, rs.draw
		// Without gaps, so that no slot is free.
		rs.eachRecord(func(slot uint32, r *record) {
			t.Records[i], t.Histories[i] = append(t.Records[i], *r), append(t.Histories[i], *rs.historyAt(slot))
		})
		t.State.Used[i] = uint32(len(t.Records[i]))
		t.index(i, len(t.Records[i]), func(slot int) key { return t.Records[i][slot].key })
	}
	for i := range lists {
		l, ports := e.listOf(i, 0)
		t.Keys[i] = l.ring
		for _, p := range ports {
			t.Ports[i] = append(t.Ports[i], uint64(p))
		}
		t.State.lists[i] = listState{uint32(l.next), boolBit(l.full), l.inserted}
		n := l.next
		if l.full {
			n = len(l.ring)
		}
		t.index(tiers+i, n, func(slot int) key { return l.ring[slot] })
	}
	return t
}

// index writes the cells of n keys.
func (t *Tables) index(table, n int, keyAt func(slot int) key) {
	x := &t.Limits.Tables[table]
	for slot := range n {
		k := keyAt(slot)
		if k == (key{}) {
			continue
		}
		if t.Cells[table] == nil {
			t.Cells[table] = make([]uint64, x.Mask+1)
		}
		hash := k.hashWith(x.Seed)
		at := uint32(hash) & x.Mask
		for t.Cells[table][at] != 0 {
			at = (at + 1) & x.Mask
		}
		t.Cells[table][at] = hash>>32<<32 | uint64(slot+1)
	}
}

// Import takes the state over from tables that another keeps, for reports and
// snapshots: of the blocks, and of what was proposed, this edge is the keeper. Sources
// cannot be looked up afterwards, so that it judges nothing.
func (e *Edge) Import(t *Tables) error {
	own, l, s := e.MakeLimits(), &t.Limits, &t.State
	for i := range own.Tables {
		if x := own.Tables[i]; x.Size != l.Tables[i].Size || x.Mask != l.Tables[i].Mask {
			return fmt.Errorf("table %d has %d entries, not %d", i, l.Tables[i].Size, x.Size)
		}
	}
	e.p.Seed = l.Seed
	c, sp := &e.clock, &e.spatial
	c.shift, c.now, c.day, c.end, c.steps = s.shift, flow.Time(s.now), s.day, flow.Time(s.end), s.steps
	sp.bucket, sp.count, sp.asked, sp.dropped, sp.members, sp.active = s.bucket, s.count, s.asked, s.dropped, int(s.members), s.active != 0
	e.waiting.replied, e.waiting.paused, e.requests.epoch = flow.Time(s.replied), flow.Time(s.paused), flow.Time(s.epoch)
	e.counts, e.previous = s.counts, s.previous
	for i := range tiers {
		tier := e.tierAt(i)
		tier.seed, tier.entries = l.Tables[i].Seed, t.Entries[i]
		tier.records.importRecords(t, i)
	}
	for i := range lists {
		r, ports := e.listOf(i, s.Current&1)
		copy(r.ring, t.Keys[i])
		for n, p := range t.Ports[i] {
			ports[n] = uint16(p)
		}
		r.seed, r.next, r.full, r.inserted = l.Tables[tiers+i].Seed, min(int(s.lists[i].next), len(r.ring)), s.lists[i].full != 0, s.lists[i].inserted
	}
	return nil
}

// importRecords replaces the records, and keeps what was proposed of those that are
// still at their limit day after day.
func (rs *records) importRecords(t *Tables, tier int) {
	was := map[key]bool{}
	rs.eachRecord(func(_ uint32, r *record) {
		if r.hasFlag(proposed) {
			was[r.key] = true
		}
	})
	rs.seed, rs.draw = t.Limits.Tables[tier].Seed, t.State.draw[tier]
	rs.chunks, rs.histories, rs.free, rs.n, rs.index = nil, nil, nil, 0, index{}
	all, books := t.Records[tier], t.Histories[tier]
	for len(all) > 0 {
		n := min(chunk, len(all), len(books))
		rs.chunks, rs.histories = append(rs.chunks, all[:n:n]), append(rs.histories, books[:n:n])
		rs.n += n
		all, books = all[n:], books[n:]
	}
	for slot := range uint32(rs.n) {
		r := rs.recordAt(slot)
		if !r.hasFlag(live) {
			rs.free = append(rs.free, slot)
		} else if was[r.key] && r.days > 0 {
			r.flags |= proposed
		}
	}
}

// ActiveUntil is until when a source is blocked, as the tables have times; 0 if it is
// not.
func (e *Edge) ActiveUntil(until flow.Time) int64 {
	if until >= flow.Time(math.MaxInt64-e.clock.shift) {
		return math.MaxInt64
	}
	return int64(until) + e.clock.shift
}

// Grow makes room for n records of a tier and its entries.
func (t *Tables) Grow(tier, n, entries int) {
	t.Records[tier], t.Histories[tier], t.Entries[tier] = make([]record, n), make([]history, n), make([]entry, entries)
}

// GrowList makes room for n keys of a list.
func (t *Tables) GrowList(list, n int) {
	t.Keys[list] = make([]key, n)
	if list > 0 {
		t.Ports[list] = make([]uint64, n)
	}
}
