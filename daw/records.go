package daw

// record is a failure-rate record of one address (or /64), with the state of
// its limit: together one cache line, which is all that a request touches. The
// rest is in its history.
type record struct {
	key key
	bucket
	rate
	asked    uint32 // x: requests passed on today
	answered uint32 // y: successes today
	lastSite uint32 // hash of the /24 or /48 that failed last, and when
	_        uint16
	days     uint8 // days at the limit in a row, before today
	flags    uint8
}

// history is the part of a record that requests and failures rarely touch.
type history struct {
	weekly   uint32 // failures of this week before today
	monthly  uint32 // failures of this month before today
	silent   uint32 // of today's failures those by silence
	forgiven uint16 // failures forgiven today
}

// Flags of a record.
const (
	live     = 1 << iota // the slot is in use
	limited              // the temporal limit acts on it today
	atLimit              // today counts towards blocking
	member               // of the set the spatial limit acts on
	late                 // opened since the spatial limit started
	proposed             // its block was proposed
)

// hasFlag reports whether any of the flags is set.
func (r *record) hasFlag(flag uint8) bool { return r.flags&flag != 0 }

// chunk is the number of records allocated together: growing never copies.
const chunk = 1 << 15

// records holds a bounded number of records.
type records struct {
	seed      uint64
	limit     int
	chunks    [][]record
	histories [][]history
	free      []uint32
	n         int // slots ever used
	index     index
	draw      uint64 // state of the random eviction
}

func (rs *records) recordAt(slot uint32) *record { return &rs.chunks[slot/chunk][slot%chunk] }

func (rs *records) historyAt(slot uint32) *history { return &rs.histories[slot/chunk][slot%chunk] }

func (rs *records) hashOf(slot uint32) uint64 { return rs.recordAt(slot).key.hashWith(rs.seed) }

func (rs *records) countLive() int { return rs.n - len(rs.free) }

// none is the slot of a source without a record.
const none = ^uint32(0)

// findSlot returns the slot of k, or none.
func (rs *records) findSlot(k key, hash uint64) uint32 {
	return uint32(rs.index.findSlot(hash, func(s uint32) bool { return rs.recordAt(s).key == k }))
}

// makeRecord returns the slot of a new record of k. If the table is full, one
// with a small counter is evicted, whose key is returned too.
func (rs *records) makeRecord(k key) (slot uint32, evicted *key) {
	switch {
	case len(rs.free) > 0:
		slot = rs.free[len(rs.free)-1]
		rs.free = rs.free[:len(rs.free)-1]
	case rs.n < rs.limit:
		if rs.n%chunk == 0 {
			n := min(chunk, rs.limit-rs.n)
			rs.chunks, rs.histories = append(rs.chunks, make([]record, n)), append(rs.histories, make([]history, n))
		}
		slot = uint32(rs.n)
		rs.n++
	default:
		slot = rs.chooseEvicted()
		old := rs.recordAt(slot).key
		evicted = &old
		rs.index.removeSlot(slot, rs.hashOf)
	}
	*rs.recordAt(slot), *rs.historyAt(slot) = record{key: k, flags: live}, history{}
	rs.index.addSlot(slot, rs.hashOf)
	return slot, evicted
}

// chooseEvicted is the smallest counter among a few records drawn at random: the
// largest counters are kept (Tang 2006, section 2.3.8) without sorting them.
func (rs *records) chooseEvicted() uint32 {
	best, least := uint32(0), ^uint64(0)
	for range 8 {
		rs.draw = rs.draw*6364136223846793005 + 1442695040888963407
		slot := uint32((rs.draw >> 33) % uint64(rs.n))
		if r := rs.recordAt(slot); r.evictionWeight() < least {
			best, least = slot, r.evictionWeight()
		}
	}
	return best
}

// evictionWeight orders records by how much is lost by evicting them.
func (r *record) evictionWeight() uint64 {
	return uint64(r.c) + uint64(r.days)<<32
}

func (rs *records) removeSlot(slot uint32) {
	rs.index.removeSlot(slot, rs.hashOf)
	*rs.recordAt(slot) = record{}
	rs.free = append(rs.free, slot)
}

// eachRecord calls f for every record; f may remove the one it is given.
func (rs *records) eachRecord(f func(slot uint32, r *record)) {
	for slot := range uint32(rs.n) {
		if r := rs.recordAt(slot); r.hasFlag(live) {
			f(slot, r)
		}
	}
}
