// Package protobuf is the form of a flow as a Protocol Buffers message, for topics
// that other programs read and write too. The schema is flow.proto.
//
// It is written and read without the library's generated code, since each flow
// passes through here and what is read comes from outside: every length and
// number is checked, and fields that are not known are passed over.
package protobuf

import (
	"errors"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"dragnet/flow"
	"dragnet/internal/protofields"
)

// The numbers of fields, as flow.proto has them.
const (
	startTime protowire.Number = 1 + iota
	duration
	srcAddr
	dstAddr
	srcPort
	dstPort
	proto
	connState
	pktsOrig
	pktsResp
	bytesOrig
	bytesResp
	payloadOrig
	payloadResp
	missedBytes
	flagsOrig
	flagsResp
	isnOrig
	isnResp
	icmpError
	history
	samplingRate
	domainID
	exporterAddr
)

// maxHistory bounds the history of a flow, in bytes.
const maxHistory = 1 << 10

// Append appends the message of a flow to b.
func Append(b []byte, f *flow.Flow) []byte {
	b = appendNumber(b, startTime, uint64(f.Start))
	b = appendAddr(b, srcAddr, f.Orig)
	b = appendAddr(b, dstAddr, f.Resp)
	b = appendNumber(b, srcPort, uint64(f.OrigPort))
	b = appendNumber(b, dstPort, uint64(f.RespPort))
	b = appendNumber(b, proto, uint64(f.Proto))
	if f.State != flow.StateUnknown {
		b = appendText(b, connState, f.State.String())
	}
	for i := range numbers {
		if n := &numbers[i]; f.Known.Has(n.known) {
			b = appendNumber(b, n.number, n.get(f))
		}
	}
	if f.Known.Has(flow.History) {
		b = appendText(b, history, f.History[:min(len(f.History), maxHistory)])
	}
	if f.Sampling > 0 {
		b = appendNumber(b, samplingRate, uint64(f.Sampling))
	}
	b = appendNumber(b, domainID, uint64(f.Domain))
	if f.Exporter.IsValid() {
		b = appendAddr(b, exporterAddr, f.Exporter)
	}
	return b
}

// numbers are the fields whose presence says that a group of columns is known;
// most is what they may hold.
var numbers = []struct {
	number protowire.Number
	known  flow.Columns
	most   uint64
	get    func(*flow.Flow) uint64
	set    func(*flow.Flow, uint64)
}{
	{duration, flow.Lasting, longest, func(f *flow.Flow) uint64 { return uint64(f.Duration) }, func(f *flow.Flow, n uint64) { f.Duration = time.Duration(n) }},
	{pktsOrig, flow.Counts, any64, func(f *flow.Flow) uint64 { return f.OrigPkts }, func(f *flow.Flow, n uint64) { f.OrigPkts = n }},
	{pktsResp, flow.Counts, any64, func(f *flow.Flow) uint64 { return f.RespPkts }, func(f *flow.Flow, n uint64) { f.RespPkts = n }},
	{bytesOrig, flow.Counts, any64, func(f *flow.Flow) uint64 { return f.OrigIPBytes }, func(f *flow.Flow, n uint64) { f.OrigIPBytes = n }},
	{bytesResp, flow.Counts, any64, func(f *flow.Flow) uint64 { return f.RespIPBytes }, func(f *flow.Flow, n uint64) { f.RespIPBytes = n }},
	{payloadOrig, flow.Payload, any64, func(f *flow.Flow) uint64 { return f.OrigBytes }, func(f *flow.Flow, n uint64) { f.OrigBytes = n }},
	{payloadResp, flow.Payload, any64, func(f *flow.Flow) uint64 { return f.RespBytes }, func(f *flow.Flow, n uint64) { f.RespBytes = n }},
	{missedBytes, flow.Payload, any64, func(f *flow.Flow) uint64 { return f.MissedBytes }, func(f *flow.Flow, n uint64) { f.MissedBytes = n }},
	{flagsOrig, flow.Flags, 0xff, func(f *flow.Flow) uint64 { return uint64(f.OrigFlags) }, func(f *flow.Flow, n uint64) { f.OrigFlags = flow.TCPFlags(n) }},
	{flagsResp, flow.Flags, 0xff, func(f *flow.Flow) uint64 { return uint64(f.RespFlags) }, func(f *flow.Flow, n uint64) { f.RespFlags = flow.TCPFlags(n) }},
	{isnOrig, flow.ISNs, any32, func(f *flow.Flow) uint64 { return uint64(f.OrigISN) }, func(f *flow.Flow, n uint64) { f.OrigISN = uint32(n) }},
	{isnResp, flow.ISNs, any32, func(f *flow.Flow) uint64 { return uint64(f.RespISN) }, func(f *flow.Flow, n uint64) { f.RespISN = uint32(n) }},
	{icmpError, flow.Failures, 0xffff, func(f *flow.Flow) uint64 { return uint64(f.ICMPError) }, func(f *flow.Flow, n uint64) { f.ICMPError = uint16(n) }},
}

const (
	any32 = 1<<32 - 1
	any64 = 1<<64 - 1
	// latest bounds times, in nanoseconds since 1970: the year 2242; longest
	// bounds durations.
	latest  = 1 << 33 * 1e9
	longest = latest
)

func appendNumber(b []byte, number protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), n)
}

func appendText(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func appendAddr(b []byte, number protowire.Number, a netip.Addr) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	if a.Is4() {
		raw := a.As4()
		return protowire.AppendBytes(b, raw[:])
	}
	raw := a.As16()
	return protowire.AppendBytes(b, raw[:])
}

// Reasons why a message is not a flow. They are bare, so that a flood of bad
// messages costs no memory.
var (
	ErrTruncated = protofields.ErrTruncated
	ErrNumber    = errors.New("a number is beyond what its field holds")
	ErrAddress   = errors.New("an address is missing, or has neither 4 nor 16 bytes")
	ErrTime      = errors.New("impossible time")
	ErrText      = errors.New("a text is too long, unknown or not printable")
)

// Parse reads a message into f. It keeps nothing of b.
func Parse(b []byte, f *flow.Flow) error {
	*f = flow.Flow{}
	err := protofields.Each(b,
		func(number protowire.Number, v uint64) error { return setNumber(f, number, v) },
		func(number protowire.Number, v []byte) error { return setBytes(f, number, v) })
	if err != nil {
		return err
	}
	switch {
	case !f.Orig.IsValid() || !f.Resp.IsValid():
		return ErrAddress
	case f.Start < 0 || f.Start > latest:
		return ErrTime
	}
	return nil
}

// setNumber sets a field that holds a number; one that is not known is passed over.
func setNumber(f *flow.Flow, number protowire.Number, v uint64) error {
	switch number {
	case startTime:
		f.Start = flow.Time(v)
		return nil
	case srcPort:
		f.OrigPort = uint16(v)
		return within(v, 0xffff)
	case dstPort:
		f.RespPort = uint16(v)
		return within(v, 0xffff)
	case proto:
		f.Proto = flow.Proto(v)
		return within(v, 0xff)
	case samplingRate:
		f.Sampling = uint32(v)
		return within(v, any32)
	case domainID:
		f.Domain = uint32(v)
		return within(v, any32)
	}
	for i := range numbers {
		if n := &numbers[i]; n.number == number {
			f.Known |= n.known
			n.set(f, v)
			return within(v, n.most)
		}
	}
	return nil
}

func within(v, most uint64) error {
	if v > most {
		return ErrNumber
	}
	return nil
}

func setBytes(f *flow.Flow, number protowire.Number, v []byte) error {
	ok := true
	switch number {
	case srcAddr:
		f.Orig, ok = protofields.Address(v)
	case dstAddr:
		f.Resp, ok = protofields.Address(v)
	case exporterAddr:
		f.Exporter, ok = protofields.Address(v)
	case connState:
		if f.State, ok = flow.ParseState(v); !ok {
			return ErrText
		}
	case history:
		if !printable(v) {
			return ErrText
		}
		f.History = string(v)
		f.Known |= flow.History
	}
	if !ok {
		return ErrAddress
	}
	return nil
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(b) <= maxHistory
}
