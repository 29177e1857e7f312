package sensors

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/source/sensor"
	agentv1 "dragnet/wire/agent/v1"
)

func batch(first, flows int, dropped uint64) *agentv1.Item {
	b := sensor.Batch{Counts: sensor.Counts{Packets: 10, Dropped: dropped}}
	for n := range flows {
		b.Flows = append(b.Flows, flow.Flow{Start: flow.Time(first + n), Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), Sampling: 1})
	}
	return &agentv1.Item{Kind: sensor.BatchKind, Format: sensor.BatchFormat, Body: b.Encode()}
}

// TestBatchesWaitUntilTheyAreStored: in order for each sensor, with the same
// numbers again when storing failed, and gone when it did not.
func TestBatchesWaitUntilTheyAreStored(t *testing.T) {
	ctx := context.Background()
	db, err := state.Open(ctx, filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	i := New(Dependencies{DB: db, Agents: agents.New(agents.Dependencies{DB: db, Authority: t.TempDir(), Log: slog.New(slog.DiscardHandler)})})
	if err := i.Start(ctx); err != nil {
		t.Fatal(err)
	}
	send := func(from string, item *agentv1.Item) error {
		return db.Update(ctx, func(tx *state.Tx) error { return i.keep(ctx, tx, agents.From{Name: from, Role: "sensor"}, item) })
	}
	for n := range 40 { // more than are taken at once
		if err := errors.Join(send("a", batch(100*n, 3, 1)), send("b", batch(100*n, 0, 0))); err != nil {
			t.Fatal(err)
		}
	}
	if err := send("b", batch(7, 1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := send("a", &agentv1.Item{Format: sensor.BatchFormat, Body: []byte{1, 2}}); err == nil {
		t.Error("half a batch was kept")
	}
	full := errors.New("no space left on device")
	var again []Waiting
	if err := i.Take(ctx, func(w []Waiting) error { again = w; return full }); !errors.Is(err, full) {
		t.Fatal(err)
	}
	last, flows := map[string]int64{}, map[string]int{}
	first := true
	if err := i.Take(ctx, func(batches []Waiting) error {
		for k, w := range batches {
			if first && (w.Sensor != again[k].Sensor || w.Number != again[k].Number) {
				t.Errorf("%s %d came as %s %d before", w.Sensor, w.Number, again[k].Sensor, again[k].Number)
			}
			if w.Number <= last[w.Sensor] {
				t.Errorf("batch %d of %s follows %d", w.Number, w.Sensor, last[w.Sensor])
			}
			last[w.Sensor] = w.Number
			flows[w.Sensor] += len(w.Flows)
		}
		first = false
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if flows["a"] != 120 || flows["b"] != 1 {
		t.Errorf("%v flows", flows)
	}
	if err := i.Take(ctx, func([]Waiting) error { t.Error("batches came twice"); return nil }); err != nil {
		t.Fatal(err)
	}
	seen, err := i.Seen(ctx)
	if err != nil || len(seen) != 2 || seen[0].Dropped != 40 || seen[0].Flows != 120 || seen[0].Packets != 400 || seen[1].Flows != 1 {
		t.Errorf("%+v, %v", seen, err)
	}
	if s := seen[0].Source(); len(s.Lost) != 1 || s.Lost["packets_dropped_by_kernel"] != 40 {
		t.Errorf("%+v", s)
	}
}
