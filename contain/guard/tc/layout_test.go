//go:build linux

package tc

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"dragnet/daw"
)

func sizeOf[T any](_ []T) int { var one T; return int(unsafe.Sizeof(one)) }

// TestLayout compares the sizes of what Go reads with those the programs were compiled
// with.
func TestLayout(t *testing.T) {
	spec, err := loadGuard()
	if err != nil {
		t.Fatal(err)
	}
	tables := &daw.Tables{}
	for name, want := range map[string]int{
		"edges": int(unsafe.Sizeof(tables.State)), "settings": int(unsafe.Sizeof(tables.Limits)), "records": sizeOf(tables.Records[0]),
		"histories": sizeOf(tables.Histories[0]), "entries": sizeOf(tables.Entries[0]), "cells": 8, "keys": sizeOf(tables.Keys[0]),
		"services": 8, "lines": sizeOf(tables.Lines), "scope": 8, "insides": 4, "blocked": 8, "bound": 8, "stations": 8,
	} {
		if m := spec.Maps[name]; m == nil || int(m.ValueSize) != want {
			t.Errorf("%s: %+v, in Go %d octets", name, m, want)
		}
	}
	if n := binary.Size(prefixKey{}); int(spec.Maps["scope"].KeySize) != n || int(spec.Maps["stations"].KeySize) != binary.Size(stationKey{}) {
		t.Error("keys differ")
	}
	// One cache line, of which a million take 64 MB.
	if n := spec.Maps["records"].ValueSize; n != 64 {
		t.Errorf("a record has %d octets", n)
	}
}
