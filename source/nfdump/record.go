package nfdump

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// Types of records.
const (
	exporterInfo = 7
	exporterStat = 8
	flowRecord   = 11
	samplerInfo  = 15
)

// exporter is what a file says of one: its address and observation domain.
type exporter struct {
	addr   netip.Addr
	domain uint32
}

// sampler names a sampling rate: by the file's number of the exporter, and by
// the exporter's of the sampler; negative ones hold for all that name none.
type sampler struct {
	exporter uint16
	id       int64
}

// Bounds on what a file may have the reader keep.
const (
	maxExporters = 1 << 16
	maxRates     = 1 << 16
)

// readRecords reads those of a block: type and size, 2 bytes each, and what follows.
func (r *reader) readRecords(count uint32, b []byte) error {
	for n := 1; uint32(n) <= count; n++ {
		if len(b) < 4 {
			r.countSkipped(n, "%d records are missing at the end of the block", count-uint32(n)+1)
			return nil
		}
		kind, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			r.countSkipped(n, "impossible size of %d bytes: the rest of the block is left out", size)
			return nil
		}
		body := b[4:size]
		b = b[size:]
		switch kind {
		case flowRecord:
			if err := r.readFlow(body); err != nil {
				r.countSkipped(n, "%v", err)
				continue
			}
			if err := r.emit(&r.out); err != nil {
				return err
			}
		case exporterInfo:
			r.keepExporter(body)
		case exporterStat:
			r.noteLosses(n, body)
		case samplerInfo:
			r.keepSampler(body)
		case 1, 10: // flows of nfdump 1.6
			r.countSkipped(n, "a record of nfdump 1.6; convert the file with 'nfdump -r FILE -w NEW'")
		}
	}
	return nil
}

// keepExporter keeps a description: version 4, address 16, family 2, number 2,
// domain 4 bytes.
func (r *reader) keepExporter(b []byte) {
	if len(b) < 28 || len(r.exporters) >= maxExporters {
		return
	}
	e := exporter{domain: binary.LittleEndian.Uint32(b[24:])}
	const inet, inet6 = 2, 10
	switch binary.LittleEndian.Uint16(b[20:]) {
	case inet:
		e.addr = readAddress4(b[12:])
	case inet6:
		e.addr = readAddress6(b[4:])
	}
	r.exporters[binary.LittleEndian.Uint16(b[22:])] = e
}

// noteLosses says what the collector missed: a count of exporters, then for each its
// number 4, sequence failures 4, packets 8, flows 8 bytes.
func (r *reader) noteLosses(n int, b []byte) {
	const each = 24
	if len(b) < 4 {
		return
	}
	count := binary.LittleEndian.Uint32(b)
	for b = b[4:]; count > 0 && len(b) >= each; count-- {
		if failures := binary.LittleEndian.Uint32(b[4:]); failures > 0 {
			r.countSkipped(n, "the collector found %d breaks in the sequence numbers of exporter %v", failures, r.exporters[uint16(binary.LittleEndian.Uint32(b))].addr)
		}
		b = b[each:]
	}
}

// keepSampler keeps a rate: exporter 2, algorithm 2, sampler 8, packets sampled 4,
// and passed over 4 bytes.
func (r *reader) keepSampler(b []byte) {
	if len(b) < 20 || len(r.rates) >= maxRates {
		return
	}
	sampled, passed := uint64(binary.LittleEndian.Uint32(b[12:])), uint64(binary.LittleEndian.Uint32(b[16:]))
	if sampled == 0 {
		return
	}
	rate := (sampled + passed + sampled/2) / sampled
	r.rates[sampler{binary.LittleEndian.Uint16(b), int64(binary.LittleEndian.Uint64(b[4:]))}] = uint32(min(rate, 1<<32-1))
}

// samplingRate returns that of a sampled flow; nfdump's default and overwriting rates have
// the numbers -1 and -2. Without any it is coarser than 1.
func (r *reader) samplingRate(exporter uint16, id int64) uint32 {
	for _, id := range []int64{id, -2, -1, 0} {
		if n := r.rates[sampler{exporter, id}]; n > 0 {
			return n
		}
	}
	return 2
}

// Elements of a flow record, with their least sizes in bytes.
const (
	generic      = 1 // times first, last and received, packets, bytes, ports, protocol, flags
	addresses4   = 2
	addresses6   = 3
	misc         = 4 // interfaces, masks, direction
	otherCounts  = 5 // flows, packets and bytes out
	samplerOf    = 18
	sizeGeneric  = 48
	sizeMisc     = 11
	sizeCounts   = 24
	headerOfFlow = 8
)

// readFlow reads a record into r.out: its elements' count 2, engine 2, exporter 2,
// flags 1, version 1, and the elements with type and size of 2 bytes each.
func (r *reader) readFlow(b []byte) error {
	if len(b) < headerOfFlow {
		return fmt.Errorf("a flow record of %d bytes", len(b))
	}
	r.out = biflow.Record{}
	count, number, flags := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[4:]), b[6]
	e := r.exporters[number]
	r.out.Exporter, r.out.Domain, r.out.Sampling = e.addr, e.domain, 1
	id, found := int64(-1), false
	for b = b[headerOfFlow:]; count > 0; count-- {
		if len(b) < 4 {
			return fmt.Errorf("%d elements are missing", count)
		}
		kind, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return fmt.Errorf("element %d has an impossible size of %d bytes", kind, size)
		}
		found = r.readElement(kind, b[4:size]) || found
		if kind == samplerOf && size >= 12 {
			id = int64(binary.LittleEndian.Uint64(b[4:]))
		}
		b = b[size:]
	}
	f := &r.out.Flow
	if !found || !f.Orig.IsValid() || !f.Resp.IsValid() {
		return fmt.Errorf("it has no times or no addresses: not IP, or an event")
	}
	const sampled = 2
	if flags&sampled != 0 {
		f.Sampling = r.samplingRate(number, id)
		for _, n := range []*uint64{&f.OrigPkts, &f.OrigIPBytes, &f.RespPkts, &f.RespIPBytes} {
			*n /= uint64(f.Sampling)
		}
	}
	return nil
}

// readElement reads one; it reports whether that was the generic one.
func (r *reader) readElement(kind uint16, b []byte) bool {
	f := &r.out.Flow
	switch {
	case kind == generic && len(b) >= sizeGeneric:
		r.readGeneric(b)
		return true
	case kind == addresses4 && len(b) >= 8:
		f.Orig, f.Resp = readAddress4(b), readAddress4(b[4:])
	case kind == addresses6 && len(b) >= 32:
		f.Orig, f.Resp = readAddress6(b), readAddress6(b[16:])
	case kind == misc && len(b) >= sizeMisc:
		r.out.Egress = b[10] == 1
	case kind == otherCounts && len(b) >= sizeCounts:
		f.RespPkts, f.RespIPBytes = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		r.out.Biflow = f.RespPkts > 0
		r.out.Arbitrary = r.out.Biflow
	}
	return false
}

func (r *reader) readGeneric(b []byte) {
	f := &r.out.Flow
	first, last, received := readMillis(b), readMillis(b[8:]), readMillis(b[16:])
	f.Known = flow.Counts
	switch {
	case first > 0:
		f.Start, f.Duration = first, time.Duration(max(0, last-first))
		f.Known |= flow.Lasting
	case last > 0:
		f.Start = last
	default:
		f.Start = received
	}
	f.OrigPkts, f.OrigIPBytes = binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint64(b[32:])
	src, dst := binary.LittleEndian.Uint16(b[40:]), binary.LittleEndian.Uint16(b[42:])
	f.Proto = flow.Proto(b[44])
	switch f.Proto {
	case flow.ICMP, flow.ICMPv6:
		r.out.SetICMP(uint8(dst>>8), uint8(dst))
		return
	case flow.TCP:
		f.OrigFlags = flow.TCPFlags(b[45])
		f.Known |= flow.Flags
	}
	f.OrigPort, f.RespPort = src, dst
}

// readMillis reads milliseconds since 1970; what lies beyond the year 2242 is cut.
func readMillis(b []byte) flow.Time {
	return flow.Time(min(binary.LittleEndian.Uint64(b), 1<<33*1000)) * 1e6
}

// readAddress4 and readAddress6 read addresses as numbers of the machine.
func readAddress4(b []byte) netip.Addr {
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]})
}

func readAddress6(b []byte) netip.Addr {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], binary.LittleEndian.Uint64(b))
	binary.BigEndian.PutUint64(a[8:], binary.LittleEndian.Uint64(b[8:]))
	return netip.AddrFrom16(a).Unmap()
}
