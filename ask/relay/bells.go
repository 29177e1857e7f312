package relay

import (
	"context"
	"sync"
	"time"

	"dragnet/wire/identity"
)

// waiters wake who waits for something of a key's.
type waiters struct {
	mu      sync.Mutex
	waiting map[identity.ID]*waiter
}

type waiter struct {
	rung chan struct{}
	ears int
}

// add must come before looking whether there is something, so that nothing
// that comes in between is missed. done gives the bell back.
func (b *waiters) add(id identity.ID) (rung <-chan struct{}, done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[identity.ID]*waiter{}
	}
	x := b.waiting[id]
	if x == nil {
		x = &waiter{rung: make(chan struct{})}
		b.waiting[id] = x
	}
	x.ears++
	return x.rung, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if x.ears--; x.ears == 0 && b.waiting[id] == x {
			delete(b.waiting, id)
		}
	}
}

func (b *waiters) notify(id identity.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.waiting[id]; x != nil {
		close(x.rung)
		delete(b.waiting, id)
	}
}

// maxWait bounds how long a caller may wait at a time.
const maxWait = 30 * time.Second

// waitUntil calls look until it finds something, an error, or the wait is over.
func (b *waiters) waitUntil(ctx context.Context, id identity.ID, wait time.Duration, look func() (found bool, err error)) error {
	over := time.After(min(max(wait, 0), maxWait))
	for {
		rung, done := b.add(id)
		found, err := look()
		if found || err != nil {
			done()
			return err
		}
		select {
		case <-rung:
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
