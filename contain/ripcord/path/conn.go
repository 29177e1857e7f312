package path

import "dragnet/contain/ripcord/state"

const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16

	recent    = 3000          // ms; see acknowledge
	maxWindow = 1<<30 + 1<<16 // nothing further ahead is sent (RFC 7323)
	step      = 0x0fffffff    // how far above the last a new incarnation begins, at most
)

// conn is an entry of the table of connections, and how segments change it.
type conn state.Conn

func (c *conn) isOver() bool { return (*state.Conn)(c).Over() }

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

// lowest is the lowest acknowledgement let out recently.
func (c *conn) lowest(now uint32) uint32 {
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
func (c *conn) acknowledge(ack, now uint32) state.Reason {
	if age := now - c.LoSince; age >= recent {
		c.LoPrev = c.AckHi
		if age < 2*recent {
			c.LoPrev = c.LoCur
		}
		c.LoCur, c.LoSince = c.AckHi, now
	}
	if !within(c.lowest(now), ack, c.InNext) {
		return state.AckRange
	}
	if before(c.AckHi, ack) {
		c.AckHi = ack
	}
	if before(ack, c.LoCur) {
		c.LoCur = ack
	}
	return state.PassedOut
}

// owed takes an answer to something that came in, of which each allows one.
func (c *conn) owed() bool {
	if c.Credits == 0 {
		return false
	}
	c.Credits--
	return true
}

func (c *conn) owe() {
	if c.Credits < 255 {
		c.Credits++
	}
}

// outgoing judges a segment of the host that begins no connection.
func (c *conn) outgoing(s *segment) state.Reason {
	why := c.mayLeave(s)
	if why == state.PassedOut {
		c.LastSeen, c.Sent = s.now, s.now
	}
	return why
}

func (c *conn) mayLeave(s *segment) state.Reason {
	seq, ack := s.seq+c.Out, s.ack-c.In
	switch {
	case c.State == state.Ended:
		return state.Blocked
	case s.flags&flagRST != 0:
		if !c.owed() {
			return state.ResetLimit
		}
		if c.State == state.Established {
			c.State = state.Reset
		}
		return state.PassedOut
	case c.State == state.Reset:
		return state.Closed
	case s.flags&flagACK == 0:
		return state.NoAck
	case c.State == state.Handshaking:
		if done, why := c.shakingOut(s, seq, ack); done {
			return why
		}
	case s.flags&flagSYN != 0 && seq != c.ISNOut:
		return state.Handshake
	}
	if why := c.acknowledge(ack, s.now); why != state.PassedOut {
		return why
	}
	if end := seq + s.span; before(c.OutNext, end) {
		c.OutNext = end
	}
	if s.flags&flagFIN != 0 {
		c.Seen |= state.FINOut
	}
	if c.Seen&state.FINSeen != 0 && ack == c.FinIn {
		c.Seen |= state.FINIn
	}
	return state.PassedOut
}

// shakingOut judges what the host sends before the peer has agreed; not done
// means that the rules of an open connection hold.
func (c *conn) shakingOut(s *segment, seq, ack uint32) (done bool, why state.Reason) {
	switch {
	case c.Seen&state.SYNIn == 0:
		return true, state.Handshake
	case s.flags&flagSYN != 0:
		if why := c.acknowledge(ack, s.now); why != state.PassedOut {
			return true, why
		}
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= state.SYNOut
		return true, state.PassedOut
	case c.Seen&state.Early == 0 || c.Seen&state.SYNOut == 0:
		// A challenge (RFC 5961, section 4) has no data.
		if s.span != 0 || !c.owed() {
			return true, state.Handshake
		}
		return true, state.PassedOut
	}
	return false, 0
}

// validReset tells whether a RST proves that the peer saw what the host sent.
func (c *conn) validReset(s *segment) bool {
	if c.Seen&state.SYNOut == 0 {
		return s.seq == c.AckHi // nothing went out; who sent the SYN knows
	}
	if c.Seen&state.SYNIn != 0 && within(c.lowest(s.now), s.seq, c.AckHi) {
		return true
	}
	first := c.OutUna
	if c.State == state.Handshaking {
		first = c.ISNOut + 1
	}
	return s.flags&flagACK != 0 && within(first, s.ack, c.OutNext)
}

// incoming notes what a segment of the peer proves; all of them pass, since the
// host judges for itself.
func (c *conn) incoming(s *segment, blockMS uint32) state.Reason {
	end := s.seq + s.span
	c.LastSeen = s.now
	c.owe()
	if s.flags&flagRST != 0 {
		return c.reset(s, blockMS)
	}
	if c.State == state.Handshaking {
		if s.flags&flagACK == 0 || c.Seen&state.SYNOut == 0 || !within(c.ISNOut+1, s.ack, c.OutNext) {
			return state.PassedIn
		}
		if s.flags&flagSYN != 0 {
			c.peerSYN(s)
		} else if c.Seen&state.SYNIn == 0 {
			return state.PassedIn
		}
		c.State = state.Established
	}
	if before(c.InNext, end) && end-c.AckHi <= maxWindow {
		c.InNext = end
	}
	if s.flags&flagACK != 0 && within(c.OutUna, s.ack, c.OutNext) {
		c.OutUna = s.ack
	}
	if s.flags&flagFIN != 0 {
		c.FinIn = end
		c.Seen |= state.FINSeen
	}
	return state.PassedIn
}

func (c *conn) reset(s *segment, blockMS uint32) state.Reason {
	switch {
	case c.State == state.Ended:
		return state.PassedIn
	case !c.validReset(s):
		if c.Inexact < 255 {
			c.Inexact++
		}
		return state.InexactReset
	}
	c.State = state.Ended
	c.Until = s.now + blockMS
	return state.Block
}

func (c *conn) peerSYN(s *segment) {
	c.ISNIn, c.InNext = s.seq, s.seq+s.span
	c.AckHi, c.LoCur, c.LoPrev, c.LoSince = s.seq+1, s.seq+1, s.seq+1, s.now
	c.Seen |= state.SYNIn
}

// synIn takes a SYN of the peer that begins no new connection: simultaneous
// open, a repetition, or a peer that tries again with another number.
func (c *conn) synIn(s *segment) {
	c.LastSeen = s.now
	c.owe()
	if c.State == state.Handshaking && (c.Seen&state.SYNIn == 0 || s.seq != c.ISNIn) {
		c.peerSYN(s)
	}
}

// repeats tells whether a SYN of the host belongs to this connection.
func (c *conn) repeats(s *segment) bool {
	seq := s.seq + c.Out
	switch {
	case c.isOver():
		return false
	case c.State == state.Handshaking && c.Seen&state.SYNOut == 0:
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= state.SYNOut
	case seq != c.ISNOut:
		return false
	case before(c.OutNext, seq+s.span):
		c.OutNext = seq + s.span
	}
	c.LastSeen, c.Sent = s.now, s.now
	return true
}
