package clickhouse

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/flow"
)

// batchRows is how many flows are handed over at a time.
const batchRows = 1024

// Scan hands the flows that start in w to fn, in batches that are valid only
// during the call and in no particular order. Of the optional columns those in
// cols are filled; see flow.Columns. The coverage counts everything stored.
func (s *Store) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	v, err := s.view(ctx)
	if err != nil {
		return flow.Coverage{}, err
	}
	return v.Coverage, s.read(ctx, "1", v.visible+" AND "+within(w), cols, fn)
}

// ScanFrom is Scan of the flows that one of sources originated.
func (s *Store) ScanFrom(ctx context.Context, sources []netip.Addr, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	v, err := s.view(ctx)
	if err != nil || len(sources) == 0 {
		return v.Coverage, err
	}
	pairs := make([]string, len(sources))
	for i, a := range sources {
		hi, lo := split(a)
		pairs[i] = fmt.Sprintf("(%d, %d)", hi, lo)
	}
	return v.Coverage, s.read(ctx, "(src_hi, src_lo) IN ("+strings.Join(pairs, ", ")+")", v.visible+" AND "+within(w), cols, fn)
}

// read hands over the flows that fit two conditions, of which the server tests
// the first before it reads other columns.
func (s *Store) read(ctx context.Context, first, then string, cols flow.Columns, fn func([]flow.Flow) error) error {
	all := cols&^flow.Failures != 0
	columns := selected
	if all {
		columns += selectedRest
	}
	var r row
	targets := r.targets(all)
	batch := make([]flow.Flow, 0, batchRows)
	text := "SELECT " + columns + " FROM $db.flows PREWHERE " + first + " WHERE " + then
	err := s.each(ctx, "read flows", text, func(rows driver.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if batch = append(batch, r.flow(all)); len(batch) < batchRows {
			return nil
		}
		err := fn(batch)
		batch = batch[:0]
		return err
	})
	if err != nil || len(batch) == 0 {
		return err
	}
	return fn(batch)
}

// within is the condition that a flow starts in a window. The first two parts
// follow from the others; they let the server pass over partitions, and over
// parts of them.
func within(w flow.Window) string {
	c := fmt.Sprintf("day >= %d AND intDiv(start_time, toInt64(%d)) >= %d AND start_time >= %d", dayOf(w.From), int64(bucket), int64(w.From)/bucket, int64(w.From))
	if w.To != 0 {
		c += fmt.Sprintf(" AND day <= %d AND intDiv(start_time, toInt64(%d)) <= %d AND start_time < %d", dayOf(w.To), int64(bucket), int64(w.To)/bucket, int64(w.To))
	}
	return c
}
