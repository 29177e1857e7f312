package coresidence

import (
	"math/bits"
	"testing"
)

// TestChoices counts the ways to choose two sets one by one.
func TestChoices(t *testing.T) {
	for n := 2; n <= 9; n++ {
		ways := 0
		for a := 1; a < 1<<n; a++ {
			for b := 1; b < 1<<n; b++ {
				if a&b == 0 && bits.TrailingZeros(uint(a)) < bits.TrailingZeros(uint(b)) {
					ways++
				}
			}
		}
		if got := countChoices(n); got != float64(ways) {
			t.Errorf("%d machines: %v, want %d", n, got, ways)
		}
	}
}
