package lru

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAgainstASlice compares a Map with a slice in order of use.
func TestAgainstASlice(t *testing.T) {
	type pair struct{ k, v int }
	rapid.Check(t, func(t *rapid.T) {
		m, twin := New[int, int](), []pair{}
		find := func(k int) int { return slices.IndexFunc(twin, func(p pair) bool { return p.k == k }) }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			k, v := rapid.IntRange(0, 9).Draw(t, "key"), rapid.Int().Draw(t, "value")
			at := find(k)
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				m.Put(k, v)
				if at >= 0 {
					twin = slices.Delete(twin, at, at+1)
				}
				twin = append(twin, pair{k, v})
			case 1:
				got, ok := m.Use(k)
				if ok != (at >= 0) || ok && got != twin[at].v {
					t.Fatalf("%d: %d, %v", k, got, ok)
				}
				if ok {
					twin = append(slices.Delete(twin, at, at+1), pair{k, got})
				}
			case 2:
				m.Delete(k)
				if at >= 0 {
					twin = slices.Delete(twin, at, at+1)
				}
			}
			var all []pair
			for k, v := range m.All() {
				all = append(all, pair{k, v})
			}
			k, v, ok := m.Oldest()
			if !slices.Equal(all, twin) || m.Len() != len(twin) || ok != (len(twin) > 0) || ok && (pair{k, v}) != twin[0] {
				t.Fatalf("%v, want %v", all, twin)
			}
		}
	})
}

func TestAllMayDelete(t *testing.T) {
	m := New[int, bool]()
	for k := range 10 {
		m.Put(k, true)
	}
	for k := range m.All() {
		m.Delete(k)
	}
	if m.Len() != 0 {
		t.Error(m.Len())
	}
}
