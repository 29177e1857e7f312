package clickhouse

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/store"
)

// floorDivide divides a start by a span (ns) as a whole number towards minus
// infinity; SQL's division is towards zero.
func floorDivide(span time.Duration) string {
	return fmt.Sprintf("intDiv(start_time, toInt64(%d)) - (start_time < 0 AND start_time %% toInt64(%[1]d) != 0)", int64(span))
}

// groupings are the columns that make a group: two non-negative numbers each.
var groupings = map[store.Grouping][2]string{
	store.All: {"toUInt64(0)", "toUInt64(0)"}, store.BySource: {"src_hi", "src_lo"}, store.ByDestination: {"dst_hi", "dst_lo"},
	store.ByService: {"toUInt64(proto)", "toUInt64(dst_port)"}, store.ByProto: {"toUInt64(proto)", "toUInt64(0)"}, store.ByState: {"toUInt64(state)", "toUInt64(0)"},
	store.ByHour: {"toUInt64(4294967296 + " + floorDivide(time.Hour) + ")", "toUInt64(0)"},
	store.ByDay:  {"toUInt64(4294967296 + " + floorDivide(24*time.Hour) + ")", "toUInt64(0)"},
}

// bytesText is the bytes from the IP header on if the source counted them, else
// those of the payload.
var bytesText = fmt.Sprintf("if(bitAnd(known, %d) != 0, ip_bytes_orig + ip_bytes_resp, bytes_orig + bytes_resp)", flow.Counts)

// Tally counts the flows in w that match a filter by group, and calls fn once
// for each group. By source and of failed flows these are failure counts; by
// hour, a series of activity.
func (s *Store) Tally(ctx context.Context, filter *pattern.Filter, w flow.Window, by store.Grouping, fn func(store.Tally) error) (flow.Coverage, error) {
	v, err := s.readView(ctx)
	if err != nil {
		return v.Coverage, err
	}
	g, ok := groupings[by]
	if !ok {
		return v.Coverage, fmt.Errorf("unknown grouping %d", by)
	}
	text := fmt.Sprintf("SELECT %s AS g1, %s AS g2, count(), countIf(%s), countIf(%s), sum(%s), min(start_time), max(start_time) FROM $db.flows PREWHERE %s WHERE %s AND %s GROUP BY g1, g2",
		g[0], g[1], established, failed, bytesText, filterCondition(filter), v.visible, windowCondition(w))
	return v.Coverage, s.eachRow(ctx, "count flows", text, func(r driver.Rows) error {
		var a, b uint64
		var t store.Tally
		if err := r.Scan(&a, &b, &t.Flows, &t.Established, &t.Failed, &t.Bytes, (*int64)(&t.First), (*int64)(&t.Last)); err != nil {
			return err
		}
		t.Flow = exampleFlow(by, a, b, t.First)
		return fn(t)
	})
}

// exampleFlow is a flow with the group's value.
func exampleFlow(by store.Grouping, a, b uint64, start flow.Time) (f flow.Flow) {
	switch by {
	case store.BySource:
		f.Orig = joinAddr(a, b)
	case store.ByDestination:
		f.Resp = joinAddr(a, b)
	case store.ByService:
		f.Proto, f.RespPort = flow.Proto(a), uint16(b)
	case store.ByProto:
		f.Proto = flow.Proto(a)
	case store.ByState:
		f.State = flow.State(a)
	case store.ByHour, store.ByDay:
		f.Start = start
	}
	return f
}

// FailingSources lists the originators that within one span, aligned to the
// epoch, met silence or refusal at at least hosts hosts, or at ports ports of one
// host. By these bounds a source not listed is not a scanner, see detect/failures,
// unless it scans without failing: half-open, where every port is open.
func (s *Store) FailingSources(ctx context.Context, w flow.Window, span time.Duration, hosts, ports int) (sources []netip.Addr, err error) {
	v, err := s.readView(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[netip.Addr]bool{}
	for _, g := range []struct {
		group, target string
		least         int
	}{{"", "(dst_hi, dst_lo)", hosts}, {", proto, dst_hi, dst_lo", "dst_port", ports}} {
		text := fmt.Sprintf("SELECT src_hi, src_lo FROM $db.flows PREWHERE %s WHERE %s AND %s GROUP BY src_hi, src_lo, intDiv(start_time, toInt64(%d))%s HAVING uniqExact(%s) >= %d",
			failed, v.visible, windowCondition(w), int64(span), g.group, g.target, g.least)
		err := s.eachRow(ctx, "look for failing sources", text, func(r driver.Rows) error {
			var hi, lo uint64
			err := r.Scan(&hi, &lo)
			if a := joinAddr(hi, lo); !seen[a] {
				seen[a] = true
				sources = append(sources, a)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return sources, nil
}

// Activity calls fn, for every originator within one of prefixes and every step
// of w in which it was active, with the number of flows it originated: series
// for comparing hosts. A step is the number of whole steps since the epoch.
func (s *Store) Activity(ctx context.Context, prefixes []netip.Prefix, w flow.Window, step time.Duration, fn func(host netip.Addr, step int64, flows uint64) error) (flow.Coverage, error) {
	v, err := s.readView(ctx)
	if err != nil {
		return v.Coverage, err
	}
	text := fmt.Sprintf("SELECT src_hi, src_lo, toInt64(%s) AS step, count() FROM $db.flows PREWHERE %s WHERE %s AND %s GROUP BY src_hi, src_lo, step",
		floorDivide(step), filterCondition(&pattern.Filter{Src: prefixes}), v.visible, windowCondition(w))
	return v.Coverage, s.eachRow(ctx, "count activity", text, func(r driver.Rows) error {
		var hi, lo, n uint64
		var at int64
		if err := r.Scan(&hi, &lo, &at, &n); err != nil {
			return err
		}
		return fn(joinAddr(hi, lo), at, n)
	})
}

// filterCondition is the condition that a flow matches a filter.
func filterCondition(f *pattern.Filter) string {
	all := []string{inState(f.State)}
	if len(f.Src) > 0 {
		all = append(all, prefixCondition("src", f.Src))
	}
	if len(f.Dst) > 0 {
		all = append(all, prefixCondition("dst", f.Dst))
	}
	if len(f.Host) > 0 {
		all = append(all, "("+prefixCondition("src", f.Host)+" OR "+prefixCondition("dst", f.Host)+")")
	}
	all = append(all, inCondition("src_port", f.SPort), inCondition("dst_port", f.DPort), inCondition("proto", f.Proto))
	return strings.Join(all, " AND ")
}

func inCondition[T ~uint8 | ~uint16](column string, values []T) string {
	if len(values) == 0 {
		return "1"
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(uint64(v))
	}
	return column + " IN (" + strings.Join(texts, ", ") + ")"
}

// prefixCondition is the condition that an address lies in one of prefixes,
// grouped by their length so that long lists stay fast.
func prefixCondition(end string, prefixes []netip.Prefix) string {
	type length struct {
		ipv4 bool
		bits int
	}
	byLength := map[length][]string{}
	for _, p := range prefixes {
		hi, lo := splitAddr(p.Masked().Addr())
		l := length{p.Addr().Is4(), p.Bits()}
		byLength[l] = append(byLength[l], fmt.Sprintf("(%d, %d)", hi, lo))
	}
	var any []string
	for l, pairs := range byLength {
		bits, kind := l.bits, "NOT "+isIPv4(end)
		if l.ipv4 {
			bits, kind = bits+96, isIPv4(end)
		}
		high, low := ^uint64(0)<<(64-min(bits, 64)), ^uint64(0)<<(64-max(bits-64, 0))
		any = append(any, fmt.Sprintf("(%s AND (bitAnd(%s_hi, toUInt64(%d)), bitAnd(%[2]s_lo, toUInt64(%[4]d))) IN (%[5]s))", kind, end, high, low, strings.Join(pairs, ", ")))
	}
	return "(" + strings.Join(any, " OR ") + ")"
}
