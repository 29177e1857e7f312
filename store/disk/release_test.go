package disk

import (
	"context"
	"net/netip"
	"runtime"
	"testing"

	"dragnet/flow"
)

// TestAWriterCanRest: after a rest it takes flows as before, little of its
// memory is kept, and what was appended and not committed is not lost by it.
func TestAWriterCanRest(t *testing.T) {
	dir := t.TempDir() + "/data"
	s := must(OpenWriter(dir))(t)
	w := must(s.NewWriter(testEpoch))(t)
	flows := make([]flow.Flow, 5000)
	for i := range flows {
		flows[i] = flow.Flow{Start: flow.Time(i), Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), RespPort: 22, Proto: flow.TCP, State: flow.SF}
	}
	ctx := context.Background()
	for range 3 {
		if err := w.Append(ctx, flows); err != nil {
			t.Fatal(err)
		}
		if err := w.ReleaseMemory(); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		before := live()
		if err := w.ReleaseMemory(); err != nil {
			t.Fatal(err)
		}
		if after := live(); after > before-10<<20 {
			t.Errorf("%d bytes before the rest, %d after", before, after)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := coverage(t, s).Flows; n != 15000 {
		t.Errorf("%d flows, want 15000", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := Check(ctx, dir, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}

func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
