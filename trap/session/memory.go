package session

import "sync/atomic"

// Memory bounds what many recorders hold together, so that a honeypot which
// uploads in many sessions at once does not use up the machine's.
type Memory struct{ left atomic.Int64 }

// NewMemory has room for a number of bytes, beside freeBytes of each recorder.
func NewMemory(n int64) *Memory {
	m := new(Memory)
	m.left.Store(n)
	return m
}

// freeBytes is what each recorder may hold in any case: the beginning of a session
// is kept whatever others send.
const freeBytes = 4096

// chunkBytes is what a chunk takes.
const chunkBytes = 24

// take is how many of n bytes there is room for; they are taken.
func (m *Memory) take(n int64) int64 {
	for {
		left := m.left.Load()
		got := max(min(n, left), 0)
		if m.left.CompareAndSwap(left, left-got) {
			return got
		}
	}
}

// Share limits what a recorder holds, until Release, to what m has room for.
func (r *Recorder) Share(m *Memory) { r.memory = m }

// reserve is how many of n further bytes may be held. It is called with mu held.
func (r *Recorder) reserve(n int) int {
	if r.memory == nil || n <= 0 {
		return n
	}
	free := min(int64(n), max(freeBytes-r.held, 0))
	got := r.memory.take(int64(n) - free)
	r.taken += got
	r.held += free + got
	return int(free + got)
}

// Release gives back what was shared; the session must not be used any more.
func (r *Recorder) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory != nil {
		r.memory.left.Add(r.taken)
	}
	r.taken, r.session = 0, Session{}
}
