package relay

import (
	"context"
	"sync"
	"time"

	"dragnet/wire/identity"
)

// waiters wakes the calls that wait for messages or answers to a key.
type waiters struct {
	mu      sync.Mutex
	waiting map[identity.ID]*waiter
}

type waiter struct {
	ready chan struct{} // closed by notify
	n     int           // calls that wait
}

// add registers a wait for id. Call it before checking for messages, so that
// one that arrives in between is not missed. done unregisters the wait.
func (b *waiters) add(id identity.ID) (ready <-chan struct{}, done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[identity.ID]*waiter{}
	}
	x := b.waiting[id]
	if x == nil {
		x = &waiter{ready: make(chan struct{})}
		b.waiting[id] = x
	}
	x.n++
	return x.ready, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if x.n--; x.n == 0 && b.waiting[id] == x {
			delete(b.waiting, id)
		}
	}
}

// notify wakes all that wait for id.
func (b *waiters) notify(id identity.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.waiting[id]; x != nil {
		close(x.ready)
		delete(b.waiting, id)
	}
}

// maxWait bounds how long a caller may wait at a time.
const maxWait = 30 * time.Second

// waitUntil calls look until it finds something, fails, or wait is over.
func (b *waiters) waitUntil(ctx context.Context, id identity.ID, wait time.Duration, look func() (found bool, err error)) error {
	over := time.After(min(max(wait, 0), maxWait))
	for {
		ready, done := b.add(id)
		found, err := look()
		if found || err != nil {
			done()
			return err
		}
		select {
		case <-ready:
		case <-over:
			done()
			return nil
		case <-ctx.Done():
			done()
			return ctx.Err()
		}
		done()
	}
}
