package zeek

import (
	"hash/maphash"
	"time"

	"dragnet/flow"
)

// row has the positions in a line of the values of its columns.
type row struct {
	line []byte
	at   [numColumns]span
}

// span is where a value begins, and one more than where it ends, so that the
// zero span means that the line does not have the column or leaves it unset.
type span struct{ from, past uint32 }

func (r *row) hasColumn(c column) bool { return r.at[c].past != 0 }

// valueOf is nil when unset.
func (r *row) valueOf(c column) []byte {
	s := r.at[c]
	if s.past == 0 {
		return nil
	}
	return r.line[s.from : s.past-1]
}

// toFlow converts r into f, which it overwrites. It returns the column that
// could not be read, or noColumn.
func (r *row) toFlow(f *flow.Flow, cols flow.Columns, histories *interner) column {
	*f = flow.Flow{}
	var ok bool
	if f.Start, ok = parseTime(r.valueOf(colTime)); !ok {
		return colTime
	}
	if f.Orig, ok = parseAddr(r.valueOf(colOrigAddr)); !ok {
		return colOrigAddr
	}
	if f.OrigPort, ok = parsePort(r.valueOf(colOrigPort)); !ok {
		return colOrigPort
	}
	if f.Resp, ok = parseAddr(r.valueOf(colRespAddr)); !ok {
		return colRespAddr
	}
	if f.RespPort, ok = parsePort(r.valueOf(colRespPort)); !ok {
		return colRespPort
	}
	if bad := r.setProto(f); bad != noColumn {
		return bad
	}
	if v := r.valueOf(colState); v != nil {
		if f.State, ok = flow.ParseState(v); !ok {
			return colState
		}
	}
	if cols == 0 {
		return noColumn
	}
	return r.setOptional(f, cols, histories)
}

// setProto sets the protocol from the columns proto and ip_proto.
func (r *row) setProto(f *flow.Flow) column {
	switch v := r.valueOf(colProto); string(v) {
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
		if r.hasColumn(colIPProto) {
			return r.setIPProto(f)
		}
	default:
		if v == nil && r.hasColumn(colIPProto) {
			return r.setIPProto(f)
		}
		p, err := flow.ParseProto(string(v))
		if err != nil {
			return colProto
		}
		f.Proto = p
	}
	return noColumn
}

func (r *row) setIPProto(f *flow.Flow) column {
	n, ok := parseCount(r.valueOf(colIPProto))
	if !ok || n > 255 {
		return colIPProto
	}
	f.Proto = flow.Proto(n)
	return noColumn
}

// setOptional fills the groups of cols. A group is known if the line sets all of
// it, except that missed_bytes may be absent.
func (r *row) setOptional(f *flow.Flow, cols flow.Columns, histories *interner) column {
	if v := r.valueOf(colDuration); v != nil && cols.Has(flow.Lasting) {
		nanos, ok := parseSeconds(v)
		if !ok {
			return colDuration
		}
		f.Duration = time.Duration(nanos)
		f.Known |= flow.Lasting
	}
	if cols.Has(flow.Counts) {
		known, bad := r.readCounts(
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
		_, bad := r.readCounts(counter{colMissedBytes, &f.MissedBytes})
		if bad != noColumn {
			return bad
		}
		known, bad := r.readCounts(counter{colOrigBytes, &f.OrigBytes}, counter{colRespBytes, &f.RespBytes})
		if bad != noColumn {
			return bad
		}
		if known {
			f.Known |= flow.Payload
		}
	}
	if v := r.valueOf(colHistory); v != nil && cols.Has(flow.History) {
		f.History = histories.intern(v)
		f.Known |= flow.History
	}
	return noColumn
}

type counter struct {
	col  column
	into *uint64
}

// readCounts reads several counters; known means that all of them are set.
func (r *row) readCounts(counters ...counter) (known bool, bad column) {
	known = true
	for _, c := range counters {
		v := r.valueOf(c.col)
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

// interner keeps a copy of recent texts, so that a recurring history uses no
// additional memory. Real logs have a few hundred; in a hostile one, each line
// may have a new one, which is then only kept as long as its flow.
type interner struct {
	seed  maphash.Seed
	texts [1024]string
}

// maxInterned bounds the length of a text that is kept.
const maxInterned = 64

func (in *interner) intern(b []byte) string {
	if len(b) > maxInterned {
		return string(b)
	}
	slot := &in.texts[maphash.Bytes(in.seed, b)%uint64(len(in.texts))]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}
