// Package flow defines what is observed on a network: flows, hosts, the site
// that observed them, and how much of the traffic a log covers.
//
// It imports no other package of this project. Field names follow Zeek's
// conn.log (originator, responder, conn_state, history); each field's comment
// names the IPFIX information element (RFC 7012, IANA number in brackets) and
// the Zeek column it corresponds to.
package flow

import (
	"net/netip"
	"time"
)

// Flow is one bidirectional connection, as a monitor logged it. The originator
// is the side that opened it. Flow is a plain value: copying it is safe.
//
// A source sets only the fields it knows; Known lists the optional groups that
// are filled.
type Flow struct {
	// Start is the time of the first packet.
	// IPFIX flowStartNanoseconds [156]; Zeek ts.
	Start Time
	// Duration runs from the first packet to the last; 0 when unknown or for
	// a single packet. IPFIX flowDurationMilliseconds [161]; Zeek duration.
	Duration time.Duration

	// Orig and Resp are the originator's and the responder's address, never
	// IPv4-mapped. IPFIX sourceIPv4Address [8] / sourceIPv6Address [27] and
	// destinationIPv4Address [12] / destinationIPv6Address [28];
	// Zeek id.orig_h, id.resp_h.
	Orig, Resp netip.Addr
	// OrigPort and RespPort are transport ports. For ICMP they hold what Zeek
	// logs there: the message type, and the type of the answer (or the code).
	// IPFIX sourceTransportPort [7], destinationTransportPort [11];
	// Zeek id.orig_p, id.resp_p.
	OrigPort, RespPort uint16
	// Proto is the IP protocol number.
	// IPFIX protocolIdentifier [4]; Zeek proto (and ip_proto).
	Proto Proto
	// State summarises the connection. No IPFIX element (flowEndReason [136] is
	// the nearest); Zeek conn_state.
	State State

	// OrigFlags and RespFlags are the union of the TCP flags each side sent.
	// IPFIX tcpControlBits [6] and its reverse [29305:6]; in Zeek only within
	// history. Known has Flags.
	OrigFlags, RespFlags TCPFlags
	// ICMPError is type<<8|code of an ICMP error that quoted this flow's
	// header, 0 if none was seen. IPFIX icmpTypeCodeIPv4 [32] of the error's
	// own flow; Zeek logs the error as a separate flow. Known has Failures.
	ICMPError uint16

	// Known lists the optional columns that the source filled.
	Known Columns

	// Sampling is N of 1-in-N packet sampling; 0 means unknown, 1 unsampled.
	// IPFIX samplingInterval [34], or ([305]+[306])/[305]; not in Zeek.
	Sampling uint32
	// Domain is the exporter's observation domain.
	// IPFIX observationDomainId [149]; not in Zeek.
	Domain uint32
	// OrigISN and RespISN are the TCP initial sequence numbers as they were on
	// the wire. IPFIX tcpSequenceNumber [184] of the SYN; not in Zeek.
	// Known has ISNs.
	OrigISN, RespISN uint32

	// History is the order of events: upper case by the originator, lower case
	// by the responder (Zeek's letters). No IPFIX element; Zeek history.
	// Known has History.
	History string

	// OrigBytes and RespBytes count payload bytes without headers; for TCP from
	// sequence numbers, so they may include unseen bytes. IPFIX
	// transportOctetDeltaCount [401] and reverse; Zeek orig_bytes, resp_bytes.
	// Known has Payload.
	OrigBytes, RespBytes uint64
	// OrigPkts and RespPkts count packets. IPFIX packetDeltaCount [2] and
	// reverse [29305:2]; Zeek orig_pkts, resp_pkts. Known has Counts.
	OrigPkts, RespPkts uint64
	// OrigIPBytes and RespIPBytes count bytes from the IP header on. IPFIX
	// octetDeltaCount [1] and reverse [29305:1]; Zeek orig_ip_bytes,
	// resp_ip_bytes. Known has Counts.
	OrigIPBytes, RespIPBytes uint64
	// MissedBytes counts payload bytes inside gaps of the capture.
	// No IPFIX element; Zeek missed_bytes. Known has Payload.
	MissedBytes uint64

	// Exporter is the device that reported the flow; invalid for a log file.
	// IPFIX exporterIPv4Address [130] / exporterIPv6Address [131]; not in Zeek.
	Exporter netip.Addr
}

// End is the time of the last packet.
func (f *Flow) End() Time { return f.Start + Time(f.Duration) }

// Established reports whether both sides took part: a completed TCP
// handshake, or for other protocols an answer.
func (f *Flow) Established() bool { return f.State.isEstablished() }

// Failed reports whether the attempt visibly failed: a TCP connection that was
// refused, unanswered or given up before an answer, or any flow that an ICMP
// error quoted. Silence is a failure for TCP only, since UDP and ICMP have
// one-way uses.
func (f *Flow) Failed() bool {
	return f.ICMPError != 0 || f.Proto == TCP && f.State.isFailed()
}

// Columns is a set of optional groups of Flow's fields: those a caller wants,
// and in Flow.Known those a reader filled.
type Columns uint16

// The optional groups. Start, addresses, ports, Proto and State are always
// filled.
const (
	Lasting  Columns = 1 << iota // Duration
	Counts                       // OrigPkts, RespPkts, OrigIPBytes, RespIPBytes
	Payload                      // OrigBytes, RespBytes, MissedBytes
	History                      // History
	Flags                        // OrigFlags, RespFlags
	ISNs                         // OrigISN, RespISN
	Failures                     // ICMPError

	AllColumns Columns = 1<<iota - 1
)

// Has reports whether all of want is in c.
func (c Columns) Has(want Columns) bool { return c&want == want }
