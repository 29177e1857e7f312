package biflow

import (
	"time"

	"dragnet/flow"
)

// recent remembers until when conversations were reported that may go on. Open
// vSwitch's NetFlow counts what was sent since its last record, and still gives
// the start of the whole flow: a part with that start would overlap what was
// reported, have far too small a rate, and seem to have sent while it was idle.
type recent struct {
	ends map[key][2]flow.Time // of each side
	ring []key                // the oldest gives way
	next int
}

// addReported notes a conversation that is being reported; at most most are remembered.
func (m *recent) addReported(e *entry, most int) {
	if m.ends == nil {
		m.ends = map[key][2]flow.Time{}
	}
	if _, ok := m.ends[e.key]; !ok {
		if len(m.ring) < most {
			m.ring = append(m.ring, e.key)
		} else {
			delete(m.ends, m.ring[m.next])
			m.ring[m.next] = e.key
			m.next = (m.next + 1) % most
		}
	}
	ends := [2]flow.Time{flow.MinTime, flow.MinTime}
	for at, s := range e.sides {
		if s.seen {
			ends[at] = s.end
		}
	}
	m.ends[e.key] = ends
}

// cutStart gives a record that begins before its direction was last reported, and
// ends after, that time as its start.
func (m *recent) cutStart(k key, from int, r *Record) {
	ends, ok := m.ends[k]
	if end := ends[from]; ok && r.Start < end && r.End() > end {
		r.Start, r.Duration = end, time.Duration(r.End()-end)
	}
}
