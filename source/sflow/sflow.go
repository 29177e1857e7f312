// Package sflow decodes sFlow version 5 (sflow.org, "sFlow Version 5"): flow
// samples, which are sampled packets, and counter samples, which are counters
// of interfaces.
//
// A sample of a packet becomes a record of one packet, for a biflow.Joiner to
// put together; its time is when the datagram arrived, since sFlow gives none.
// Anyone who can send a UDP datagram can forge one, so every length is checked,
// and what is kept of an exporter is bounded.
package sflow

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/packet"
	"dragnet/source/biflow"
	"dragnet/source/exporters"
	"dragnet/source/gaps"
)

// Reasons why a datagram, or a part of it, yields no records. They are bare,
// so that a flood of bad datagrams costs no memory; the caller adds the
// exporter.
var (
	// ErrVersion marks datagrams of another version than 5.
	ErrVersion = errors.New("not sFlow version 5")
	// ErrTruncated marks datagrams that end inside what they announce.
	ErrTruncated = errors.New("the datagram ends inside a header, sample or record")
	// ErrAddress marks an agent whose address is neither IPv4 nor IPv6.
	ErrAddress = errors.New("the agent's address is neither IPv4 nor IPv6")
	// ErrBound marks datagrams of an exporter beyond the configured number.
	ErrBound = errors.New("more exporters than max_exporters: raise it, or name fewer prefixes")
)

// Configuration bounds what a Decoder keeps.
type Configuration struct {
	// MaxExporters bounds the exporters; one that was silent for an hour gives
	// way to another.
	MaxExporters int `yaml:"max_exporters"`
	// MaxSources bounds the sub-agents, and the data sources, of which one
	// exporter's losses are followed.
	MaxSources int `yaml:"max_sources"`
}

// DefaultConfiguration suits a large network.
func DefaultConfiguration() Configuration { return Configuration{MaxExporters: 512, MaxSources: 1024} }

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.MaxExporters >= 1, "max_exporters", "is %d; want at least 1", c.MaxExporters)
	p.Check(c.MaxSources >= 1, "max_sources", "is %d; want at least 1", c.MaxSources)
	return p.Join()
}

// Counters count what one exporter sent and what of it was lost.
type Counters struct {
	Datagrams, Bytes uint64
	// Samples are flow samples, Records those that became flow records; the
	// others carry no IP, a fragment, or a header of an unknown kind.
	Samples, Records uint64
	// CounterSamples are samples of counters.
	CounterSamples uint64
	// Skipped are samples of kinds that are not known.
	Skipped uint64
	// Malformed counts datagrams of which a part could not be used.
	Malformed uint64
	// Lost datagrams are missing in the sequence numbers; Restarts counts
	// jumps that cannot be loss.
	Lost, Restarts uint64
	// Dropped samples were dropped by the exporter itself, as it says.
	Dropped uint64
}

// Add adds other counts.
func (c *Counters) Add(o Counters) {
	c.Datagrams += o.Datagrams
	c.Bytes += o.Bytes
	c.Samples += o.Samples
	c.Records += o.Records
	c.CounterSamples += o.CounterSamples
	c.Skipped += o.Skipped
	c.Malformed += o.Malformed
	c.Lost += o.Lost
	c.Restarts += o.Restarts
	c.Dropped += o.Dropped
}

// Interface are the counters of one interface (RFC 2863; sFlow's if_counters).
type Interface struct {
	Exporter                netip.Addr
	Index                   uint32
	Speed                   uint64 // bits per second
	InOctets, OutOctets     uint64
	InPackets, OutPackets   uint32 // unicast
	InDiscards, OutDiscards uint32
	InErrors, OutErrors     uint32
}

// Decoder follows the losses of exporters. It is not safe for concurrent use:
// several may share the work if each exporter goes to one of them.
type Decoder struct {
	config    Configuration
	exporters *exporters.Table[exporter]
	// Refused counts datagrams of exporters beyond MaxExporters.
	Refused uint64
	// Interfaces, if set, is given the counters of interfaces.
	Interfaces func(Interface)
	// Forget, if set, is given the counters of an exporter that gives way to
	// another.
	Forget func(netip.Addr, Counters)

	packet packet.Packet
	out    biflow.Record
}

// exporter is what is known of one address that sends.
type exporter struct {
	Counters
	agents map[uint32]*gaps.Sequence // by sub-agent
	drops  map[uint64]uint32         // the last count, by sub-agent and data source
}

// New returns a Decoder.
func New(c Configuration) *Decoder {
	d := &Decoder{config: c}
	d.exporters = exporters.NewTable(c.MaxExporters, func() *exporter {
		return &exporter{agents: map[uint32]*gaps.Sequence{}, drops: map[uint64]uint32{}}
	})
	d.exporters.Proven = func(e *exporter) bool { return e.Records > 0 }
	d.exporters.Forget = func(from netip.Addr, e *exporter) {
		if d.Forget != nil {
			d.Forget(from, e.sumCounters())
		}
	}
	return d
}

// Divide gives each prefix a share of the exporters that are kept; see
// exporters.Table. It must come before the first datagram.
func (d *Decoder) Divide(prefixes []netip.Prefix, of func(netip.Addr) int) {
	d.exporters.Divide(prefixes, of)
}

// Is reports whether a datagram begins like one of sFlow version 5.
func Is(datagram []byte) bool {
	return len(datagram) >= 8 && binary.BigEndian.Uint32(datagram) == 5 && (datagram[7] == 1 || datagram[7] == 2)
}

// Decode hands the records of a datagram, which arrived at now, to emit; a
// record is valid during the call. An error says that a part of the datagram
// could not be used, though what came before it was.
func (d *Decoder) Decode(now flow.Time, from netip.Addr, datagram []byte, emit func(*biflow.Record)) error {
	if len(datagram) < 4 || binary.BigEndian.Uint32(datagram) != 5 {
		return ErrVersion
	}
	from = from.Unmap().WithZone("")
	e := d.exporters.Find(now, from)
	if e == nil {
		d.Refused++
		return ErrBound
	}
	e.Datagrams++
	e.Bytes += uint64(len(datagram))
	err := d.readDatagram(e, now, from, &reader{b: datagram[4:]}, emit)
	if err != nil {
		e.Malformed++
	}
	return err
}

// Counters are those of the exporters that are known.
func (d *Decoder) Counters() map[netip.Addr]Counters {
	all := make(map[netip.Addr]Counters, d.exporters.Len())
	for from, e := range d.exporters.All() {
		all[from] = e.sumCounters()
	}
	return all
}

// sumCounters returns the counts of the exporter with all its sub-agents.
func (e *exporter) sumCounters() Counters {
	c := e.Counters
	for _, s := range e.agents {
		c.Lost += s.Lost()
		c.Restarts += s.Restarts
	}
	return c
}
