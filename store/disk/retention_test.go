package disk

import (
	"maps"
	"slices"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/store"
)

// TestAFlowOfTheFutureSavesNoOldSegment: a segment with a flow of 2242 among those
// of last week goes before the segments of today, if there is room for some only;
// and no age removes what it should not.
func TestAFlowOfTheFutureSavesNoOldSegment(t *testing.T) {
	const day = flow.Time(24 * time.Hour)
	now := flow.FromTime(time.Unix(1_800_000_000, 0))
	segment := func(number uint64, from, to flow.Time) Segment {
		return Segment{Number: number, From: from, To: to, Bytes: 100}
	}
	future := flow.Time(1 << 33 * 1e9)
	for name, c := range map[string]struct {
		all  []Segment
		keep store.Keep
		want []uint64
	}{
		"an old one with a flow of the future goes first": {
			[]Segment{segment(1, now-7*day, future), segment(2, now-6*day, now-5*day), segment(3, now-2*day, now-day), segment(4, now-day, now)}, store.Keep{Bytes: 300}, []uint64{1},
		},
		"one of yesterday goes after older ones": {
			[]Segment{segment(1, now-7*day, now-6*day), segment(2, now-5*day, now-4*day), segment(3, now-2*day, future), segment(4, now-day, now)}, store.Keep{Bytes: 200}, []uint64{1, 2},
		},
		"all have one": {
			[]Segment{segment(1, now-7*day, future), segment(2, now-6*day, future), segment(3, now-day, future)}, store.Keep{Bytes: 200}, []uint64{1},
		},
		"age counts from now": {
			[]Segment{segment(1, now-9*day, now-8*day), segment(2, now-7*day, future), segment(3, now-day, now)}, store.Keep{Age: time.Duration(7 * day)}, []uint64{1},
		},
		"flows of 1970 go alone": {
			[]Segment{segment(1, 0, day), segment(2, 0, now-day), segment(3, now-day, now)}, store.Keep{Age: time.Duration(7 * day)}, []uint64{1},
		},
	} {
		if got := slices.Sorted(maps.Keys(chooseRemoved(c.all, c.keep, now))); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v are removed, want %v", name, got, c.want)
		}
	}
}

// TestATopicIsNotForgotten: a source that is not a file keeps its number, however long
// nothing came of it; a log that is gone does not.
func TestATopicIsNotForgotten(t *testing.T) {
	c := catalogue{Sources: []store.ImportedLog{{ID: "kafka 1", Name: "kafka 1", Offset: 7}, {ID: "a", Name: "/nowhere/conn.log", Head: "00"}}}
	if c.forgetLogs(1000); len(c.Sources) != 1 || c.Sources[0].Offset != 7 {
		t.Errorf("%+v", c.Sources)
	}
}
