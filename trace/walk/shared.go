//go:build linux

package walk

import "sync"

// sharedSnapshot takes one snapshot at a time. Requests that arrive during one
// need a later one, since their connection may be missing, and share it: however
// much is open on the machine, and however many ask, there are at most two at
// once.
type sharedSnapshot struct {
	taking chan struct{} // has an element while a snapshot is taken

	mu   sync.Mutex // guards next
	next *pendingSnapshot
}

// pendingSnapshot is one that has not started yet; s and err are set when done is closed.
type pendingSnapshot struct {
	done chan struct{}
	s    *Snapshot
	err  error
}

func newSharedSnapshot() *sharedSnapshot { return &sharedSnapshot{taking: make(chan struct{}, 1)} }

func (h *sharedSnapshot) take(take func() (*Snapshot, error)) (*Snapshot, error) {
	h.mu.Lock()
	p := h.next
	if p != nil {
		h.mu.Unlock()
		<-p.done
		return p.s, p.err
	}
	p = &pendingSnapshot{done: make(chan struct{})}
	h.next = p
	h.mu.Unlock()
	h.taking <- struct{}{}
	h.mu.Lock()
	h.next = nil // callers from now on need the next one
	h.mu.Unlock()
	p.s, p.err = take()
	<-h.taking
	close(p.done)
	return p.s, p.err
}
