package dossier

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"

	"dragnet/flow"
)

// Statement is the content of a sealed answer: the paper's (C_1, X_1, X_2,
// ...), each X with when and how it matched.
type Statement struct {
	// First is the first component of each clue's tuple, in clue order: who
	// opened the answer compares it with its own.
	First [][]byte
	Hosts []StatedHost
}

// StatedHost is one X.
type StatedHost struct {
	Addr netip.Addr
	// Clues follow the leaves of the branch, or are the one clue asked.
	Clues []StatedClue
}

// StatedClue is how one host matched one clue.
type StatedClue struct {
	// Flows counts the host's flows that match the clue.
	Flows uint64
	// First and Last are the earliest and latest start of those flows.
	First, Last flow.Time
	// Events are single flows: the one that the join used, or, if the detective
	// joins, all of them in order of time.
	Events []FlowEvent
}

// FlowEvent is the start and outcome of one flow.
type FlowEvent struct {
	Time  flow.Time
	State flow.State
}

// Compare orders events by time, then state.
func (e FlowEvent) Compare(o FlowEvent) int {
	return cmp.Or(cmp.Compare(e.Time, o.Time), cmp.Compare(e.State, o.State))
}

// Times are the events' times, in the same order.
func Times(events []FlowEvent) []flow.Time {
	out := make([]flow.Time, len(events))
	for i, e := range events {
		out[i] = e.Time
	}
	return out
}

var errStatement = errors.New("statement: truncated or malformed")

// MarshalBinary packs s: variable-length numbers, times as differences.
func (s *Statement) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(nil, uint64(len(s.First)))
	for _, f := range s.First {
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Hosts)))
	for i := range s.Hosts {
		b = s.Hosts[i].appendTo(b)
	}
	return b, nil
}

func (h *StatedHost) appendTo(b []byte) []byte {
	addr := h.Addr.AsSlice()
	b = append(b, byte(len(addr)))
	b = append(b, addr...)
	b = append(b, byte(len(h.Clues)))
	for _, c := range h.Clues {
		b = binary.AppendUvarint(b, c.Flows)
		b = binary.AppendVarint(b, int64(c.First))
		b = binary.AppendVarint(b, int64(c.Last-c.First))
		b = binary.AppendUvarint(b, uint64(len(c.Events)))
		prev := c.First
		for _, e := range c.Events {
			b = binary.AppendVarint(b, int64(e.Time-prev))
			b = append(b, byte(e.State))
			prev = e.Time
		}
	}
	return b
}

// UnmarshalBinary reads what MarshalBinary wrote; bytes after it are padding
// and ignored.
func (s *Statement) UnmarshalBinary(data []byte) error {
	d := decoder{rest: data}
	*s = Statement{First: make([][]byte, d.readCount(1))}
	for i := range s.First {
		s.First[i] = d.readBytes(d.readCount(1))
	}
	// The smallest host is an address of 4 bytes, its length and a clue count.
	s.Hosts = make([]StatedHost, d.readCount(6))
	for i := range s.Hosts {
		s.Hosts[i] = d.readHost()
	}
	if d.bad {
		return errStatement
	}
	return nil
}

// decoder reads numbers and keeps the first failure.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) readHost() (h StatedHost) {
	addr, ok := netip.AddrFromSlice(d.readBytes(int(d.readByte())))
	if !ok {
		d.bad = true
	}
	h.Addr = addr
	const smallestClue = 4
	n := int(d.readByte())
	if n*smallestClue > len(d.rest) {
		d.bad = true
	}
	if d.bad {
		return h
	}
	h.Clues = make([]StatedClue, n)
	for i := range h.Clues {
		c := &h.Clues[i]
		c.Flows = d.readUvarint()
		c.First = flow.Time(d.readVarint())
		c.Last = c.First + flow.Time(d.readVarint())
		c.Events = make([]FlowEvent, d.readCount(2))
		prev := c.First
		for j := range c.Events {
			prev += flow.Time(d.readVarint())
			c.Events[j] = FlowEvent{Time: prev, State: flow.State(d.readByte())}
		}
	}
	return h
}

func (d *decoder) readUvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	return v * d.skipRead(n)
}

func (d *decoder) readVarint() int64 {
	v, n := binary.Varint(d.rest)
	return v * int64(d.skipRead(n))
}

// skipRead advances by n and returns 1, or 0 after a failure so that the value
// read is dropped.
func (d *decoder) skipRead(n int) uint64 {
	if n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return 1
}

func (d *decoder) readByte() byte {
	if b := d.readBytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) readBytes(n int) []byte {
	if d.bad || n < 0 || n > len(d.rest) {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// readCount reads the length of a list whose items take at least size bytes
// each, so that a forged length cannot cause a large allocation.
func (d *decoder) readCount(size int) int {
	n := d.readUvarint()
	if n > uint64(len(d.rest)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}
