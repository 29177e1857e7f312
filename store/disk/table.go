package disk

import (
	"encoding/binary"
	"net/netip"
	"time"

	"dragnet/flow"
)

// Rows of a block, the unit that is compressed and fetched, and of a segment.
const (
	blockRows   = 1024
	segmentRows = 256 * blockRows
)

// The columns by width. An address is 128 bits as hi (64), mid (32) and low
// (32); an IPv4 address is its low part, so that a log without IPv6 uses no
// space for the rest.
const (
	origHi = iota
	respHi
	duration // nanoseconds
	origBytes
	respBytes
	origPkts
	respPkts
	origIPBytes
	respIPBytes
	missedBytes
	exporterHi
	exporterLow
	wide64
)

const (
	origLow = iota
	respLow
	origMid
	respMid
	sampling
	domain
	origISN
	respISN
	history // index into the segment's dictionary
	wide32
)

const (
	origPort = iota
	respPort
	icmpError
	known
	wide16
)

const (
	proto = iota
	state
	families
	origFlags
	respFlags
	wide8
)

// Bits of the column families.
const (
	origIs6 = 1 << iota
	respIs6
	exporterIs4
	exporterIs6
)

// table is flows as columns, of which the first n values count. A column not
// read is nil.
type table struct {
	n     int
	start []int64 // flow.Time
	u64   [wide64][]uint64
	u32   [wide32][]uint32
	u16   [wide16][]uint16
	u8    [wide8][]uint8
	// histories is the dictionary; entry 0 is "".
	histories []string
	number    map[string]uint32
}

// rowBytes is the memory of a row of a table, without histories.
const rowBytes = 8 + 8*wide64 + 4*wide32 + 2*wide16 + wide8

// newTable returns a table for up to rows flows.
func newTable(rows int) *table {
	t := &table{start: make([]int64, rows), histories: []string{""}, number: map[string]uint32{"": 0}}
	for i := range t.u64 {
		t.u64[i] = make([]uint64, rows)
	}
	for i := range t.u32 {
		t.u32[i] = make([]uint32, rows)
	}
	for i := range t.u16 {
		t.u16[i] = make([]uint16, rows)
	}
	for i := range t.u8 {
		t.u8[i] = make([]uint8, rows)
	}
	return t
}

// rowsLeft is the number of flows that still fit.
func (t *table) rowsLeft() int { return len(t.start) - t.n }

// reset empties t and keeps its memory.
func (t *table) reset() {
	t.n = 0
	t.histories = t.histories[:1]
	clear(t.number)
	t.number[""] = 0
}

// addFlows appends flows, which must fit.
func (t *table) addFlows(flows []flow.Flow) {
	for i := range flows {
		f, n := &flows[i], t.n
		t.start[n] = int64(f.Start)
		t.u64[duration][n] = uint64(f.Duration)
		t.u64[origBytes][n], t.u64[respBytes][n] = f.OrigBytes, f.RespBytes
		t.u64[origPkts][n], t.u64[respPkts][n] = f.OrigPkts, f.RespPkts
		t.u64[origIPBytes][n], t.u64[respIPBytes][n] = f.OrigIPBytes, f.RespIPBytes
		t.u64[missedBytes][n] = f.MissedBytes
		t.u32[sampling][n], t.u32[domain][n] = f.Sampling, f.Domain
		t.u32[origISN][n], t.u32[respISN][n] = f.OrigISN, f.RespISN
		t.u32[history][n] = t.historyNumber(f.History)
		t.u16[origPort][n], t.u16[respPort][n] = f.OrigPort, f.RespPort
		t.u16[icmpError][n], t.u16[known][n] = f.ICMPError, uint16(f.Known)
		t.u8[proto][n], t.u8[state][n] = uint8(f.Proto), uint8(f.State)
		t.u8[origFlags][n], t.u8[respFlags][n] = uint8(f.OrigFlags), uint8(f.RespFlags)
		t.addAddresses(f)
		t.n++
	}
}

func (t *table) addAddresses(f *flow.Flow) {
	n := t.n
	var kinds uint8
	if f.Orig.Is6() {
		kinds |= origIs6
	}
	if f.Resp.Is6() {
		kinds |= respIs6
	}
	t.u64[origHi][n], t.u32[origMid][n], t.u32[origLow][n] = splitAddr(f.Orig)
	t.u64[respHi][n], t.u32[respMid][n], t.u32[respLow][n] = splitAddr(f.Resp)
	t.u64[exporterHi][n], t.u64[exporterLow][n] = 0, 0
	if f.Exporter.IsValid() {
		hi, mid, low := splitAddr(f.Exporter)
		t.u64[exporterHi][n], t.u64[exporterLow][n] = hi, uint64(mid)<<32|uint64(low)
		kinds |= exporterIs4
		if f.Exporter.Is6() {
			kinds ^= exporterIs4 | exporterIs6
		}
	}
	t.u8[families][n] = kinds
}

func splitAddr(a netip.Addr) (hi uint64, mid, low uint32) {
	switch {
	case a.Is4():
		b := a.As4()
		return 0, 0, binary.BigEndian.Uint32(b[:])
	case a.Is6():
		b := a.As16()
		return binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	}
	return 0, 0, 0
}

func joinAddr(hi uint64, mid, low uint32, is6 bool) netip.Addr {
	if !is6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], low)
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hi)
	binary.BigEndian.PutUint32(b[8:], mid)
	binary.BigEndian.PutUint32(b[12:], low)
	return netip.AddrFrom16(b)
}

// Bounds of a segment's dictionary. Zeek's histories are short and few; in a
// hostile log those beyond are stored as empty.
const (
	maxHistory       = 1 << 16
	maxHistoryLength = 255
)

func (t *table) historyNumber(h string) uint32 {
	n, seen := t.number[h]
	if !seen && len(t.histories) < maxHistory && len(h) <= maxHistoryLength {
		n = uint32(len(t.histories))
		t.histories = append(t.histories, h)
		t.number[h] = n
	}
	return n
}

// toFlow converts row i to a Flow, with the columns that were read.
func (t *table) toFlow(i int, f *flow.Flow) {
	kinds := t.u8[families][i]
	*f = flow.Flow{
		Start: flow.Time(t.start[i]),
		Orig:  joinAddr(t.u64[origHi][i], t.u32[origMid][i], t.u32[origLow][i], kinds&origIs6 != 0),
		Resp:  joinAddr(t.u64[respHi][i], t.u32[respMid][i], t.u32[respLow][i], kinds&respIs6 != 0), OrigPort: t.u16[origPort][i], RespPort: t.u16[respPort][i],
		Proto: flow.Proto(t.u8[proto][i]), State: flow.State(t.u8[state][i]),
		ICMPError: t.u16[icmpError][i], Known: flow.Columns(t.u16[known][i]), Sampling: t.u32[sampling][i],
	}
	if t.u64[duration] == nil {
		f.Known &= flow.Failures
		return
	}
	f.Duration = time.Duration(t.u64[duration][i])
	f.OrigFlags, f.RespFlags = flow.TCPFlags(t.u8[origFlags][i]), flow.TCPFlags(t.u8[respFlags][i])
	f.Domain, f.OrigISN, f.RespISN = t.u32[domain][i], t.u32[origISN][i], t.u32[respISN][i]
	f.History = t.histories[t.u32[history][i]]
	f.OrigBytes, f.RespBytes = t.u64[origBytes][i], t.u64[respBytes][i]
	f.OrigPkts, f.RespPkts = t.u64[origPkts][i], t.u64[respPkts][i]
	f.OrigIPBytes, f.RespIPBytes = t.u64[origIPBytes][i], t.u64[respIPBytes][i]
	f.MissedBytes = t.u64[missedBytes][i]
	if kinds&(exporterIs4|exporterIs6) != 0 {
		low := t.u64[exporterLow][i]
		f.Exporter = joinAddr(t.u64[exporterHi][i], uint32(low>>32), uint32(low), kinds&exporterIs6 != 0)
	}
}
