// Package biflow joins the flow records of exporters (NetFlow, IPFIX, sFlow)
// to flows with an originator and a responder.
//
// Most exporters report each direction of a conversation by itself, and report
// a long conversation in several parts. RFC 5103 calls the whole a Biflow. A
// Joiner holds the parts of a conversation until it is over and decides which
// side opened it.
//
// What a flow so made can tell is limited, and says so itself: packets and
// bytes are as the exporter counted them, not multiplied by Flow.Sampling; a
// state that rests on a packet not having been seen is given only if the
// exporter does not sample.
package biflow

import (
	"dragnet/flow"
	"dragnet/packet"
)

// Record is what an exporter says of one direction of a conversation, or of
// both (RFC 5103).
type Record struct {
	// Flow has the source as originator and the destination as responder.
	// Counts and flags of the responder are filled in a Biflow only. State is
	// set only if the exporter says how the conversation went. Ports of ICMP
	// are those of packet.ICMPPorts.
	flow.Flow
	// Biflow is set for a record of both directions.
	Biflow bool
	// Arbitrary is set for a Biflow whose source need not be the originator.
	// IPFIX biflowDirection [239] other than initiator or reverseInitiator.
	Arbitrary bool
	// Egress is set for packets counted as they left the exporter.
	// IPFIX flowDirection [61].
	Egress bool
	// Packet is set for one sampled packet, which says nothing of the rest of its
	// conversation: what the same exporter reports of that as a flow is another
	// flow. sFlow version 5, section 5: flow_sample.
	Packet bool
	// Over is set if no further record of this direction will follow.
	// IPFIX flowEndReason [136] other than active timeout.
	Over bool
	// Origin says which side opened the conversation, if the source knows.
	Origin Origin
	// Sent is the exporter's clock as it sent the record; 0 if it gave none.
	Sent flow.Time
}

// Origin is the side of a record that opened its conversation.
type Origin uint8

// The sides; what is not known is decided by flags, time and ports.
const (
	OriginUnknown Origin = iota
	OriginSource
	OriginDestination
)

// SetICMP fills the ports of an ICMP message.
func (r *Record) SetICMP(kind, code uint8) {
	r.OrigPort, r.RespPort, _ = packet.ICMPPorts(r.Proto, kind, code)
}
