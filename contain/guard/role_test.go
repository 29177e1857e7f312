//go:build linux

package guard

import (
	"log/slog"
	"testing"
)

// Each role hashes in its own way, unless it goes on from a snapshot.
func TestSeedIsDrawn(t *testing.T) {
	seeds := map[uint64]bool{0: true}
	for range 3 {
		r, err := NewRole(small(func(c *Configuration) { c.Name, c.Live.Interface = "", "lo" }), Dependencies{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if seeds[r.c.Limits.Seed] || r.c.Name == "" {
			t.Errorf("seed %d, name %q", r.c.Limits.Seed, r.c.Name)
		}
		seeds[r.c.Limits.Seed] = true
	}
}
