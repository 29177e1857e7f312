package clickhouse

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/flow"
)

// batchRows is the number of flows per call of fn.
const batchRows = 1024

// Scan calls fn with the flows that start in w, in batches that are valid only
// during the call and in no particular order. Of the optional columns those in
// cols are filled; see flow.Columns. The coverage counts everything stored.
func (s *Store) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	v, err := s.readView(ctx)
	if err != nil {
		return flow.Coverage{}, err
	}
	return v.Coverage, s.readFlows(ctx, "1", v.visible+" AND "+windowCondition(w), cols, fn)
}

// ScanFrom is Scan of the flows that one of sources originated.
func (s *Store) ScanFrom(ctx context.Context, sources []netip.Addr, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	v, err := s.readView(ctx)
	if err != nil || len(sources) == 0 {
		return v.Coverage, err
	}
	pairs := make([]string, len(sources))
	for i, a := range sources {
		hi, lo := splitAddr(a)
		pairs[i] = fmt.Sprintf("(%d, %d)", hi, lo)
	}
	return v.Coverage, s.readFlows(ctx, "(src_hi, src_lo) IN ("+strings.Join(pairs, ", ")+")", v.visible+" AND "+windowCondition(w), cols, fn)
}

// readFlows calls fn with the flows that match two conditions, of which the
// server tests the first before it reads other columns.
func (s *Store) readFlows(ctx context.Context, first, then string, cols flow.Columns, fn func([]flow.Flow) error) error {
	all := cols&^flow.Failures != 0
	columns := selected
	if all {
		columns += selectedRest
	}
	var r row
	targets := r.scanTargets(all)
	batch := make([]flow.Flow, 0, batchRows)
	text := "SELECT " + columns + " FROM $db.flows PREWHERE " + first + " WHERE " + then
	err := s.eachRow(ctx, "read flows", text, func(rows driver.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if batch = append(batch, r.toFlow(all)); len(batch) < batchRows {
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

// windowCondition is the condition that a flow starts in a window. The first
// two parts follow from the others; they let the server skip partitions, and
// parts of them.
func windowCondition(w flow.Window) string {
	c := fmt.Sprintf("day >= %d AND intDiv(start_time, toInt64(%d)) >= %d AND start_time >= %d", dayOf(w.From), int64(bucket), int64(w.From)/bucket, int64(w.From))
	if w.To != 0 {
		c += fmt.Sprintf(" AND day <= %d AND intDiv(start_time, toInt64(%d)) <= %d AND start_time < %d", dayOf(w.To), int64(bucket), int64(w.To)/bucket, int64(w.To))
	}
	return c
}
