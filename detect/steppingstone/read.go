package steppingstone

import (
	"cmp"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// maxEvents bounds the events of one direction of a connection.
const maxEvents = 1 << 14

// maxTotal bounds the events of all connections: 64 MiB.
const maxTotal = 1 << 22

// together is within what time packets are one event.
const together = flow.Time(time.Millisecond)

// Table collects connections from packets.
type Table struct {
	// Packets counts packets of TCP between inside and outside, Other the rest.
	Packets, Other uint64
	// Forgotten counts connections that were dropped for want of room, Cut those
	// of which only the beginning is kept.
	Forgotten, Cut uint64

	config Configuration
	open   map[[2]netip.AddrPort]*Connection // by inside and outside
	cut    map[*Connection]bool
	total  int // events
}

// NewTable makes an empty table.
func NewTable(c Configuration) *Table {
	return &Table{config: c, open: map[[2]netip.AddrPort]*Connection{}, cut: map[*Connection]bool{}}
}

// Read adds the packets of a capture. Damage ends it, as an error; what was
// read until then counts.
func (t *Table) Read(r *capture.Reader) error {
	var p packet.Packet
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if skip := (*capture.SkipError)(nil); errors.As(err, &skip) {
			t.Other++
			continue
		}
		if err != nil {
			return err
		}
		if p.Decode(rec.Link, rec.Data, rec.Wire) != nil || p.Proto != flow.TCP || !p.Decoded {
			t.Other++
			continue
		}
		t.add(rec.Time, &p)
	}
}

const (
	arriving = iota
	leaving
)

func (t *Table) add(at flow.Time, p *packet.Packet) {
	source, destination := netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)
	key, way := [2]netip.AddrPort{destination, source}, arriving
	switch in, out := flow.Within(t.config.Networks, p.Dst), flow.Within(t.config.Networks, p.Src); {
	case in == out:
		t.Other++
		return
	case out:
		key, way = [2]netip.AddrPort{source, destination}, leaving
	}
	t.Packets++
	c := t.open[key]
	if c == nil {
		if len(t.open) >= t.config.MaxConnections {
			t.forget()
		}
		// Who sends the first packet has opened it, unless that is a reply or, where
		// the capture began later, comes from a port of a service.
		opener := p.Flags&flow.ACK == 0 || p.SrcPort > p.DstPort
		c = &Connection{Inside: key[0], Outside: key[1], First: at, Inbound: opener == (way == arriving)}
		t.open[key] = c
	}
	c.Last = max(c.Last, at)
	n := p.PayloadLen
	// What was sent before is no new data.
	if end := p.Seq + uint32(n); n == 0 || c.began[way] && int32(end-c.next[way]) <= 0 {
		return
	} else {
		c.next[way], c.began[way] = end, true
	}
	list := &c.Arriving
	if way == leaving {
		list = &c.Leaving
	}
	switch last := len(*list) - 1; {
	case last >= 0 && at-(*list)[last].Time < together:
		(*list)[last].Size += n
	case last+1 >= maxEvents:
		if !t.cut[c] {
			t.cut[c] = true
			t.Cut++
		}
		return
	default:
		*list = append(*list, Event{at, n})
		if t.total++; t.total >= maxTotal {
			t.forget()
		}
	}
	c.octets += n
}

// forget drops the half of the connections with least data.
func (t *Table) forget() {
	all := t.Connections()
	slices.SortFunc(all, func(a, b *Connection) int { return cmp.Compare(a.octets, b.octets) })
	for _, c := range all[:max(len(all)/2, 1)] {
		delete(t.open, [2]netip.AddrPort{c.Inside, c.Outside})
		delete(t.cut, c)
		t.total -= len(c.Arriving) + len(c.Leaving)
		t.Forgotten++
	}
}

// Connections are those that were seen, by their first packet.
func (t *Table) Connections() []*Connection {
	var all []*Connection
	for _, c := range t.open {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Connection) int {
		return cmp.Or(cmp.Compare(a.First, b.First), a.Inside.Compare(b.Inside), a.Outside.Compare(b.Outside))
	})
	return all
}
