package daw

// recent is RFAL, the list of recently failed addresses (Tang 2006, section
// 2.3.7): a popular server that is down costs its users one failure.
type recent struct {
	seed     uint64
	ring     []key
	next     int // the oldest entry once the ring is full
	full     bool
	index    index
	inserted uint64 // today
}

func newRecent(size int, seed uint64) recent { return recent{seed: seed, ring: make([]key, size)} }

func (l *recent) hashOf(slot uint32) uint64 { return l.ring[slot].hashWith(l.seed) }

// hasAddr reports whether d is listed.
func (l *recent) hasAddr(d key) bool {
	return l.index.findSlot(d.hashWith(l.seed), func(s uint32) bool { return l.ring[s] == d }) >= 0
}

// addAddr reports whether d is new, and if so replaces the oldest by it.
func (l *recent) addAddr(d key) bool {
	if l.index.findSlot(d.hashWith(l.seed), func(s uint32) bool { return l.ring[s] == d }) >= 0 {
		return false
	}
	if l.full {
		l.index.removeSlot(uint32(l.next), l.hashOf)
	}
	l.ring[l.next] = d
	l.index.addSlot(uint32(l.next), l.hashOf)
	if l.next++; l.next == len(l.ring) {
		l.next, l.full = 0, true
	}
	l.inserted++
	return true
}

// removeAddr removes d; its place in the ring stays empty until its turn.
func (l *recent) removeAddr(d key) {
	s := l.index.findSlot(d.hashWith(l.seed), func(s uint32) bool { return l.ring[s] == d })
	if s >= 0 {
		l.index.removeSlot(uint32(s), l.hashOf)
		l.ring[s] = key{}
	}
}

func (l *recent) clear() {
	clear(l.index.cells)
	l.index.used, l.next, l.full, l.inserted = 0, 0, false, 0
}
