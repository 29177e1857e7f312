package sflow

import (
	"encoding/binary"
	"net/netip"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/source/biflow"
	"dragnet/source/gaps"
)

// reader takes XDR values (RFC 4506) from a datagram; beyond its end they are
// zero, and short is set.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) readUint32() uint32 {
	if len(r.b) < 4 {
		r.b, r.short = nil, true
		return 0
	}
	n := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return n
}

func (r *reader) readUint64() uint64 { return uint64(r.readUint32())<<32 | uint64(r.readUint32()) }

// readBytes takes n octets, padded to a multiple of four.
func (r *reader) readBytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.b, r.short = nil, true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[min(len(r.b), int((n+3)&^3)):]
	return b
}

// readPart takes a length and that many octets as a separate reader.
func (r *reader) readPart() reader { return reader{b: r.readBytes(r.readUint32())} }

// Kinds of samples and records that sflow.org defines (enterprise 0).
const (
	flowSample, counterSample                 = 1, 2
	expandedFlowSample, expandedCounterSample = 3, 4

	rawHeader, sampledIPv4, sampledIPv6 = 1, 3, 4

	interfaceCounters = 1
)

// readDatagram reads what follows the version: agent, sub-agent, sequence number,
// uptime in ms and the samples.
func (d *Decoder) readDatagram(e *exporter, now flow.Time, from netip.Addr, r *reader, emit func(*biflow.Record)) error {
	switch r.readUint32() {
	case 1:
		r.readBytes(4)
	case 2:
		r.readBytes(16)
	default:
		if r.short {
			return ErrTruncated
		}
		return ErrAddress
	}
	agent, number := r.readUint32(), r.readUint32()
	r.readUint32()
	samples := r.readUint32()
	if r.short {
		return ErrTruncated
	}
	e.followSequence(agent, number, d.config.MaxSources)
	for ; samples > 0; samples-- {
		kind := r.readUint32()
		s := r.readPart()
		if r.short {
			return ErrTruncated
		}
		switch kind {
		case flowSample, expandedFlowSample:
			e.Samples++
			d.flowSample(e, now, from, agent, &s, kind == expandedFlowSample, emit)
		case counterSample, expandedCounterSample:
			e.CounterSamples++
			d.counterSample(from, &s, kind == expandedCounterSample)
		default:
			e.Skipped++
		}
		if s.short {
			return ErrTruncated
		}
	}
	return nil
}

func (e *exporter) followSequence(agent, number uint32, most int) {
	s := e.agents[agent]
	if s == nil {
		if len(e.agents) >= most {
			return
		}
		s = new(gaps.Sequence)
		e.agents[agent] = s
	}
	s.Follow(number, 1)
}

// noteDropped notes an exporter's own count of samples it dropped, which begins at
// 0 when it restarts.
func (e *exporter) noteDropped(source uint64, count uint32, most int) {
	last, known := e.drops[source]
	switch {
	case !known && len(e.drops) >= most:
		return
	case known && count > last:
		e.Dropped += uint64(count - last)
	}
	e.drops[source] = count
}

func (d *Decoder) flowSample(e *exporter, now flow.Time, from netip.Addr, agent uint32, s *reader, expanded bool, emit func(*biflow.Record)) {
	s.readUint32() // sequence number of the sample
	source := uint64(agent)<<32 | uint64(s.readUint32())
	if expanded {
		source = uint64(agent)<<32 | uint64(s.readUint32())
	}
	rate := s.readUint32()
	s.readUint32() // packets that might have been sampled
	drops := s.readUint32()
	s.readUint32() // interfaces in and out
	s.readUint32()
	if expanded {
		s.readUint32()
		s.readUint32()
	}
	records := s.readUint32()
	if s.short {
		return
	}
	e.noteDropped(source, drops, d.config.MaxSources)
	for done := false; records > 0 && !s.short; records-- {
		kind := s.readUint32()
		r := s.readPart()
		if done {
			continue
		}
		d.out = biflow.Record{Packet: true, Flow: flow.Flow{Start: now, Exporter: from, Domain: agent, Sampling: rate, Known: flow.Counts}}
		d.out.OrigPkts = 1
		// The header is the best description; the others repeat it.
		if done = d.readDescription(kind, &r); done {
			e.Records++
			emit(&d.out)
		}
	}
}

// readDescription fills the record from one description of the packet.
func (d *Decoder) readDescription(kind uint32, r *reader) bool {
	switch kind {
	case rawHeader:
		protocol, length := r.readUint32(), r.readUint32()
		r.readUint32() // octets removed before
		return d.decodeHeader(protocol, r.readBytes(r.readUint32()), length)
	case sampledIPv4, sampledIPv6:
		return d.readDecoded(r, kind == sampledIPv6)
	}
	return false
}

// decodeHeader decodes the first octets of a packet, which had length octets.
func (d *Decoder) decodeHeader(protocol uint32, b []byte, length uint32) bool {
	var link packet.LinkType
	switch protocol {
	case 1:
		link = packet.LinkEthernet
	case 7:
		link = packet.LinkPPP
	case 11:
		link = packet.LinkIPv4
	case 12:
		link = packet.LinkIPv6
	default:
		return false
	}
	const longest = 1 << 16 // an IP packet with its link layer may be a little more
	p := &d.packet
	if p.Decode(link, b, max(len(b), int(min(length, 2*longest)))) != nil || p.Fragment {
		return false
	}
	out := &d.out
	out.Orig, out.Resp, out.Proto = p.Src, p.Dst, p.Proto
	out.OrigIPBytes = uint64(p.IPLen)
	switch {
	case !p.Decoded:
	case p.Proto == flow.ICMP || p.Proto == flow.ICMPv6:
		out.SetICMP(p.ICMPType, p.ICMPCode)
	default:
		out.OrigPort, out.RespPort = p.SrcPort, p.DstPort
	}
	if p.Proto == flow.TCP && p.Decoded {
		out.OrigFlags = p.Flags
		out.Known |= flow.Flags
	}
	return true
}

// readDecoded reads a packet that the exporter decoded: length, protocol,
// addresses, ports and TCP flags.
func (d *Decoder) readDecoded(r *reader, six bool) bool {
	out := &d.out
	out.OrigIPBytes = uint64(r.readUint32())
	out.Proto = flow.Proto(r.readUint32())
	size := uint32(4)
	if six {
		size = 16
	}
	src, dst := r.readBytes(size), r.readBytes(size)
	sport, dport, flags := r.readUint32(), r.readUint32(), r.readUint32()
	if r.short {
		return false
	}
	a, _ := netip.AddrFromSlice(src)
	b, _ := netip.AddrFromSlice(dst)
	out.Orig, out.Resp = a.Unmap(), b.Unmap()
	switch out.Proto {
	case flow.ICMP, flow.ICMPv6:
		out.SetICMP(uint8(sport), uint8(dport))
	case flow.TCP:
		out.OrigFlags = flow.TCPFlags(flags)
		out.Known |= flow.Flags
		fallthrough
	default:
		out.OrigPort, out.RespPort = uint16(sport), uint16(dport)
	}
	return true
}

func (d *Decoder) counterSample(from netip.Addr, s *reader, expanded bool) {
	s.readUint32() // sequence number of the sample
	s.readUint32() // data source
	if expanded {
		s.readUint32()
	}
	for records := s.readUint32(); records > 0 && !s.short; records-- {
		kind := s.readUint32()
		r := s.readPart()
		if kind != interfaceCounters || d.Interfaces == nil {
			continue
		}
		if i, ok := r.readCounters(); ok {
			i.Exporter = from
			d.Interfaces(i)
		}
	}
}

// readCounters reads if_counters.
func (r *reader) readCounters() (i Interface, ok bool) {
	i.Index = r.readUint32()
	r.readUint32() // ifType
	i.Speed = r.readUint64()
	r.readUint32() // duplex
	r.readUint32() // status
	i.InOctets, i.InPackets = r.readUint64(), r.readUint32()
	r.readUint32() // multicast
	r.readUint32() // broadcast
	i.InDiscards, i.InErrors = r.readUint32(), r.readUint32()
	r.readUint32() // unknown protocols
	i.OutOctets, i.OutPackets = r.readUint64(), r.readUint32()
	r.readUint32() // multicast
	r.readUint32() // broadcast
	i.OutDiscards, i.OutErrors = r.readUint32(), r.readUint32()
	return i, !r.short
}
