package path

// State of a connection.
type State uint8

// The states.
const (
	Handshaking State = iota
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
	Early        // the peer's SYN had data (RFC 7413)
	Exempt       // signed segments: nothing is shifted
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
	// AckHi is the highest acknowledgement let out; LoCur and LoPrev the
	// lowest in the spell that began at LoSince and the one before.
	AckHi, LoCur, LoPrev, LoSince uint32
	// LastSeen is the last packet, Sent the host's last.
	LastSeen, Sent uint32
	// Until is when an Ended connection may begin anew.
	Until   uint32
	State   State
	Seen    Seen
	Credits uint8 // RSTs the host may send
	Inexact uint8 // RSTs that were not valid
}

const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16

	recent    = 3000          // ms; see acknowledge
	maxWindow = 1<<30 + 1<<16 // nothing further ahead is sent (RFC 7323)
	step      = 0x0fffffff    // how far above the last a new incarnation begins, at most
)

type segment struct {
	seq, ack uint32
	len      uint32 // of the payload
	span     uint32 // payload, SYN and FIN
	now      uint32
	flags    uint8
	sign     bool
}

func (s *segment) first() bool { return s.flags&(flagSYN|flagACK) == flagSYN }

// before compares sequence numbers (RFC 9293, section 3.4).
func before(a, b uint32) bool { return int32(a-b) < 0 }

func within(lo, a, hi uint32) bool { return a-lo <= hi-lo }

// Over tells that both sides have closed, or the host has reset: the ports may
// be used again.
func (c *Conn) Over() bool {
	return c.State == Reset || c.Seen&(FINOut|FINIn) == FINOut|FINIn
}

// lowest is the lowest acknowledgement let out recently.
func (c *Conn) lowest(now uint32) uint32 {
	age := now - c.LoSince
	if age >= 2*recent {
		return c.AckHi
	}
	if age >= recent || before(c.LoCur, c.LoPrev) {
		return c.LoCur
	}
	return c.LoPrev
}

// acknowledge checks an acknowledgement on its way out, and remembers it for
// one to two spells.
func (c *Conn) acknowledge(ack, now uint32) Reason {
	if age := now - c.LoSince; age >= recent {
		c.LoPrev = c.AckHi
		if age < 2*recent {
			c.LoPrev = c.LoCur
		}
		c.LoCur, c.LoSince = c.AckHi, now
	}
	if !within(c.lowest(now), ack, c.InNext) {
		return AckRange
	}
	if before(c.AckHi, ack) {
		c.AckHi = ack
	}
	if before(ack, c.LoCur) {
		c.LoCur = ack
	}
	return PassedOut
}

// owed takes an answer to something that came in, of which each allows one.
func (c *Conn) owed() bool {
	if c.Credits == 0 {
		return false
	}
	c.Credits--
	return true
}

func (c *Conn) owe() {
	if c.Credits < 255 {
		c.Credits++
	}
}

// outgoing judges a segment of the host that begins no connection.
func (c *Conn) outgoing(s *segment) Reason {
	why := c.mayLeave(s)
	if why == PassedOut {
		c.LastSeen, c.Sent = s.now, s.now
	}
	return why
}

func (c *Conn) mayLeave(s *segment) Reason {
	seq, ack := s.seq+c.Out, s.ack-c.In
	switch {
	case c.State == Ended:
		return Blocked
	case s.flags&flagRST != 0:
		if !c.owed() {
			return ResetLimit
		}
		if c.State == Established {
			c.State = Reset
		}
		return PassedOut
	case c.State == Reset:
		return Closed
	case s.flags&flagACK == 0:
		return NoAck
	case c.State == Handshaking:
		if done, why := c.shakingOut(s, seq, ack); done {
			return why
		}
	case s.flags&flagSYN != 0 && seq != c.ISNOut:
		return Handshake
	}
	if why := c.acknowledge(ack, s.now); why != PassedOut {
		return why
	}
	if end := seq + s.span; before(c.OutNext, end) {
		c.OutNext = end
	}
	if s.flags&flagFIN != 0 {
		c.Seen |= FINOut
	}
	if c.Seen&FINSeen != 0 && ack == c.FinIn {
		c.Seen |= FINIn
	}
	return PassedOut
}

// shakingOut judges what the host sends before the peer has agreed; not done
// means that the rules of an open connection hold.
func (c *Conn) shakingOut(s *segment, seq, ack uint32) (done bool, why Reason) {
	switch {
	case c.Seen&SYNIn == 0:
		return true, Handshake
	case s.flags&flagSYN != 0:
		if why := c.acknowledge(ack, s.now); why != PassedOut {
			return true, why
		}
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= SYNOut
		return true, PassedOut
	case c.Seen&Early == 0 || c.Seen&SYNOut == 0:
		// A challenge (RFC 5961, section 4) has no data.
		if s.span != 0 || !c.owed() {
			return true, Handshake
		}
		return true, PassedOut
	}
	return false, 0
}

// validReset tells whether a RST proves that the peer saw what the host sent.
func (c *Conn) validReset(s *segment) bool {
	if c.Seen&SYNOut == 0 {
		return s.seq == c.AckHi // nothing went out; who sent the SYN knows
	}
	if c.Seen&SYNIn != 0 && within(c.lowest(s.now), s.seq, c.AckHi) {
		return true
	}
	first := c.OutUna
	if c.State == Handshaking {
		first = c.ISNOut + 1
	}
	return s.flags&flagACK != 0 && within(first, s.ack, c.OutNext)
}

// incoming notes what a segment of the peer proves; all of them pass, since the
// host judges for itself.
func (c *Conn) incoming(s *segment, blockMS uint32) Reason {
	end := s.seq + s.span
	c.LastSeen = s.now
	c.owe()
	if s.flags&flagRST != 0 {
		return c.reset(s, blockMS)
	}
	if c.State == Handshaking {
		if s.flags&flagACK == 0 || c.Seen&SYNOut == 0 || !within(c.ISNOut+1, s.ack, c.OutNext) {
			return PassedIn
		}
		if s.flags&flagSYN != 0 {
			c.peerSYN(s)
		} else if c.Seen&SYNIn == 0 {
			return PassedIn
		}
		c.State = Established
	}
	if before(c.InNext, end) && end-c.AckHi <= maxWindow {
		c.InNext = end
	}
	if s.flags&flagACK != 0 && within(c.OutUna, s.ack, c.OutNext) {
		c.OutUna = s.ack
	}
	if s.flags&flagFIN != 0 {
		c.FinIn = end
		c.Seen |= FINSeen
	}
	return PassedIn
}

func (c *Conn) reset(s *segment, blockMS uint32) Reason {
	switch {
	case c.State == Ended:
		return PassedIn
	case !c.validReset(s):
		if c.Inexact < 255 {
			c.Inexact++
		}
		return InexactReset
	}
	c.State = Ended
	c.Until = s.now + blockMS
	return Block
}

func (c *Conn) peerSYN(s *segment) {
	c.ISNIn, c.InNext = s.seq, s.seq+s.span
	c.AckHi, c.LoCur, c.LoPrev, c.LoSince = s.seq+1, s.seq+1, s.seq+1, s.now
	c.Seen |= SYNIn
}

// synIn takes a SYN of the peer that begins no new connection: simultaneous
// open, a repetition, or a peer that tries again with another number.
func (c *Conn) synIn(s *segment) {
	c.LastSeen = s.now
	c.owe()
	if c.State == Handshaking && (c.Seen&SYNIn == 0 || s.seq != c.ISNIn) {
		c.peerSYN(s)
	}
}

// repeats tells whether a SYN of the host belongs to this connection.
func (c *Conn) repeats(s *segment) bool {
	seq := s.seq + c.Out
	switch {
	case c.Over():
		return false
	case c.State == Handshaking && c.Seen&SYNOut == 0:
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= SYNOut
	case seq != c.ISNOut:
		return false
	case before(c.OutNext, seq+s.span):
		c.OutNext = seq + s.span
	}
	c.LastSeen, c.Sent = s.now, s.now
	return true
}
