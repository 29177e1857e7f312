// Package run starts and stops the parts of a program: the goroutines of one
// part, several parts in order, and a whole program under systemd.
package run

import (
	"context"
	"errors"
	"sync"
)

// Group is the goroutines of one part. They run until Stop, even if the context
// with which the part was started ends before.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed chan error

	mu   sync.Mutex
	last []error // returned after Stop; guarded by mu
}

// NewGroup makes an empty group.
func NewGroup() *Group {
	g := &Group{failed: make(chan error, 1)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Context ends when the group is stopped.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f until it returns, which it must soon after its context ends. An
// error that it returns before then is reported by Failed, one that it returns
// afterwards by Stop, unless it only says that the context ended.
func (g *Group) Go(f func(ctx context.Context) error) {
	g.wg.Go(func() {
		switch err := f(g.ctx); {
		case err == nil:
		case g.ctx.Err() == nil:
			g.Fail(err)
		case !errors.Is(err, context.Canceled):
			g.mu.Lock()
			g.last = append(g.last, err)
			g.mu.Unlock()
		}
	})
}

// GoWithoutError is Go for what cannot fail.
func (g *Group) GoWithoutError(f func(ctx context.Context)) {
	g.Go(func(ctx context.Context) error {
		f(ctx)
		return nil
	})
}

// Fail has Failed report err, unless it has another error to report.
func (g *Group) Fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// Failed receives the first error that ended the part before it was stopped.
func (g *Group) Failed() <-chan error { return g.failed }

// Drain waits for the goroutines to return by themselves, at most until ctx ends,
// and then stops those that are left.
func (g *Group) Drain(ctx context.Context) error {
	select {
	case <-g.done():
	case <-ctx.Done():
	}
	return g.Stop(context.WithoutCancel(ctx))
}

// done is closed when all goroutines have returned.
func (g *Group) done() <-chan struct{} {
	done := make(chan struct{})
	go func() { g.wg.Wait(); close(done) }()
	return done
}

// Stop ends the context of the goroutines and waits for them, at most until ctx
// ends. It may be called more than once.
func (g *Group) Stop(ctx context.Context) error {
	g.cancel()
	select {
	case <-g.done():
		g.mu.Lock()
		defer g.mu.Unlock()
		return errors.Join(g.last...)
	case <-ctx.Done():
		return ctx.Err()
	}
}
