//go:build linux

package bpf

import (
	"encoding/binary"
	"testing"

	"dragnet/contain/ripcord/tables"
)

// TestLayout compares the sizes of what Go reads with those the programs were
// compiled with.
func TestLayout(t *testing.T) {
	spec, err := loadWire()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]any{
		"conns4": {key4{}, tables.Conn{}}, "conns6": {key6{}, tables.Conn{}}, "half4": {key4{}, tables.Conn{}}, "half6": {key6{}, tables.Conn{}}, "sources": {[16]byte{}, tables.Source{}},
		"stops": {stopKey{}, tables.Stop{}}, "resets": {resetKey{}, tables.ResetCount{}}, "talks": {conversationKey{}, uint32(0)},
		"prefixes": {[8]byte{}, uint32(0)}, "neighbours": {[16]byte{}, uint32(0)}, "hops": {[16]byte{}, tables.Hop{}}, "cookies": {cookieKey{}, tables.Cookie{}}, "peer_cookies": {cookieKey{}, uint64(0)},
		"stop_lengths": {uint32(0), [tables.StopLengths]uint32{}}, "secrets": {uint32(0), [2]uint64{}}, "budget": {uint32(0), int32(0)},
		"sweeps": {uint32(0), tables.Sweeps{}},
	} {
		m := spec.Maps[name]
		if m == nil {
			t.Errorf("there is no table %s", name)
			continue
		}
		if key, value := binary.Size(want[0]), binary.Size(want[1]); int(m.KeySize) != key || int(m.ValueSize) != value {
			t.Errorf("%s: %d and %d octets, in Go %d and %d", name, m.KeySize, m.ValueSize, key, value)
		}
	}
	if n := spec.Maps["counters"].MaxEntries; n != uint32(tables.Reasons) {
		t.Errorf("%d counters, in Go %d", n, tables.Reasons)
	}
	// The paper's prototype took 108.
	if n := spec.Maps["conns4"].ValueSize; n > 64 {
		t.Errorf("a connection takes %d octets, more than 64", n)
	}
}
