package admission

import (
	"context"
	"slices"
	"sync"
)

// Fair gives out places in turn to the callers that wait, however many requests
// each has. It is safe for concurrent use.
type Fair struct {
	places int

	mu        sync.Mutex // guards all below
	taken     map[string]int
	all       int
	strangers int
	waiting   map[string][]*waiter
	order     []string // callers that wait, the next first
}

type waiter struct {
	caller Caller
	ready  chan struct{}
}

// maxWaiting is how many requests of one caller wait; more are refused.
const maxWaiting = 256

// NewFair makes places.
func NewFair(places int) *Fair {
	return &Fair{places: places, taken: map[string]int{}, waiting: map[string][]*waiter{}}
}

// Acquire takes a place, or waits for one until ctx ends. ErrBusy says that the
// caller has too many requests waiting.
func (f *Fair) Acquire(ctx context.Context, c Caller) error {
	f.mu.Lock()
	if len(f.waiting[c.Name]) == 0 && f.mayTake(c) {
		f.take(c)
		f.mu.Unlock()
		return nil
	}
	if len(f.waiting[c.Name]) >= maxWaiting {
		f.mu.Unlock()
		return ErrBusy
	}
	w := &waiter{caller: c, ready: make(chan struct{})}
	if len(f.waiting[c.Name]) == 0 {
		f.order = append(f.order, c.Name)
	}
	f.waiting[c.Name] = append(f.waiting[c.Name], w)
	f.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.waiting[c.Name], w); i >= 0 {
		f.removeWaiter(c.Name, i)
	} else { // it was given a place meanwhile
		f.giveBack(c)
	}
	return ctx.Err()
}

// Release gives a place back.
func (f *Fair) Release(c Caller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giveBack(c)
}

// mayTake: one caller gets a quarter of the places, strangers half, and each at
// least one.
func (f *Fair) mayTake(c Caller) bool {
	return f.all < f.places && f.taken[c.Name] < max(f.places/4, 1) && (c.Known || f.strangers < max(f.places/2, 1))
}

func (f *Fair) take(c Caller) {
	f.all++
	f.taken[c.Name]++
	if !c.Known {
		f.strangers++
	}
}

func (f *Fair) giveBack(c Caller) {
	f.all--
	if f.taken[c.Name]--; f.taken[c.Name] == 0 {
		delete(f.taken, c.Name)
	}
	if !c.Known {
		f.strangers--
	}
	// The first in turn that may take a place gets one, and waits behind all
	// others for its next.
	for i := 0; i < len(f.order); i++ {
		name := f.order[i]
		w := f.waiting[name][0]
		if !f.mayTake(w.caller) {
			continue
		}
		f.removeWaiter(name, 0)
		if len(f.waiting[name]) > 0 {
			f.order = append(slices.Delete(f.order, i, i+1), name)
		}
		f.take(w.caller)
		close(w.ready)
		return
	}
}

func (f *Fair) removeWaiter(name string, i int) {
	f.waiting[name] = slices.Delete(f.waiting[name], i, i+1)
	if len(f.waiting[name]) == 0 {
		delete(f.waiting, name)
		f.order = slices.DeleteFunc(f.order, func(o string) bool { return o == name })
	}
}
