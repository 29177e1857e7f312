package state

import "strconv"

// Reason says what became of a packet and, when it was dropped, why. The
// numbers are the kernel programs' (enum reason in contain/ripcord/bpf/maps.h).
type Reason uint8

// The reasons. PassedOut and PassedIn crossed; those up to Control were
// dropped; the rest is counted beside the packet's own reason.
const (
	PassedOut    Reason = iota
	PassedIn            //
	NotIP               // the host sent neither IP nor ARP
	Malformed           // a length that cannot be
	Nested              // more than two VLAN tags or six extension headers
	SourceRouted        // the packet names stations on its way
	Fragment            // TCP in fragments
	Options             // an option list that does not add up
	Flags               // SYN together with FIN or RST
	Spoofed             // a source that is not the host's
	Signed              // TCP-MD5 or TCP-AO, which cannot be shifted
	NoHandshake         // the connection's begin was not seen
	Handshake           // not before the peer has agreed
	NoAck               // a segment without acknowledgement
	AckRange            // an acknowledgement of what was not sent, or long ago
	Closed              // the host has reset the connection
	Blocked             // the peer has ended the connection
	Stopped             // the peer has ended the coarse conversation
	ResetLimit          // more RSTs than there was something to answer
	TableFull           // no room for a new connection
	Control             // a letter to the gateway

	Learnt       // a source of the host
	Block        // a valid RST
	CoarseBlock  // a port that answered many new connections by RST
	InexactReset // a RST that proves nothing; the host may judge
	Quoted       // an ICMP error whose quote was shifted back
	SACK         // a segment with selective acknowledgements
	Opened       // a new connection
	Untracked    // passed although its begin was not seen
	EventLost    // an event nobody could be told
	Reasons      // how many there are
)

var reasonNames = [Reasons]string{
	"passed-out", "passed-in", "not-ip", "malformed", "nested", "source-routed", "fragment", "options", "flags",
	"spoofed", "signed", "no-handshake", "handshake", "no-ack", "ack-range", "closed", "blocked", "stopped",
	"reset-limit", "table-full", "control",
	"learnt", "block", "coarse-block", "inexact-reset", "quoted", "sack", "opened", "untracked", "event-lost",
}

// String is the name of a Reason in events and counters.
func (r Reason) String() string {
	if r < Reasons {
		return reasonNames[r]
	}
	return "reason-" + strconv.Itoa(int(r))
}

// Dropped tells whether a packet with this reason does not cross.
func (r Reason) Dropped() bool { return r > PassedIn && r <= Control }
