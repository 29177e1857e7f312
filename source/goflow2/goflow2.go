// Package goflow2 reads the messages that goflow2 writes to a topic: one
// direction of a conversation each, as the Protocol Buffers message FlowMessage of
// its version 2.
//
// Every length and number is checked, since what is read comes from outside;
// fields that are not needed are passed over.
package goflow2

import (
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"dragnet/flow"
	"dragnet/internal/protofields"
	"dragnet/source/biflow"
)

// Numbers of the fields of FlowMessage that are read.
const (
	exportType     protowire.Number = 1
	samplingRate   protowire.Number = 3
	srcAddr        protowire.Number = 6
	dstAddr        protowire.Number = 7
	octets         protowire.Number = 9
	packets        protowire.Number = 10
	samplerAddress protowire.Number = 11
	protocol       protowire.Number = 20
	srcPort        protowire.Number = 21
	dstPort        protowire.Number = 22
	tcpFlags       protowire.Number = 26
	icmpType       protowire.Number = 31
	icmpCode       protowire.Number = 32
	domainID       protowire.Number = 70
	received       protowire.Number = 110
	flowStart      protowire.Number = 111
	flowEnd        protowire.Number = 112
)

// sflow5 is the exportType of a packet that sFlow sampled.
const sflow5 = 1

// Reasons why a message, or the rest of it, is not a flow. They are bare, so that a
// flood of bad messages costs no memory.
var (
	ErrTruncated = protofields.ErrTruncated
	ErrNumber    = errors.New("a number is beyond what its field holds")
	ErrAddress   = errors.New("an address is missing, or has neither 4 nor 16 bytes")
	ErrTime      = errors.New("impossible time")
)

// latest bounds times, in nanoseconds since 1970: the year 2242.
const latest = 1 << 33 * 1e9

// Read hands the record of one message of a topic to emit, with the time at which
// goflow2 received it; the record is valid during the call. A FlowMessage may
// have its length before it, as goflow2 writes unless told otherwise.
func Read(b []byte, emit func(received flow.Time, r *biflow.Record)) error {
	// Without its length, a message begins with the tag of its type, which read as
	// a length is 8: too short for a flow.
	if one, n := protowire.ConsumeBytes(b); n == len(b) && n > 0 {
		b = one
	}
	var r biflow.Record
	at, err := parse(b, &r)
	if err == nil {
		emit(at, &r)
	}
	return err
}

// message is what is read of one.
type message struct {
	record                     *biflow.Record
	received, start, end       uint64
	kind, code                 uint8
	sampling, packets, octets  uint64
	tcpFlags                   uint64
	hasFlags, hasEnd, hasCount bool
}

func parse(b []byte, r *biflow.Record) (at flow.Time, err error) {
	*r = biflow.Record{}
	m := message{record: r}
	err = protofields.Each(b, func(number protowire.Number, v uint64) error {
		if !m.number(number, v) {
			return ErrNumber
		}
		return nil
	}, func(number protowire.Number, v []byte) error {
		if !m.bytes(number, v) {
			return ErrAddress
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return m.finish()
}

// number takes a field that holds a number; false means that it cannot be.
func (m *message) number(number protowire.Number, v uint64) bool {
	f := &m.record.Flow
	switch number {
	case exportType:
		m.record.Packet = v == sflow5
	case samplingRate:
		m.sampling = v
		return v <= 1<<32-1
	case octets:
		m.octets, m.hasCount = v, true
	case packets:
		m.packets, m.hasCount = v, true
	case protocol:
		f.Proto = flow.Proto(v)
		return v <= 0xff
	case srcPort:
		f.OrigPort = uint16(v)
		return v <= 0xffff
	case dstPort:
		f.RespPort = uint16(v)
		return v <= 0xffff
	case tcpFlags:
		m.tcpFlags, m.hasFlags = v, true
		return v <= 0xffff
	case icmpType:
		m.kind = uint8(v)
		return v <= 0xff
	case icmpCode:
		m.code = uint8(v)
		return v <= 0xff
	case domainID:
		f.Domain = uint32(v)
		return v <= 1<<32-1
	case received:
		m.received = v
	case flowStart:
		m.start = v
	case flowEnd:
		m.end, m.hasEnd = v, true
	}
	return true
}

func (m *message) bytes(number protowire.Number, v []byte) (ok bool) {
	f := &m.record.Flow
	ok = true
	switch number {
	case srcAddr:
		f.Orig, ok = protofields.Address(v)
	case dstAddr:
		f.Resp, ok = protofields.Address(v)
	case samplerAddress:
		f.Exporter, ok = protofields.Address(v)
	}
	return ok
}

// finish makes the record of what was taken.
func (m *message) finish() (at flow.Time, err error) {
	f := &m.record.Flow
	if m.start == 0 { // a sampled packet
		m.start = m.received
	}
	switch {
	case !f.Orig.IsValid() || !f.Resp.IsValid():
		return 0, ErrAddress
	case m.start == 0 || m.start > latest || m.end > latest || m.received > latest:
		return 0, ErrTime
	}
	f.Start, f.Sampling, f.OrigPkts, f.OrigIPBytes = flow.Time(m.start), uint32(m.sampling), m.packets, m.octets
	if m.hasCount {
		f.Known |= flow.Counts
	}
	if m.hasEnd && m.end >= m.start {
		f.Duration = time.Duration(m.end - m.start)
		f.Known |= flow.Lasting
	}
	if f.Proto == flow.TCP && m.hasFlags {
		f.OrigFlags = flow.TCPFlags(m.tcpFlags) // the low byte, as in flow.Flow
		f.Known |= flow.Flags
	}
	if f.Proto == flow.ICMP || f.Proto == flow.ICMPv6 {
		if m.kind == 0 && m.code == 0 { // of NetFlow version 5, goflow2 hands the port on
			m.kind, m.code = uint8(f.RespPort>>8), uint8(f.RespPort)
		}
		m.record.SetICMP(m.kind, m.code)
	}
	return flow.Time(m.received), nil
}
