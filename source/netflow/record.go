package netflow

import (
	"time"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// Values of flowEndReason [136], biflowDirection [239] and firewallEvent [233].
const (
	endedActive      = 2
	reverseInitiator = 2
	initiator        = 1
	flowDeleted      = 2
	flowDenied       = 3
)

// fillRecord fills r from the values of a record.
func (v *values) fillRecord(r *biflow.Record, c clock) {
	*r = biflow.Record{Egress: v.number(direction) == 1}
	f := &r.Flow
	f.Orig, f.Resp = v.src, v.dst
	f.Proto = flow.Proto(v.number(protocol))
	v.fillPorts(r)
	f.OrigPkts, f.OrigIPBytes = v.number(packets), v.number(octets)
	f.RespPkts, f.RespIPBytes = v.number(reversePackets), v.number(reverseOctets)
	f.OrigBytes, f.RespBytes = v.number(payloadOctets), v.number(reversePayloadOctets)
	f.OrigFlags = flow.TCPFlags(v.number(tcpFlags) | v.number(initialFlags))
	f.RespFlags = flow.TCPFlags(v.number(reverseTCPFlags) | v.number(reverseInitialFlags))
	f.OrigISN = uint32(v.number(tcpSequence))
	v.fillColumns(f)
	v.fillTimes(f, c)
	r.Biflow = v.has(reverseOctets) || v.has(reversePackets) || v.has(reverseTCPFlags)
	if end := v.number(endReason); end != 0 && end != endedActive {
		r.Over = true
	}
	switch v.number(firewallEvent) {
	case flowDeleted:
		r.Over = true
	case flowDenied:
		r.Over = true
		if f.Proto == flow.TCP {
			f.State = flow.S0
		}
	}
	if v.has(biflowDirection) {
		switch v.number(biflowDirection) {
		case initiator:
		case reverseInitiator:
			swapEnds(f)
		default:
			r.Arbitrary = true
		}
	}
}

// fillColumns sets which optional columns the record fills.
func (v *values) fillColumns(f *flow.Flow) {
	if v.has(octets) || v.has(packets) || v.has(reverseOctets) || v.has(reversePackets) {
		f.Known |= flow.Counts
	}
	if v.has(payloadOctets) {
		f.Known |= flow.Payload
	}
	if f.Proto != flow.TCP {
		f.OrigFlags, f.RespFlags, f.OrigISN = 0, 0, 0
		return
	}
	if v.has(tcpFlags) || v.has(initialFlags) {
		f.Known |= flow.Flags
	}
	if v.has(tcpSequence) {
		f.Known |= flow.ISNs
	}
}

// fillPorts fills the ports; type and code of ICMP stand in the destination port
// where there is no element for them.
func (v *values) fillPorts(r *biflow.Record) {
	if r.Proto != flow.ICMP && r.Proto != flow.ICMPv6 {
		r.OrigPort, r.RespPort = uint16(v.number(srcPort)), uint16(v.number(dstPort))
		return
	}
	switch {
	case v.has(icmpType):
		r.SetICMP(uint8(v.number(icmpType)), uint8(v.number(icmpCode)))
	case v.has(icmpTypeCode):
		r.SetICMP(uint8(v.number(icmpTypeCode)>>8), uint8(v.number(icmpTypeCode)))
	default:
		r.SetICMP(uint8(v.number(dstPort)>>8), uint8(v.number(dstPort)))
	}
}

// swapEnds exchanges originator and responder.
func swapEnds(f *flow.Flow) {
	f.Orig, f.Resp = f.Resp, f.Orig
	f.OrigPort, f.RespPort = f.RespPort, f.OrigPort
	f.OrigPkts, f.RespPkts = f.RespPkts, f.OrigPkts
	f.OrigIPBytes, f.RespIPBytes = f.RespIPBytes, f.OrigIPBytes
	f.OrigBytes, f.RespBytes = f.RespBytes, f.OrigBytes
	f.OrigFlags, f.RespFlags = f.RespFlags, f.OrigFlags
	f.OrigISN, f.RespISN = f.RespISN, f.OrigISN
}

// fillTimes fills Start and Duration from whatever the record has; at worst it is
// when the datagram was sent.
func (v *values) fillTimes(f *flow.Flow, c clock) {
	start, begins := v.readTime(c, startNanos, startMicros, startMillis, startSeconds, startDelta, startUptime)
	end, ends := v.readTime(c, endNanos, endMicros, endMillis, endSeconds, endDelta, endUptime)
	var lasted time.Duration
	lasts := true
	switch {
	case v.has(durationMillis):
		lasted = time.Duration(min(v.number(durationMillis), 1<<32-1)) * time.Millisecond
	case v.has(durationMicros):
		lasted = time.Duration(min(v.number(durationMicros), 1<<32-1)) * time.Microsecond
	case begins && ends:
		lasted = time.Duration(max(0, end-start))
	default:
		lasts = false
	}
	switch {
	case begins:
	case ends:
		start = end - flow.Time(lasted)
	case v.has(observed):
		start = fromMillis(v.number(observed))
	default:
		start = c.export
	}
	f.Start, f.Duration = start, lasted
	if lasts {
		f.Known |= flow.Lasting
	}
}

// readTime reads a time from the finest element there is.
func (v *values) readTime(c clock, nanos, micros, millis, seconds, delta, uptime use) (t flow.Time, ok bool) {
	switch {
	case v.has(millis):
		return fromMillis(v.numbers[millis]), true
	case v.has(uptime) && c.running:
		// The difference is signed, for both numbers wrap after 49.7 days.
		age := int32(c.uptime - uint32(v.numbers[uptime]))
		return c.export - flow.Time(age)*1e6, true
	case v.has(nanos):
		return fromNTP(v.numbers[nanos]), true
	case v.has(micros):
		return fromNTP(v.numbers[micros]), true
	case v.has(seconds):
		return fromSeconds(v.numbers[seconds]), true
	case v.has(delta):
		return c.export - flow.Time(min(v.numbers[delta], 1<<32-1))*1e3, true
	}
	return 0, false
}

// latest is the last second since 1970 that is believed, in the year 2242:
// flow.Time holds what follows within 20 years.
const latest = 1 << 33

// fromSeconds and fromMillis convert times since 1970.
func fromSeconds(s uint64) flow.Time { return flow.Time(min(s, latest)) * 1e9 }

func fromMillis(ms uint64) flow.Time { return flow.Time(min(ms, latest*1e3)) * 1e6 }

// fromNTP converts the format of NTP (RFC 7011, section 6.1.9): 32 bits of
// seconds since 1900 and 32 of their fraction, here in the era up to 2036.
func fromNTP(n uint64) flow.Time {
	const between1900And1970 = 2208988800
	return flow.Time(int64(n>>32)-between1900And1970)*1e9 + flow.Time(n&(1<<32-1)*1e9>>32)
}
