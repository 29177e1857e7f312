package netflow

import (
	"encoding/binary"
	"net/netip"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// Headers, in bytes.
const (
	header9     = 20
	headerIPFIX = 16
	headerSet   = 4
)

// Numbers of sets that are not data.
const (
	templates9, optionsTemplates9         = 0, 1
	templatesIPFIX, optionsTemplatesIPFIX = 2, 3
)

// clock is what a datagram says of its exporter's time.
type clock struct {
	// export is when the datagram was sent.
	export flow.Time
	// uptime is the milliseconds since the exporter's start, modulo 2^32, if
	// running.
	uptime  uint32
	running bool
}

// decode9 reads a datagram of version 9 (RFC 3954, section 5.1): version,
// count, uptime in ms, seconds since 1970, sequence number, source identifier.
// The count of records is often wrong and is not needed.
func (d *Decoder) decode9(e *exporter, now flow.Time, from netip.Addr, b []byte, emit func(*biflow.Record)) error {
	if len(b) < header9 {
		return ErrTruncated
	}
	o := d.findDomain(e, domainKey{netflow9, binary.BigEndian.Uint32(b[16:])})
	o.sequence.Follow(binary.BigEndian.Uint32(b[12:]), 1)
	c := clock{fromSeconds(uint64(binary.BigEndian.Uint32(b[8:]))), binary.BigEndian.Uint32(b[4:]), true}
	_, err := d.readSets(e, o, now, from, c, b[header9:], emit)
	return err
}

// decodeIPFIX reads a message of IPFIX (RFC 7011, section 3.1): version, length
// in bytes, seconds since 1970, sequence number, observation domain. The
// sequence number counts data records.
func (d *Decoder) decodeIPFIX(e *exporter, now flow.Time, from netip.Addr, b []byte, emit func(*biflow.Record)) error {
	if len(b) < headerIPFIX {
		return ErrTruncated
	}
	short := error(nil)
	switch length := int(binary.BigEndian.Uint16(b[2:])); {
	case length > len(b):
		short = ErrTruncated
	case length < headerIPFIX:
		return ErrLength
	default:
		b = b[:length]
	}
	o := d.findDomain(e, domainKey{ipfix, binary.BigEndian.Uint32(b[12:])})
	c := clock{export: fromSeconds(uint64(binary.BigEndian.Uint32(b[4:])))}
	n, err := d.readSets(e, o, now, from, c, b[headerIPFIX:], emit)
	o.sequence.Follow(binary.BigEndian.Uint32(b[8:]), n)
	if err == nil {
		err = short
	}
	return err
}

// readSets reads the sets of a datagram twice: first templates and options, then
// data, since an exporter may put an option behind the records it is about. It
// returns how many data records there were.
func (d *Decoder) readSets(e *exporter, o *domain, now flow.Time, from netip.Addr, c clock, b []byte, emit func(*biflow.Record)) (n uint32, err error) {
	for _, data := range [...]bool{false, true} {
		rest := b
		for len(rest) >= headerSet {
			id, length := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
			if length < headerSet {
				if allZero(rest) { // padding
					break
				}
				err = ErrLength
				break
			}
			end := min(length, len(rest))
			count, fault := d.readSet(e, o, now, from, c, id, rest[headerSet:end], data, emit)
			n += count
			if fault != nil {
				err = fault
			}
			if length > len(rest) {
				err = ErrTruncated
			}
			rest = rest[end:]
		}
	}
	return n, err
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// readSet reads one set: data says in which of the two passes.
func (d *Decoder) readSet(e *exporter, o *domain, now flow.Time, from netip.Addr, c clock, id uint16, b []byte, data bool, emit func(*biflow.Record)) (n uint32, err error) {
	if id < firstTemplate {
		switch v := o.key.version; {
		case data:
		case v == netflow9 && id == templates9, v == ipfix && id == templatesIPFIX:
			return 0, d.takeTemplates(e, o, b)
		case v == netflow9 && id == optionsTemplates9, v == ipfix && id == optionsTemplatesIPFIX:
			return 0, d.takeOptionsTemplates(e, o, b)
		}
		return 0, nil
	}
	t, known := o.templates.Use(id)
	if !known {
		if data {
			e.UnknownTemplate++
		}
		return 0, nil
	}
	if t.option == data {
		return 0, nil
	}
	if o.key.version == ipfix && o.boot != 0 {
		c.uptime, c.running = uint32(uint64(c.export/1e6)-o.boot), true
	}
	v := &d.values
	v.lists = 0
	defer func() { e.Structured += v.lists }()
	// What is left after the last record is padding.
	for len(b) >= t.size {
		var ok bool
		if b, ok = v.readRecord(t, b); !ok {
			return n, ErrTruncated
		}
		n++
		switch {
		case t.option:
			e.Options++
			o.sampling.learnRate(v)
			if v.has(bootMillis) {
				o.boot = v.number(bootMillis)
			}
		case !v.hasSrc() || !v.hasDst():
			e.NoFlow++
		default:
			e.Records++
			r := &d.out
			v.fillRecord(r, c)
			r.Exporter, r.Domain, r.Sampling, r.Sent = from, o.key.domain, o.sampling.rateOf(v), c.export
			emit(r)
		}
	}
	return n, nil
}
