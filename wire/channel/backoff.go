package channel

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait before trying again: twice as long each time
// between the two bounds, and up to half less, so that agents do not all come
// back at once.
type backoff struct{ first, last time.Duration }

// wait waits after the n-th failure in a row, counted from 1. It returns false
// when ctx has ended.
func (b backoff) wait(ctx context.Context, n int) bool {
	d := min(b.first<<min(n-1, 20), b.last)
	d -= rand.N(d/2 + 1)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
