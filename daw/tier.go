package daw

import "dragnet/flow"

// entry is an entry of the hash table H: a failure-rate record that about
// A/|H| addresses share (Tang 2006, section 2.3.4).
type entry struct {
	rate
	asked, answered uint32 // x and y of the addresses without a record
	kept            uint32 // records under this entry
	promoted        bool   // its addresses get separate records
}

// tier counts and limits one kind of source: single addresses, or prefixes
// of IPv6.
type tier struct {
	quota   quota
	scale   int    // how many times the published limits
	beta    uint64 // of whole
	seed    uint64
	entries []entry
	records records
}

func newTier(p *Parameters, scale int, seed uint64) tier {
	t := tier{quota: newQuota(p.Omega, p.Lambda, p.Bucket, scale), scale: scale, beta: uint64(p.Beta * whole), seed: seed, entries: make([]entry, p.Entries)}
	t.records = records{seed: seed, limit: p.Records, draw: seed}
	return t
}

func (t *tier) entryOf(hash uint64) *entry {
	// The upper half of the hash; the index of records uses the lower.
	return &t.entries[(hash>>32)*uint64(len(t.entries))>>32]
}

// source holds the counters of one source in a tier: its entry, and its record
// or nil, with the record's slot.
type source struct {
	entry  *entry
	record *record
	slot   uint32
}

func (t *tier) findSource(k key) source {
	hash := k.hashWith(t.seed)
	s := source{entry: t.entryOf(hash), slot: none}
	if s.entry.kept > 0 {
		if s.slot = t.records.findSlot(k, hash); s.slot != none {
			s.record = t.records.recordAt(s.slot)
		}
	}
	return s
}

// openRecord gives a source a record.
func (t *tier) openRecord(s *source, k key) {
	slot, evicted := t.records.makeRecord(k)
	if evicted != nil {
		t.entryOf(evicted.hashWith(t.seed)).kept--
	}
	s.entry.kept++
	s.slot, s.record = slot, t.records.recordAt(slot)
}

// usedOf is how much of a source's quota is used up before its first failure today,
// because a weekly or monthly budget is smaller.
func (t *tier) usedOf(s *source, p *Parameters) int64 {
	if p.Weekly == 0 && p.Monthly == 0 {
		return 0
	}
	allowed, book := t.quota.omega, t.records.historyAt(s.slot)
	if p.Weekly > 0 {
		allowed = min(allowed, int64(p.Weekly*t.scale)-int64(book.weekly))
	}
	if p.Monthly > 0 {
		allowed = min(allowed, int64(p.Monthly*t.scale)-int64(book.monthly))
	}
	return t.quota.omega - max(0, allowed)
}

// admitRequest applies the temporal limit (section 2.3.6) to a source with a record.
func (t *tier) admitRequest(now flow.Time, s *source, p *Parameters, end flow.Time) bool {
	r, used := s.record, t.usedOf(s, p)
	if !r.hasFlag(limited) {
		if !t.isOver(r, used) {
			return true
		}
		r.startLimit(now)
	}
	ok, spread := r.admitRequest(now, int64(r.c), used, &t.quota, end)
	if !ok && spread {
		r.flags |= atLimit
	}
	return ok
}

// isOver reports whether a source fails so fast or so often that the limit starts.
func (t *tier) isOver(r *record, used int64) bool {
	return uint64(r.f) > t.quota.rate || 2*int64(r.c) >= t.quota.omega-used
}

func (r *record) startLimit(now flow.Time) {
	r.flags |= limited
	r.bucket = bucket{at: now}
}

// countFailure counts a failure of k. It opens a record if the source's entry
// is promoted, if the spatial limit is active, or if all sources are listed.
func (t *tier) countFailure(now flow.Time, s *source, k key, p *Parameters, spatial, all bool) {
	e := s.entry
	e.addFailure(now, t.beta)
	if uint64(e.f) > t.quota.rate || int64(e.c) > t.quota.omega {
		e.promoted = true
	}
	if s.record == nil {
		if !e.promoted && !spatial && !all {
			return
		}
		t.openRecord(s, k)
		if spatial {
			s.record.flags |= late
		}
	}
	r := s.record
	r.addFailure(now, t.beta)
	switch {
	case r.hasFlag(limited):
		r.tokens -= unit
	case t.isOver(r, t.usedOf(s, p)):
		r.startLimit(now)
	}
	if int64(r.c) >= t.quota.omega-1 {
		r.flags |= atLimit
	}
}

// newDay resets the day's counters (section 2.3.6) and drops records without a
// failure that day, unless a budget still needs them.
func (t *tier) newDay(start flow.Time, number, midnights int64, p *Parameters) {
	for i := range t.entries {
		e := &t.entries[i]
		e.newDay()
		e.asked, e.answered = 0, 0
		e.promoted = uint64(e.f) > t.quota.rate
	}
	week, month := number/7 != (number-midnights)/7, number/30 != (number-midnights)/30
	t.records.eachRecord(func(slot uint32, r *record) {
		book := t.records.historyAt(slot)
		quiet := r.c == 0
		book.endDay(r.c, week, month)
		r.endDay(start, midnights, t.quota.rate)
		budgeted := p.Weekly > 0 && book.weekly > 0 || p.Monthly > 0 && book.monthly > 0
		if quiet && !budgeted {
			t.entryOf(r.key.hashWith(t.seed)).kept--
			t.records.removeSlot(slot)
		}
	})
}

func (b *history) endDay(failures uint32, week, month bool) {
	b.weekly += failures
	b.monthly += failures
	if week {
		b.weekly = 0
	}
	if month {
		b.monthly = 0
	}
	b.forgiven, b.silent = 0, 0
}

func (r *record) endDay(start flow.Time, midnights int64, most uint64) {
	if r.hasFlag(atLimit) {
		r.days = min(r.days+1, 250)
	} else {
		r.days = 0
	}
	if midnights > 1 {
		r.days = 0 // the days between were quiet
	}
	if r.days == 0 {
		r.flags &^= proposed
	}
	r.newDay()
	r.flags &^= atLimit | limited | member | late
	if uint64(r.f) > most {
		r.flags |= limited
	}
	r.bucket = bucket{at: start}
	r.asked, r.answered = 0, 0
}
