// Package netflow decodes the datagrams of flow exporters: NetFlow version 5,
// NetFlow version 9 (RFC 3954) and IPFIX (RFC 7011), with options templates,
// sampling options, fields of variable length, enterprise fields and records
// of both directions (RFC 5103).
//
// Anyone who can send a UDP datagram can forge one, so everything a datagram says
// is checked, and what is kept of it is bounded for each exporter: templates,
// observation domains and sampling rates. Nothing one exporter sends changes
// what is kept of another. Templates belong to an exporter's address, version,
// observation domain (source identifier in version 9) and number.
package netflow

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/internal/lru"
	"dragnet/source/biflow"
	"dragnet/source/exporters"
)

// Reasons why a datagram, or a part of it, yields no records. They are bare,
// so that a flood of bad datagrams costs no memory; the caller adds the
// exporter.
var (
	// ErrVersion marks datagrams that are neither NetFlow 5, 9 nor IPFIX.
	ErrVersion = errors.New("not NetFlow version 5 or 9, nor IPFIX")
	// ErrTruncated marks datagrams that end inside what they announce.
	ErrTruncated = errors.New("the datagram ends inside a header, set or record")
	// ErrLength marks sets whose length is less than their header's.
	ErrLength = errors.New("impossible length of a set")
	// ErrTemplate marks templates that are too large, or describe records
	// without bytes.
	ErrTemplate = errors.New("impossible or too large template")
	// ErrBound marks datagrams of an exporter beyond the configured number.
	ErrBound = errors.New("more exporters than max_exporters: raise it, or name fewer prefixes")
)

// Configuration bounds what a Decoder keeps.
type Configuration struct {
	// MaxExporters bounds the exporters; one that was silent for an hour gives
	// way to another.
	MaxExporters int `yaml:"max_exporters"`
	// MaxDomains bounds the observation domains of one exporter; that longest
	// silent gives way.
	MaxDomains int `yaml:"max_domains"`
	// MaxTemplates bounds the templates of one observation domain; that
	// longest unused gives way.
	MaxTemplates int `yaml:"max_templates"`
}

// DefaultConfiguration suits a large network; at most about 100 MB are kept.
func DefaultConfiguration() Configuration {
	return Configuration{MaxExporters: 512, MaxDomains: 64, MaxTemplates: 128}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.MaxExporters >= 1, "max_exporters", "is %d; want at least 1", c.MaxExporters)
	p.Check(c.MaxDomains >= 1, "max_domains", "is %d; want at least 1", c.MaxDomains)
	p.Check(c.MaxTemplates >= 1, "max_templates", "is %d; want at least 1", c.MaxTemplates)
	return p.Join()
}

// Counters count what one exporter sent and what of it was lost.
type Counters struct {
	Datagrams, Bytes uint64
	// Records are data records that became flow records.
	Records uint64
	// Options are data records of options templates; NoFlow are other records
	// without addresses, such as those of events or counters.
	Options, NoFlow uint64
	// Structured counts fields that are lists of further records (RFC 6313),
	// which are passed over.
	Structured uint64
	// Templates counts templates as often as they were sent, Replaced those
	// that changed the meaning of a number in use, Forgotten those that gave
	// way for lack of room.
	Templates, Replaced, Forgotten uint64
	// UnknownTemplate counts sets of data whose template has not come.
	UnknownTemplate uint64
	// Malformed counts datagrams of which a part could not be used.
	Malformed uint64
	// Lost is how much is missing in the sequence numbers: flows for version 5
	// and IPFIX, datagrams for version 9. Restarts counts jumps that cannot be
	// loss.
	Lost, Restarts uint64
}

// Add adds other counts.
func (c *Counters) Add(o Counters) {
	c.Datagrams += o.Datagrams
	c.Bytes += o.Bytes
	c.Records += o.Records
	c.Options += o.Options
	c.NoFlow += o.NoFlow
	c.Structured += o.Structured
	c.Templates += o.Templates
	c.Replaced += o.Replaced
	c.Forgotten += o.Forgotten
	c.UnknownTemplate += o.UnknownTemplate
	c.Malformed += o.Malformed
	c.Lost += o.Lost
	c.Restarts += o.Restarts
}

// Decoder keeps what datagrams need of earlier ones. It is not safe for
// concurrent use: several may share the work if each exporter goes to one of
// them.
type Decoder struct {
	config    Configuration
	exporters *exporters.Table[exporter]
	// Refused counts datagrams of exporters beyond MaxExporters.
	Refused uint64
	// Forget, if set, is given the counters of an exporter that gives way to
	// another.
	Forget func(netip.Addr, Counters)

	values values
	out    biflow.Record
}

// New returns a Decoder that knows no template.
func New(c Configuration) *Decoder {
	d := &Decoder{config: c}
	d.exporters = exporters.NewTable(c.MaxExporters, func() *exporter { return &exporter{domains: lru.New[domainKey, *domain]()} })
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

// Is reports whether a datagram begins like one of NetFlow 5, 9 or IPFIX.
func Is(datagram []byte) bool {
	if len(datagram) < 2 {
		return false
	}
	switch version(binary.BigEndian.Uint16(datagram)) {
	case netflow5, netflow9, ipfix:
		return true
	}
	return false
}

// version is the first number of a datagram.
type version uint16

const (
	netflow5 version = 5
	netflow9 version = 9
	ipfix    version = 10
)

// Decode hands the records of a datagram, which arrived at now, to emit; a
// record is valid during the call. An error says that a part of the datagram
// could not be used, though what came before it was.
func (d *Decoder) Decode(now flow.Time, from netip.Addr, datagram []byte, emit func(*biflow.Record)) error {
	if !Is(datagram) {
		return ErrVersion
	}
	from = from.Unmap().WithZone("")
	e, err := d.findExporter(now, from)
	if err != nil {
		d.Refused++
		return err
	}
	e.Datagrams++
	e.Bytes += uint64(len(datagram))
	switch version(binary.BigEndian.Uint16(datagram)) {
	case netflow5:
		err = d.decode5(e, now, from, datagram, emit)
	case netflow9:
		err = d.decode9(e, now, from, datagram, emit)
	case ipfix:
		err = d.decodeIPFIX(e, now, from, datagram, emit)
	}
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
