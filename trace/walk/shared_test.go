//go:build linux

package walk

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSnapshotsAreShared has many requests arrive while a snapshot is taken:
// they share the next one, and none gets the one that began before it.
func TestSnapshotsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSharedSnapshot()
		var taken atomic.Int32
		take := func() (*Snapshot, error) {
			s := newSnapshot(0)
			s.denied = int(taken.Add(1))
			time.Sleep(time.Second)
			return s, nil
		}
		which := func() int {
			s, err := h.take(take)
			if err != nil {
				t.Error(err)
			}
			return s.denied
		}
		go func() {
			if n := which(); n != 1 {
				t.Errorf("the first request has snapshot %d", n)
			}
		}()
		time.Sleep(500 * time.Millisecond)
		for range 100 {
			go func() {
				if n := which(); n != 2 {
					t.Errorf("a request during the first has snapshot %d", n)
				}
			}()
		}
		time.Sleep(3 * time.Second)
		if n := which(); n != 3 || taken.Load() != 3 {
			t.Errorf("a later request has snapshot %d of %d", n, taken.Load())
		}
	})
}
