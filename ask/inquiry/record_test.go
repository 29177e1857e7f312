package inquiry_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/dossier/pattern"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func openRecord(t *testing.T, address string) *inquiry.History {
	t.Helper()
	db, err := state.Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r, err := inquiry.OpenRecord(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecord: the state can be read at any time, the first epoch is kept, and
// what speaks against a witness is summed up by its key.
func TestRecord(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { record(t, filepath.Join(t.TempDir(), "q.db")) })
	t.Run("postgres", func(t *testing.T) { record(t, testkit.Postgres(t)) })
}

func record(t *testing.T, address string) {
	r, ctx := openRecord(t, address), t.Context()
	p, err := pattern.Parse("in src=203.0.113.5 dport=1433", pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	for i, epoch := range []string{"2026-10-01", "2026-11-20", "2026-11-21"} {
		at := noon.AddDate(0, 0, 3*i-30)
		if _, err := r.Begin(ctx, at, inquiry.Recorded{Pattern: p.String(), Hash: "linear/19", Epoch: epoch}, p); err != nil {
			t.Fatal(err)
		}
	}
	since := noon.AddDate(0, 0, -28)
	// The same value in another pattern, with fields in another order; the same
	// address under another mask; a neighbour, whose key narrows it down.
	for _, text := range []string{
		"in src=203.0.113.5 dport=1433", "out dst=203.0.113.5", "in src=203.0.113.6", "in src=203.0.113.0/24 dport=80", "in dport=1433 src=203.0.113.5", "out dst=198.51.100.1 then[1h] in dport=1433 src=203.0.113.5",
	} {
		again, err := pattern.Parse(text, pattern.NoFiles)
		if err != nil {
			t.Fatal(err)
		}
		if epoch, others, err := r.FirstEpoch(ctx, again, since); epoch != "2026-11-20" || others != 0 || err != nil {
			t.Errorf("%s: first epoch %q, %d others, %v", text, epoch, others, err)
		}
	}
	other, err := pattern.Parse("in src=203.0.114.6 dport=1433", pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	if epoch, _, err := r.FirstEpoch(ctx, other, since); epoch != "" || err != nil {
		t.Errorf("another value has a first epoch %q, %v", epoch, err)
	}
	if _, err := r.Begin(ctx, noon, inquiry.Recorded{Pattern: other.String(), Hash: "linear/19", Epoch: "2026-11-22"}, other); err != nil {
		t.Fatal(err)
	}
	both, err := pattern.Parse("in src=203.0.113.5 dport=1433 or in src=203.0.114.6 dport=1433", pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	if epoch, others, err := r.FirstEpoch(ctx, both, since); epoch != "2026-11-20" || others != 1 || err != nil {
		t.Errorf("both: %q, %d others, %v", epoch, others, err)
	}

	honest, liar := newKey(t).Public(), newKey(t).Public()
	for _, decoy := range []bool{false, true} {
		n, err := r.Begin(ctx, noon, inquiry.Recorded{Pattern: p.String(), Hash: "linear/12", Epoch: "2026-11-22", Decoy: decoy}, p)
		if err != nil {
			t.Fatal(err)
		}
		notes := []inquiry.Note{
			{Witness: "a", Key: honest, Status: inquiry.Waiting, State: "0 of 1 answered, 1 waiting"},
			{Witness: "b", Key: liar, Status: inquiry.Waiting, State: "0 of 2 answered, 2 waiting"},
			{Witness: "b", Key: liar, Status: inquiry.Answered, Testimony: &detective.TestimonySummary{Flows: 7, Answers: 5, Opened: 1}, Spray: true, State: "1 of 2 answered, 1 waiting"},
		}
		if err := r.Notes(ctx, noon, n, notes); err != nil {
			t.Fatal(err)
		}
		a, err := r.Show(ctx, n)
		if err != nil || a.State != "1 of 2 answered, 1 waiting" || len(a.Witnesses) != 2 || a.Witnesses[0].Status != inquiry.Waiting ||
			a.Witnesses[1].Opened != 1 || a.Ended != nil || a.Decoy != decoy {
			t.Errorf("while it is asked: %+v, %v", a, err)
		}
		if err := r.Notes(ctx, noon, n, []inquiry.Note{{Witness: "a", Key: honest, Status: inquiry.Silent, State: "1 of 2 answered, 1 silent"}}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := r.Honesty(ctx)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	want := []inquiry.Honesty{
		{Name: "a", Key: honest.String(), Asked: 2, Missing: 2},
		{Name: "b", Key: liar.String(), Asked: 2, Answered: 2, Decoys: 1, Lies: 1, Sprays: 2},
	}
	for i := range want {
		if all[i] != want[i] || all[i].Honest() != (i == 0) {
			t.Errorf("%+v, want %+v", all[i], want[i])
		}
	}
	if list, err := r.List(ctx, 2); err != nil || len(list) != 2 || !list[0].Decoy {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestRecordedRun enters a whole inquiry.
func TestRecordedRun(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(nil)
	conf, p := c.asks(truth)
	conf.Detective.Hash.Bits = 31 // refused by all
	r := openRecord(t, filepath.Join(t.TempDir(), "q.db"))
	n, out, err := r.Run(t.Context(), conf, p, false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Show(t.Context(), n)
	if err != nil || a.State != out.Tally.String() || a.State != "0 of 4 answered, 4 refused" || a.Ended == nil || a.Result == nil || len(a.Question) != 64 {
		t.Errorf("%+v, %v", a, err)
	}
}
