package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/flow"
	"dragnet/store"
)

// partition is a day of flows on the server's disk.
type partition struct {
	day   uint16
	bytes int64
	held  store.Removed // the committed part
}

// Prune removes the days that exceed keep, and returns them. A day is removed
// when its last instant is too old.
func (w *Writer) Prune(ctx context.Context, keep store.Keep, now time.Time) (removed []store.Removed, err error) {
	all, err := w.listPartitions(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range chooseRemoved(all, keep, flow.FromTime(now)) {
		// If interrupted between the two, the next call continues: what to
		// remove is known from flows.
		for _, table := range []string{"days", "flows"} {
			if err := w.execText(ctx, "remove old flows", fmt.Sprintf("ALTER TABLE $db.%s DROP PARTITION %d", table, p.day)); err != nil {
				return removed, err
			}
		}
		if p.held.Flows > 0 {
			removed = append(removed, p.held)
		}
	}
	return removed, w.dropOldClaims(ctx)
}

// chooseRemoved lists the partitions of all, sorted newest first, that exceed
// keep.
func chooseRemoved(all []partition, keep store.Keep, now flow.Time) (gone []partition) {
	newest := flow.MinTime
	for _, p := range all {
		if p.held.Flows > 0 {
			newest = max(newest, p.held.To)
		}
	}
	if newest == flow.MinTime {
		return nil // any rows are being imported
	}
	oldest := min(now, newest) - flow.Time(keep.Age)
	var bytes int64
	// Days of the future are of wrong clocks, and push no others out.
	future := func(p partition) bool { return now < flow.MaxTime-2*dayLength && flow.Time(p.day) > (now/dayLength)+1 }
	all = slices.SortedStableFunc(slices.Values(all), func(a, b partition) int {
		switch {
		case future(a) == future(b):
			return 0
		case future(a):
			return 1
		}
		return -1
	})
	for _, p := range all {
		bytes += p.bytes
		// The last partition has no end.
		old := keep.Age > 0 && p.day < 1<<16-1 && flow.Time(p.day+1)*dayLength <= oldest
		if old || keep.Bytes > 0 && bytes > keep.Bytes {
			gone = append(gone, p)
		}
	}
	return gone
}

func (w *Writer) listPartitions(ctx context.Context) (all []partition, err error) {
	v, err := w.readView(ctx)
	if err != nil {
		return nil, err
	}
	held := map[uint16]store.Removed{}
	text := "SELECT day, sum(flows), min(first_start), max(last_start) FROM $db.days WHERE " + v.visible + " GROUP BY day"
	err = w.eachRow(ctx, "read what is stored", text, func(r driver.Rows) error {
		var day uint16
		var h store.Removed
		err := r.Scan(&day, &h.Flows, (*int64)(&h.From), (*int64)(&h.To))
		held[day] = h
		return err
	})
	if err != nil {
		return nil, err
	}
	text = "SELECT toUInt16(partition) AS day, sum(bytes_on_disk) FROM system.parts WHERE database = '$db' AND table = 'flows' AND active GROUP BY day ORDER BY day DESC"
	err = w.eachRow(ctx, "read the partitions", text, func(r driver.Rows) error {
		var p partition
		var bytes uint64
		err := r.Scan(&p.day, &bytes)
		p.bytes, p.held = int64(bytes), held[p.day]
		all = append(all, p)
		return err
	})
	return all, err
}

// dropOldClaims drops the claims of past days, all of which have expired.
func (w *Writer) dropOldClaims(ctx context.Context) error {
	var days []uint16
	text := "SELECT toUInt16(partition) AS day FROM system.parts WHERE database = '$db' AND table = 'claims' AND active GROUP BY day HAVING day + 1 < intDiv(toUnixTimestamp(now()), 86400)"
	err := w.eachRow(ctx, "look for old claims", text, func(r driver.Rows) error {
		var day uint16
		err := r.Scan(&day)
		days = append(days, day)
		return err
	})
	for _, day := range days {
		if err == nil {
			err = w.execText(ctx, "remove old claims", fmt.Sprintf("ALTER TABLE $db.claims DROP PARTITION %d", day))
		}
	}
	return err
}
