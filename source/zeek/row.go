package zeek

import (
	"time"

	"dragnet/flow"
)

// row holds one line's values by column, as they stand in the line; nil means
// that the line does not have the column or leaves it unset.
type row [numColumns][]byte

// flow converts r into f, which it overwrites. It returns the column that
// could not be read, or noColumn.
func (r *row) flow(f *flow.Flow, cols flow.Columns, histories *interner) column {
	*f = flow.Flow{}
	var ok bool
	if f.Start, ok = parseTime(r[colTime]); !ok {
		return colTime
	}
	if f.Orig, ok = parseAddr(r[colOrigAddr]); !ok {
		return colOrigAddr
	}
	if f.OrigPort, ok = parsePort(r[colOrigPort]); !ok {
		return colOrigPort
	}
	if f.Resp, ok = parseAddr(r[colRespAddr]); !ok {
		return colRespAddr
	}
	if f.RespPort, ok = parsePort(r[colRespPort]); !ok {
		return colRespPort
	}
	if bad := r.proto(f); bad != noColumn {
		return bad
	}
	if v := r[colState]; v != nil {
		if f.State, ok = flow.ParseState(v); !ok {
			return colState
		}
	}
	if cols == 0 {
		return noColumn
	}
	return r.optional(f, cols, histories)
}

// proto sets the protocol from the columns proto and ip_proto.
func (r *row) proto(f *flow.Flow) column {
	switch v := r[colProto]; string(v) {
	case "tcp":
		f.Proto = flow.TCP
	case "udp":
		f.Proto = flow.UDP
	case "icmp":
		f.Proto = flow.ICMP
		if f.Orig.Is6() {
			f.Proto = flow.ICMPv6
		}
	case "unknown_transport":
		if r[colIPProto] != nil {
			return r.ipProto(f)
		}
	default:
		if v == nil && r[colIPProto] != nil {
			return r.ipProto(f)
		}
		p, err := flow.ParseProto(string(v))
		if err != nil {
			return colProto
		}
		f.Proto = p
	}
	return noColumn
}

func (r *row) ipProto(f *flow.Flow) column {
	n, ok := parseCount(r[colIPProto])
	if !ok || n > 255 {
		return colIPProto
	}
	f.Proto = flow.Proto(n)
	return noColumn
}

// optional fills the groups of cols. A group is known if the line sets all of
// it, except that missed_bytes may be absent.
func (r *row) optional(f *flow.Flow, cols flow.Columns, histories *interner) column {
	if v := r[colDuration]; v != nil && cols.Has(flow.Lasting) {
		nanos, ok := parseSeconds(v)
		if !ok {
			return colDuration
		}
		f.Duration = time.Duration(nanos)
		f.Known |= flow.Lasting
	}
	if cols.Has(flow.Counts) {
		known, bad := r.counts(
			counter{colOrigPkts, &f.OrigPkts}, counter{colOrigIPBytes, &f.OrigIPBytes},
			counter{colRespPkts, &f.RespPkts}, counter{colRespIPBytes, &f.RespIPBytes})
		if bad != noColumn {
			return bad
		}
		if known {
			f.Known |= flow.Counts
		}
	}
	if cols.Has(flow.Payload) {
		_, bad := r.counts(counter{colMissedBytes, &f.MissedBytes})
		if bad != noColumn {
			return bad
		}
		known, bad := r.counts(counter{colOrigBytes, &f.OrigBytes}, counter{colRespBytes, &f.RespBytes})
		if bad != noColumn {
			return bad
		}
		if known {
			f.Known |= flow.Payload
		}
	}
	if v := r[colHistory]; v != nil && cols.Has(flow.History) {
		f.History = histories.text(v)
		f.Known |= flow.History
	}
	return noColumn
}

type counter struct {
	col  column
	into *uint64
}

// counts reads several counters; known means that all of them are set.
func (r *row) counts(counters ...counter) (known bool, bad column) {
	known = true
	for _, c := range counters {
		v := r[c.col]
		if v == nil {
			known = false
			continue
		}
		var ok bool
		if *c.into, ok = parseCount(v); !ok {
			return false, c.col
		}
	}
	return known, noColumn
}

// interner keeps one copy of each of the texts that recur in a log.
type interner struct {
	known map[string]string
}

// Real logs hold a few hundred histories; a hostile one may hold a new one in
// each line, which then lives only as long as its flow.
const (
	maxInterned       = 4096
	maxInternedLength = 64
)

func (in *interner) text(b []byte) string {
	if s, ok := in.known[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(in.known) < maxInterned && len(s) <= maxInternedLength {
		if in.known == nil {
			in.known = make(map[string]string)
		}
		in.known[s] = s
	}
	return s
}
