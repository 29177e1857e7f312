//go:build linux

package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dragnet/flow"
)

// What a sensor sends on the agents' channel.
const (
	BatchKind   = "sensor.flows"
	BatchFormat = 1
)

// Counts are what a sensor saw since its last batch.
type Counts struct {
	// Packets were read; Dropped were not, because the ring of the kernel was
	// full.
	Packets, Dropped uint64
	// Skipped packets are IP but could not be used: damaged, with a wrong
	// checksum, or fragments of datagrams that did not become whole.
	Skipped uint64
	// Early flows were reported for lack of room, Lost ones not at all.
	Early, Lost uint64
}

// Add adds other counts.
func (c *Counts) Add(o Counts) {
	c.Packets += o.Packets
	c.Dropped += o.Dropped
	c.Skipped += o.Skipped
	c.Early += o.Early
	c.Lost += o.Lost
}

// Batch are flows that ended, in the order in which they did.
type Batch struct {
	Counts Counts
	Flows  []flow.Flow
}

// maxFlow is the most that one flow takes, in bytes; maxHistory bounds the
// history of one.
const (
	maxHistory = 64
	maxFlow    = 16*binary.MaxVarintLen64 + 2*17 + maxHistory
)

// Encode returns the body of an item: five counts, the number of flows, and for
// each its fields as varints, an address as its length and bytes.
func (b *Batch) Encode() []byte {
	out := make([]byte, 0, 64+100*len(b.Flows))
	for _, n := range []uint64{b.Counts.Packets, b.Counts.Dropped, b.Counts.Skipped, b.Counts.Early, b.Counts.Lost, uint64(len(b.Flows))} {
		out = binary.AppendUvarint(out, n)
	}
	for i := range b.Flows {
		out = appendFlow(out, &b.Flows[i])
	}
	return out
}

func appendFlow(b []byte, f *flow.Flow) []byte {
	b = binary.AppendVarint(b, int64(f.Start))
	b = binary.AppendVarint(b, int64(f.Duration))
	for _, a := range []netip.Addr{f.Orig, f.Resp} {
		raw := a.AsSlice()
		b = append(append(b, byte(len(raw))), raw...)
	}
	for _, n := range []uint64{
		uint64(f.OrigPort), uint64(f.RespPort), uint64(f.Proto), uint64(f.State), uint64(f.OrigFlags), uint64(f.RespFlags), uint64(f.ICMPError), uint64(f.Known),
		uint64(f.OrigISN), uint64(f.RespISN), f.OrigBytes, f.RespBytes, f.OrigPkts, f.RespPkts, f.OrigIPBytes, f.RespIPBytes, f.MissedBytes,
	} {
		b = binary.AppendUvarint(b, n)
	}
	h := f.History[:min(len(f.History), maxHistory)]
	return append(append(b, byte(len(h))), h...)
}

var errShort = errors.New("the batch ends within a flow")

// Decode reads what Encode returns, as a hostile sensor may send it.
func Decode(b []byte) (*Batch, error) {
	r := &reader{b: b}
	var out Batch
	for _, n := range []*uint64{&out.Counts.Packets, &out.Counts.Dropped, &out.Counts.Skipped, &out.Counts.Early, &out.Counts.Lost} {
		*n = r.number(1<<63 - 1)
	}
	count := r.number(1 << 32)
	const leastFlow = 2 + 2*5 + 17 + 1 // bytes
	if r.bad || count > uint64(len(r.b)/leastFlow) {
		return nil, errShort
	}
	out.Flows = make([]flow.Flow, count)
	for i := range out.Flows {
		if err := r.flow(&out.Flows[i]); err != nil {
			return nil, fmt.Errorf("flow %d: %w", i+1, err)
		}
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last flow", len(r.b))
	}
	return &out, nil
}

// reader takes values; beyond the end, and beyond what is allowed, it is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

// bytes takes a length of one byte and as many bytes.
func (r *reader) bytes(most int) []byte {
	if len(r.b) < 1 || int(r.b[0]) > min(most, len(r.b)-1) {
		r.bad = true
		return nil
	}
	n := int(r.b[0])
	b := r.b[1 : 1+n]
	r.b = r.b[1+n:]
	return b
}

func (r *reader) flow(f *flow.Flow) error {
	const latest = 1 << 33 * 1e9 // nanoseconds, in the year 2242
	f.Start, f.Duration = flow.Time(r.signed()), time.Duration(r.signed())
	orig, ok1 := netip.AddrFromSlice(r.bytes(16))
	resp, ok2 := netip.AddrFromSlice(r.bytes(16))
	f.Orig, f.Resp = orig.Unmap(), resp.Unmap()
	f.OrigPort, f.RespPort = uint16(r.number(1<<16-1)), uint16(r.number(1<<16-1))
	f.Proto, f.State = flow.Proto(r.number(1<<8-1)), flow.State(r.number(uint64(flow.OTH)))
	f.OrigFlags, f.RespFlags = flow.TCPFlags(r.number(1<<8-1)), flow.TCPFlags(r.number(1<<8-1))
	f.ICMPError, f.Known = uint16(r.number(1<<16-1)), flow.Columns(r.number(uint64(flow.AllColumns)))
	f.OrigISN, f.RespISN = uint32(r.number(1<<32-1)), uint32(r.number(1<<32-1))
	for _, n := range []*uint64{&f.OrigBytes, &f.RespBytes, &f.OrigPkts, &f.RespPkts, &f.OrigIPBytes, &f.RespIPBytes, &f.MissedBytes} {
		*n = r.number(1<<64 - 1)
	}
	f.History = string(r.bytes(maxHistory))
	f.Sampling = 1
	switch {
	case r.bad:
		return errShort
	case !ok1 || !ok2:
		return errors.New("an address has neither 4 nor 16 bytes")
	case f.Start < 0 || f.Start > latest || f.Duration < 0 || int64(f.Duration) > int64(latest):
		return errors.New("impossible time")
	}
	for _, c := range []byte(f.History) {
		if c < ' ' || c > '~' {
			return errors.New("the history holds other characters than letters")
		}
	}
	return nil
}
