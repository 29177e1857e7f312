package exporters

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"dragnet/flow"
)

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}) }

func TestOnlySilentExportersGiveWay(t *testing.T) {
	table := NewTable(2, func() *int { return new(int) })
	var gone []netip.Addr
	table.Forget = func(from netip.Addr, n *int) {
		if *n != 1 {
			t.Errorf("the state of %s is %d", from, *n)
		}
		gone = append(gone, from)
	}
	hour := flow.Time(time.Hour)
	for i, c := range []struct {
		now   flow.Time
		from  int
		known bool
	}{
		{0, 1, true}, {1, 2, true}, {2, 3, false}, {hour / 2, 1, true},
		{hour + 1, 3, false},  // 2 was silent for an hour, not for more
		{hour + 2, 3, true},   // now it gives way
		{hour + 3, 2, false},  // 1 spoke half an hour ago
		{3 * hour, 2, true},   // 1 gives way, the longest silent
		{3*hour - 9, 3, true}, // a clock that goes back
		{-3 * hour, 1, false}, // far back
		{9 * hour, 1, true},
		{9*hour + 1, 2, true}, // 3 gives way
		{9*hour + 1, 3, false}, {9*hour + 2, 9, false},
		{900 * hour, 9, true}, {900 * hour, 10, true}, {900 * hour, 11, false},
		{1800 * hour, 11, true}, {-900 * hour, 12, false},
	} {
		state := table.Find(c.now, addr(c.from))
		if (state != nil) != c.known || table.Len() > 2 {
			t.Fatalf("step %d: %v, %d exporters", i, state, table.Len())
		}
		if state != nil {
			*state = 1
		}
	}
	if len(gone) != 7 || gone[0] != addr(2) || gone[1] != addr(1) {
		t.Errorf("%v gave way", gone)
	}
}

// BenchmarkFull shows what a datagram from a forged address costs in a full
// table: the same however large it is.
func BenchmarkFull(b *testing.B) {
	for _, most := range []int{100, 10_000} {
		b.Run(fmt.Sprint(most), func(b *testing.B) {
			table := NewTable(most, func() *int { return new(int) })
			for n := range most {
				table.Find(0, addr(n))
			}
			for b.Loop() {
				if table.Find(1, netip.AddrFrom4([4]byte{10, 0, 0, 1})) != nil {
					b.Fatal("it is not full")
				}
			}
		})
	}
}
