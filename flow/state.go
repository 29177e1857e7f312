package flow

import "fmt"

// State is Zeek's conn_state (Zeek book, "conn.log").
type State uint8

// The states. "Originator" is the sender of the first packet seen.
const (
	StateUnknown State = iota // not stated by the source
	S0                        // attempt seen, no reply
	S1                        // established, not terminated
	SF                        // established and normally terminated
	REJ                       // attempt rejected
	S2                        // established, close attempt by originator seen, no reply
	S3                        // established, close attempt by responder seen, no reply
	RSTO                      // established, originator aborted
	RSTR                      // responder aborted
	RSTOS0                    // originator sent a SYN followed by a RST, no SYN-ACK seen
	RSTRH                     // responder sent a SYN-ACK followed by a RST, no SYN seen
	SH                        // originator sent a SYN followed by a FIN, no SYN-ACK seen
	SHR                       // responder sent a SYN-ACK followed by a FIN, no SYN seen
	OTH                       // no SYN seen: midstream traffic
	numStates
)

var stateNames = [numStates]string{"-", "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"}

// String is Zeek's spelling, "-" when unknown.
func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// ParseState reads Zeek's spelling; ok is false for anything else.
func ParseState(name []byte) (s State, ok bool) {
	// A switch on the converted bytes does not allocate.
	switch string(name) {
	case "-":
		return StateUnknown, true
	case "S0":
		return S0, true
	case "S1":
		return S1, true
	case "SF":
		return SF, true
	case "REJ":
		return REJ, true
	case "S2":
		return S2, true
	case "S3":
		return S3, true
	case "RSTO":
		return RSTO, true
	case "RSTR":
		return RSTR, true
	case "RSTOS0":
		return RSTOS0, true
	case "RSTRH":
		return RSTRH, true
	case "SH":
		return SH, true
	case "SHR":
		return SHR, true
	case "OTH":
		return OTH, true
	}
	return StateUnknown, false
}

func (s State) isEstablished() bool {
	switch s {
	case S1, SF, S2, S3, RSTO, RSTR:
		return true
	}
	return false
}

func (s State) isFailed() bool {
	switch s {
	case S0, REJ, RSTOS0, SH:
		return true
	}
	return false
}
