package netflow

import (
	"encoding/binary"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// Version 5, in bytes (Cisco, "NetFlow Export Datagram Format").
const (
	header5 = 24
	record5 = 48
)

// decode5 reads a datagram of version 5: version, count, uptime in ms, seconds
// and nanoseconds since 1970, sequence number of the first flow, engine type
// and number, sampling mode (2 bits) and interval (14 bits).
func (d *Decoder) decode5(e *exporter, now flow.Time, from netip.Addr, b []byte, emit func(*biflow.Record)) error {
	if len(b) < header5 {
		return ErrTruncated
	}
	count := int(binary.BigEndian.Uint16(b[2:]))
	engine := uint32(binary.BigEndian.Uint16(b[20:]))
	o := d.findDomain(e, domainKey{netflow5, engine})
	o.sequence.Follow(binary.BigEndian.Uint32(b[16:]), uint32(count))
	c := clock{
		export: fromSeconds(uint64(binary.BigEndian.Uint32(b[8:]))) + flow.Time(binary.BigEndian.Uint32(b[12:])%1e9),
		uptime: binary.BigEndian.Uint32(b[4:]),
	}
	sampling := uint32(binary.BigEndian.Uint16(b[22:]) & 0x3fff)
	b = b[header5:]
	for ; count > 0; count-- {
		if len(b) < record5 {
			return ErrTruncated
		}
		e.Records++
		r := &d.out
		c.fillRecord5(r, b)
		r.Exporter, r.Domain, r.Sampling, r.Sent = from, engine, sampling, c.export
		emit(r)
		b = b[record5:]
	}
	return nil
}

func (c clock) fillRecord5(r *biflow.Record, b []byte) {
	*r = biflow.Record{}
	r.Orig, r.Resp = netip.AddrFrom4([4]byte(b[0:4])), netip.AddrFrom4([4]byte(b[4:8]))
	r.OrigPkts, r.OrigIPBytes = uint64(binary.BigEndian.Uint32(b[16:])), uint64(binary.BigEndian.Uint32(b[20:]))
	first, last := binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])
	r.Start = c.export - flow.Time(int32(c.uptime-first))*1e6
	r.Duration = time.Duration(max(0, int32(last-first))) * time.Millisecond
	r.Proto = flow.Proto(b[38])
	r.Known = flow.Counts | flow.Lasting
	src, dst := binary.BigEndian.Uint16(b[32:]), binary.BigEndian.Uint16(b[34:])
	switch r.Proto {
	case flow.ICMP, flow.ICMPv6:
		r.SetICMP(uint8(dst>>8), uint8(dst))
	case flow.TCP:
		r.OrigFlags = flow.TCPFlags(b[37])
		r.Known |= flow.Flags
		fallthrough
	default:
		r.OrigPort, r.RespPort = src, dst
	}
}
