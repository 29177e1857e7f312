package netflow

// use is what the decoder does with a field.
type use uint8

const (
	ignored use = iota
	srcAddr4
	dstAddr4
	srcAddr6
	dstAddr6
	srcPort
	dstPort
	protocol
	tcpFlags
	reverseTCPFlags
	icmpTypeCode
	icmpType
	icmpCode
	octets
	packets
	reverseOctets
	reversePackets
	payloadOctets
	reversePayloadOctets
	startUptime
	endUptime
	startSeconds
	endSeconds
	startMillis
	endMillis
	startMicros
	endMicros
	startNanos
	endNanos
	startDelta
	endDelta
	durationMillis
	durationMicros
	observed
	bootMillis
	direction
	endReason
	biflowDirection
	firewallEvent
	tcpSequence
	input
	scopeInterface
	selector
	interval
	packetInterval
	packetSpace
	sampleSize
	samplePopulation
	initialFlags
	reverseInitialFlags
	structured
)

// Elements whose values are lists of other records (RFC 6313, section 4.5).
const (
	basicList            = 291
	subTemplateList      = 292
	subTemplateMultiList = 293
)

// Private enterprise numbers: reverse elements (RFC 5103), and CERT, which
// maintains YAF.
const (
	reverseEnterprise = 29305
	certEnterprise    = 6871
)

// iana are the elements of IANA's registry "IP Flow Information Export", which
// include those of NetFlow version 9.
var iana = map[uint16]use{
	1: octets, 2: packets, 4: protocol, 6: tcpFlags, 7: srcPort, 8: srcAddr4, 10: input, 11: dstPort, 12: dstAddr4,
	21: endUptime, 22: startUptime, 27: srcAddr6, 28: dstAddr6, 32: icmpTypeCode, 34: interval, 48: selector, 50: interval,
	61: direction, 85: octets, 86: packets, 136: endReason, 139: icmpTypeCode,
	150: startSeconds, 151: endSeconds, 152: startMillis, 153: endMillis, 154: startMicros, 155: endMicros, 156: startNanos, 157: endNanos,
	158: startDelta, 159: endDelta, 160: bootMillis, 161: durationMillis, 162: durationMicros,
	176: icmpType, 177: icmpCode, 178: icmpType, 179: icmpCode, 180: srcPort, 181: dstPort, 182: srcPort, 183: dstPort, 184: tcpSequence,
	231: octets, 232: reverseOctets, 233: firewallEvent, 239: biflowDirection, 298: packets, 299: reversePackets,
	302: selector, 304: ignored, 305: packetInterval, 306: packetSpace, 309: sampleSize, 310: samplePopulation, basicList: structured, subTemplateList: structured, subTemplateMultiList: structured, 323: observed, 401: payloadOctets,
}

// reverse are the elements of the direction from the destination.
var reverse = map[uint16]use{
	1: reverseOctets, 2: reversePackets, 6: reverseTCPFlags, 85: reverseOctets, 86: reversePackets, 401: reversePayloadOctets,
}

// cert are YAF's elements; those with bit 0x4000 are of the reverse direction.
var cert = map[uint16]use{
	14: initialFlags, 15: tcpFlags, 14 | 0x4000: reverseInitialFlags, 15 | 0x4000: reverseTCPFlags,
}

// useOf finds what a field is for. Scopes of version 9 have numbers of their
// own (RFC 3954, section 6.1).
func useOf(f *field, v version, scope bool) use {
	const (
		scopeInterface9 = 2
		ingress, egress = 10, 14
	)
	if scope {
		switch {
		case v == netflow9 && f.element == scopeInterface9, v == ipfix && f.enterprise == 0 && (f.element == ingress || f.element == egress):
			return scopeInterface
		case v == netflow9:
			return ignored
		}
	}
	switch f.enterprise {
	case 0:
		return iana[f.element]
	case reverseEnterprise:
		return reverse[f.element]
	case certEnterprise:
		return cert[f.element]
	}
	return ignored
}
