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
	"time"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/packet"
	"dragnet/source/biflow"
	"dragnet/source/sequence"
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
	exporters map[netip.Addr]*exporter
	// Refused counts datagrams of exporters beyond MaxExporters.
	Refused uint64
	// Interfaces, if set, is given the counters of interfaces.
	Interfaces func(Interface)

	packet packet.Packet
	out    biflow.Record
}

// exporter is what is known of one address that sends.
type exporter struct {
	Counters
	heard  flow.Time
	agents map[uint32]*sequence.Sequence // by sub-agent
	drops  map[uint64]uint32             // the last count, by sub-agent and data source
}

// New returns a Decoder.
func New(c Configuration) *Decoder { return &Decoder{config: c, exporters: map[netip.Addr]*exporter{}} }

// Is reports whether a datagram begins like one of sFlow version 5.
func Is(datagram []byte) bool {
	return len(datagram) >= 8 && binary.BigEndian.Uint32(datagram) == 5 && (datagram[7] == 1 || datagram[7] == 2)
}

// silence is how long an exporter may say nothing before it may be forgotten
// for another.
const silence = flow.Time(time.Hour)

func (d *Decoder) exporter(now flow.Time, from netip.Addr) *exporter {
	e := d.exporters[from]
	if e == nil {
		if len(d.exporters) >= d.config.MaxExporters {
			for other, o := range d.exporters {
				if now-o.heard > silence {
					delete(d.exporters, other)
					break
				}
			}
			if len(d.exporters) >= d.config.MaxExporters {
				return nil
			}
		}
		e = &exporter{agents: map[uint32]*sequence.Sequence{}, drops: map[uint64]uint32{}}
		d.exporters[from] = e
	}
	e.heard = now
	return e
}

// Decode hands the records of a datagram, which arrived at now, to emit; a
// record is valid during the call. An error says that a part of the datagram
// could not be used, though what came before it was.
func (d *Decoder) Decode(now flow.Time, from netip.Addr, datagram []byte, emit func(*biflow.Record)) error {
	if len(datagram) < 4 || binary.BigEndian.Uint32(datagram) != 5 {
		return ErrVersion
	}
	from = from.Unmap().WithZone("")
	e := d.exporter(now, from)
	if e == nil {
		d.Refused++
		return ErrBound
	}
	e.Datagrams++
	e.Bytes += uint64(len(datagram))
	err := d.datagram(e, now, from, &reader{b: datagram[4:]}, emit)
	if err != nil {
		e.Malformed++
	}
	return err
}

// Counters are those of the exporters that are known.
func (d *Decoder) Counters() map[netip.Addr]Counters {
	all := make(map[netip.Addr]Counters, len(d.exporters))
	for from, e := range d.exporters {
		c := e.Counters
		for _, s := range e.agents {
			c.Lost += s.Lost()
			c.Restarts += s.Restarts
		}
		all[from] = c
	}
	return all
}
