//go:build linux

package ripcord

import (
	"testing"
	"time"
)

// TestFlappingLink takes a link down every other second for a day.
func TestFlappingLink(t *testing.T) {
	var b backoff
	begin := time.Unix(1000, 0)
	forgotten := 0
	for s := range 12 * 3600 {
		if b.allow(begin.Add(time.Duration(2*s)*time.Second), time.Minute) {
			forgotten++
		}
	}
	// After 0, 1, 2, 4, ... 32 minutes, then each hour.
	if forgotten < 25 || forgotten > 31 {
		t.Errorf("addresses were forgotten %d times in a day", forgotten)
	}
	b = backoff{}
	if !b.allow(begin, time.Minute) || b.allow(begin.Add(30*time.Second), time.Minute) || !b.allow(begin.Add(time.Minute), time.Minute) {
		t.Error("the first wait is not a minute")
	}
	if !b.allow(begin.Add(24*time.Hour), time.Minute) || b.wait != time.Minute {
		t.Errorf("after a day the wait is %v", b.wait)
	}
}
