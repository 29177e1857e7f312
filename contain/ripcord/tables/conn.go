package tables

// TCPState is the state of a connection.
type TCPState uint8

// The states.
const (
	Handshaking TCPState = iota
	Established
	Reset // by the host
	Ended // by the peer
)

// Seen is what was seen of a connection.
type Seen uint8

// What is seen.
const (
	SYNOut  Seen = 1 << iota
	SYNIn        //
	FINOut       //
	FINSeen      // the peer's, not yet acknowledged by the host
	FINIn        // acknowledged
	Early        // the peer's SYN had data and a cookie granted to it (RFC 7413)
	Exempt       // signed segments: nothing is shifted
	Probed       // Probe is set
)

// Conn is a TCP connection as the gateway keeps it; the layout is struct conn
// of contain/ripcord/bpf/maps.h. Sequence numbers are as on the network side; times are
// milliseconds since boot.
type Conn struct {
	// Out is added to the host's sequence numbers, In to the peer's on their
	// way to the host.
	Out, In       uint32
	ISNOut, ISNIn uint32
	// OutNext ends what the host sent, OutUna what of it was acknowledged.
	OutNext, OutUna uint32
	// InNext ends what the peer sent; FinIn is where its FIN ends.
	InNext, FinIn uint32
	// AckHi is the highest acknowledgement let out, Probe that of the gateway's
	// last challenge.
	AckHi, Probe uint32
	// LastSeen is the last packet, Sent the host's last.
	LastSeen, Sent uint32
	// Until is when the host may open the connection again that the peer has
	// ended; of an Established one, when the next challenge may leave.
	Until   uint32
	State   TCPState
	Seen    Seen
	Credits uint8 // RSTs the host may send
	Inexact uint8 // RSTs that were not valid
	Grants  uint8 // segments the host may send before the peer has agreed
	Half    uint8 // 1 until the peer has agreed to a connection that it began
	// Reopen is 1 for an Ended connection to which both had agreed: the host may
	// begin another at once.
	Reopen uint8
	// FinLoose is 1 if the peer's FIN came in a fragment: FinIn is the least it can be.
	FinLoose uint8
}

// Over reports whether both sides have closed or the host has reset, so that
// the ports may be used again.
func (c *Conn) Over() bool {
	return c.State == Reset || c.Seen&(FINOut|FINIn) == FINOut|FINIn
}
