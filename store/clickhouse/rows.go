package clickhouse

import (
	"encoding/binary"
	"net/netip"
	"time"

	"dragnet/flow"
)

const dayLength = flow.Time(24 * time.Hour)

// dayOf is the number of the UTC day, cut to what UInt16 holds.
func dayOf(t flow.Time) uint16 { return uint16(max(0, min(t/dayLength, 1<<16-1))) }

// splitAddr makes two numbers of an address; zeros are no address.
func splitAddr(a netip.Addr) (hi, lo uint64) {
	if !a.IsValid() {
		return 0, 0
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

func joinAddr(hi, lo uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b).Unmap()
}

// flowColumns are the columns of an insert into flows, as insertFlows fills
// them.
const flowColumns = `$db.flows (day, writer, batch, start_time, duration, src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, proto, state,
tcp_flags_orig, tcp_flags_resp, icmp_error, known, sampling_rate, observation_domain_id, isn_orig, isn_resp, history,
bytes_orig, bytes_resp, pkts_orig, pkts_resp, ip_bytes_orig, ip_bytes_resp, missed_bytes, exporter_hi, exporter_lo)`

// columnOf makes a column of a field.
func columnOf[T any](flows []flow.Flow, field func(*flow.Flow) T) []T {
	out := make([]T, len(flows))
	for i := range flows {
		out[i] = field(&flows[i])
	}
	return out
}

func repeatValue[T any](value T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = value
	}
	return out
}

// addressColumns makes the two columns of an address.
func addressColumns(flows []flow.Flow, field func(*flow.Flow) netip.Addr) (hi, lo []uint64) {
	hi, lo = make([]uint64, len(flows)), make([]uint64, len(flows))
	for i := range flows {
		hi[i], lo[i] = splitAddr(field(&flows[i]))
	}
	return hi, lo
}

// makeColumns of flows, in the order of flowColumns.
func makeColumns(flows []flow.Flow, writer, batch uint64) []any {
	srcHi, srcLo := addressColumns(flows, func(f *flow.Flow) netip.Addr { return f.Orig })
	dstHi, dstLo := addressColumns(flows, func(f *flow.Flow) netip.Addr { return f.Resp })
	exporterHi, exporterLo := addressColumns(flows, func(f *flow.Flow) netip.Addr { return f.Exporter })
	return []any{
		columnOf(flows, func(f *flow.Flow) uint16 { return dayOf(f.Start) }), repeatValue(writer, len(flows)), repeatValue(batch, len(flows)),
		columnOf(flows, func(f *flow.Flow) int64 { return int64(f.Start) }), columnOf(flows, func(f *flow.Flow) int64 { return int64(f.Duration) }),
		srcHi, srcLo, dstHi, dstLo,
		columnOf(flows, func(f *flow.Flow) uint16 { return f.OrigPort }), columnOf(flows, func(f *flow.Flow) uint16 { return f.RespPort }),
		columnOf(flows, func(f *flow.Flow) uint8 { return uint8(f.Proto) }), columnOf(flows, func(f *flow.Flow) uint8 { return uint8(f.State) }),
		columnOf(flows, func(f *flow.Flow) uint8 { return uint8(f.OrigFlags) }), columnOf(flows, func(f *flow.Flow) uint8 { return uint8(f.RespFlags) }),
		columnOf(flows, func(f *flow.Flow) uint16 { return f.ICMPError }), columnOf(flows, func(f *flow.Flow) uint16 { return uint16(f.Known) }),
		columnOf(flows, func(f *flow.Flow) uint32 { return f.Sampling }), columnOf(flows, func(f *flow.Flow) uint32 { return f.Domain }),
		columnOf(flows, func(f *flow.Flow) uint32 { return f.OrigISN }), columnOf(flows, func(f *flow.Flow) uint32 { return f.RespISN }),
		columnOf(flows, func(f *flow.Flow) string { return f.History }),
		columnOf(flows, func(f *flow.Flow) uint64 { return f.OrigBytes }), columnOf(flows, func(f *flow.Flow) uint64 { return f.RespBytes }),
		columnOf(flows, func(f *flow.Flow) uint64 { return f.OrigPkts }), columnOf(flows, func(f *flow.Flow) uint64 { return f.RespPkts }),
		columnOf(flows, func(f *flow.Flow) uint64 { return f.OrigIPBytes }), columnOf(flows, func(f *flow.Flow) uint64 { return f.RespIPBytes }),
		columnOf(flows, func(f *flow.Flow) uint64 { return f.MissedBytes }), exporterHi, exporterLo,
	}
}

// selected are the columns of a row: those that every flow has, and the rest.
const (
	selected     = "start_time, src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, proto, state, icmp_error, known, sampling_rate"
	selectedRest = `, duration, tcp_flags_orig, tcp_flags_resp, observation_domain_id, isn_orig, isn_resp, history,
bytes_orig, bytes_resp, pkts_orig, pkts_resp, ip_bytes_orig, ip_bytes_resp, missed_bytes, exporter_hi, exporter_lo`
)

// row receives a selected row.
type row struct {
	start, duration                                    int64
	srcHi, srcLo, dstHi, dstLo, exporterHi, exporterLo uint64
	srcPort, dstPort, icmpError, known                 uint16
	proto, state, origFlags, respFlags                 uint8
	sampling, domain, origISN, respISN                 uint32
	history                                            string
	bytes                                              [7]uint64
}

// scanTargets are the addresses of the selected columns.
func (r *row) scanTargets(all bool) []any {
	t := []any{&r.start, &r.srcHi, &r.srcLo, &r.dstHi, &r.dstLo, &r.srcPort, &r.dstPort, &r.proto, &r.state, &r.icmpError, &r.known, &r.sampling}
	if !all {
		return t
	}
	t = append(t, &r.duration, &r.origFlags, &r.respFlags, &r.domain, &r.origISN, &r.respISN, &r.history)
	for i := range r.bytes {
		t = append(t, &r.bytes[i])
	}
	return append(t, &r.exporterHi, &r.exporterLo)
}

// toFlow makes a Flow of the columns that were read.
func (r *row) toFlow(all bool) flow.Flow {
	f := flow.Flow{
		Start: flow.Time(r.start), Orig: joinAddr(r.srcHi, r.srcLo), Resp: joinAddr(r.dstHi, r.dstLo), OrigPort: r.srcPort, RespPort: r.dstPort,
		Proto: flow.Proto(r.proto), State: flow.State(r.state), ICMPError: r.icmpError, Known: flow.Columns(r.known), Sampling: r.sampling,
	}
	if !all {
		f.Known &= flow.Failures
		return f
	}
	f.Duration = time.Duration(r.duration)
	f.OrigFlags, f.RespFlags = flow.TCPFlags(r.origFlags), flow.TCPFlags(r.respFlags)
	f.Domain, f.OrigISN, f.RespISN, f.History = r.domain, r.origISN, r.respISN, r.history
	f.OrigBytes, f.RespBytes, f.OrigPkts, f.RespPkts = r.bytes[0], r.bytes[1], r.bytes[2], r.bytes[3]
	f.OrigIPBytes, f.RespIPBytes, f.MissedBytes = r.bytes[4], r.bytes[5], r.bytes[6]
	if r.exporterHi != 0 || r.exporterLo != 0 {
		f.Exporter = joinAddr(r.exporterHi, r.exporterLo)
	}
	return f
}
