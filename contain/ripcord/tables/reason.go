package tables

import "strconv"

// Reason is what happened to a packet and, if it was dropped, why. The numbers
// are the kernel programs' (enum reason in contain/ripcord/bpf/maps.h).
type Reason uint8

// The reasons. PassedOut and PassedIn crossed; those up to Control were
// dropped; the rest is counted beside the packet's own reason.
const (
	PassedOut    Reason = iota
	PassedIn            //
	NotIP               // the host sent neither IP nor ARP
	Malformed           // an impossible length
	Nested              // more than two VLAN tags or six extension headers
	SourceRouted        // the packet lists hops on its way
	Fragment            // TCP in fragments
	Options             // an inconsistent option list
	Flags               // SYN together with FIN or RST
	Spoofed             // a source that is not the host's
	Signed              // TCP-MD5 or TCP-AO, which cannot be shifted
	NoHandshake         // the start of the connection was not seen
	Handshake           // not before the peer has agreed
	NoAck               // a segment without acknowledgement
	AckRange            // an acknowledgement of what was not sent, or long ago
	Closed              // the host has reset the connection
	Blocked             // the peer has ended the connection
	Stopped             // the peer has ended the coarse conversation
	ResetLimit          // more RSTs than there was something to answer
	TableFull           // no room for a new connection
	Unshifted           // an ICMP error whose quote cannot be shifted back
	Challenge           // an inexact RST, answered by the gateway's challenge
	Control             // a message to the gateway

	Learnt       // a source of the host
	Block        // a valid RST
	CoarseBlock  // a port that answered many new connections by RST
	InexactReset // a RST that proves nothing, and was not challenged; the host may judge
	Quoted       // an ICMP error whose quote was shifted back
	SACK         // a segment with selective acknowledgements
	Opened       // a new connection
	Untracked    // passed although its start was not seen
	EventLost    // an event lost because the ring was full
	Reasons      // the number of reasons
)

var reasonNames = [Reasons]string{
	"passed-out", "passed-in", "not-ip", "malformed", "nested", "source-routed", "fragment", "options", "flags",
	"spoofed", "signed", "no-handshake", "handshake", "no-ack", "ack-range", "closed", "blocked", "stopped",
	"reset-limit", "table-full", "unshifted", "challenge", "control",
	"learnt", "block", "coarse-block", "inexact-reset", "quoted", "sack", "opened", "untracked", "event-lost",
}

// String is the name of a Reason in events and counters.
func (r Reason) String() string {
	if r < Reasons {
		return reasonNames[r]
	}
	return "reason-" + strconv.Itoa(int(r))
}

// Dropped reports whether a packet with this reason is dropped.
func (r Reason) Dropped() bool { return r > PassedIn && r <= Control }
