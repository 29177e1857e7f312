package envelope

import (
	"container/heap"
	"errors"
	"sync"
	"time"

	"dragnet/wire/identity"
)

// Replay remembers envelopes until they expire. Implementations are safe for
// concurrent use.
type Replay interface {
	// Fresh reports whether the nonce of this sender is new, and remembers it
	// until the time given. An error means that it cannot tell: the envelope
	// is then refused.
	Fresh(from identity.ID, nonce [16]byte, expires time.Time) (bool, error)
}

// ErrFull says that a Memory holds as many envelopes as it may.
var ErrFull = errors.New("envelope: more unexpired envelopes than are remembered; try again later")

// Memory is a Replay that forgets when the program ends: what outlives it needs
// a durable one, or refuses envelopes issued before it began.
type Memory struct {
	mu    sync.Mutex
	limit int
	now   func() time.Time
	seen  map[remembered]struct{}
	queue expiring
}

type remembered struct {
	from  identity.ID
	nonce [16]byte
}

type expiry struct {
	remembered
	at time.Time
}

// NewMemory makes a Memory of at most limit envelopes (about 200 bytes each)
// that reads the time from now. A full one refuses, as forgetting would let
// copies in.
func NewMemory(limit int, now func() time.Time) *Memory {
	return &Memory{limit: limit, now: now, seen: map[remembered]struct{}{}}
}

// Fresh is that of Replay.
func (m *Memory) Fresh(from identity.ID, nonce [16]byte, expires time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for len(m.queue) > 0 && !m.queue[0].at.After(now) {
		delete(m.seen, heap.Pop(&m.queue).(expiry).remembered)
	}
	r := remembered{from, nonce}
	if _, ok := m.seen[r]; ok {
		return false, nil
	}
	if len(m.seen) >= m.limit {
		return false, ErrFull
	}
	m.seen[r] = struct{}{}
	heap.Push(&m.queue, expiry{r, expires})
	return true, nil
}

// expiring is a heap with the next to expire on top.
type expiring []expiry

func (q expiring) Len() int           { return len(q) }
func (q expiring) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q expiring) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is that of heap.Interface.
func (q *expiring) Push(x any) { *q = append(*q, x.(expiry)) }

// Pop is that of heap.Interface.
func (q *expiring) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
