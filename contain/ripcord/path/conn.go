package path

import "dragnet/contain/ripcord/state"

const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16

	recent    = 3000          // ms; see acknowledge
	maxWindow = 1<<30 + 1<<16 // nothing further ahead is sent (RFC 7323)
	step      = 0x0fffffff    // how far above the last number a new incarnation may start
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

func (s *segment) isFirstSYN() bool { return s.flags&(flagSYN|flagACK) == flagSYN }

// seqBefore compares sequence numbers (RFC 9293, section 3.4).
func seqBefore(a, b uint32) bool { return int32(a-b) < 0 }

func seqWithin(lo, a, hi uint32) bool { return a-lo <= hi-lo }

// lowestAck is the lowest acknowledgement let out recently.
func (c *conn) lowestAck(now uint32) uint32 {
	age := now - c.LoSince
	if age >= 2*recent {
		return c.AckHi
	}
	if age >= recent || seqBefore(c.LoCur, c.LoPrev) {
		return c.LoCur
	}
	return c.LoPrev
}

// checkAck checks an acknowledgement on its way out, and keeps it for one to
// two periods.
func (c *conn) checkAck(ack, now uint32) state.Reason {
	if age := now - c.LoSince; age >= recent {
		c.LoPrev = c.AckHi
		if age < 2*recent {
			c.LoPrev = c.LoCur
		}
		c.LoCur, c.LoSince = c.AckHi, now
	}
	if !seqWithin(c.lowestAck(now), ack, c.InNext) {
		return state.AckRange
	}
	if seqBefore(c.AckHi, ack) {
		c.AckHi = ack
	}
	if seqBefore(ack, c.LoCur) {
		c.LoCur = ack
	}
	return state.PassedOut
}

// spendCredit uses one of the answers that incoming segments allow, one each.
func (c *conn) spendCredit() bool {
	if c.Credits == 0 {
		return false
	}
	c.Credits--
	return true
}

func (c *conn) addCredit() {
	if c.Credits < 255 {
		c.Credits++
	}
}

// judgeOutgoing judges a segment of the host that is not a first SYN.
func (c *conn) judgeOutgoing(s *segment) state.Reason {
	why := c.checkOutgoing(s)
	if why == state.PassedOut {
		c.LastSeen, c.Sent = s.now, s.now
	}
	return why
}

func (c *conn) checkOutgoing(s *segment) state.Reason {
	seq, ack := s.seq+c.Out, s.ack-c.In
	switch {
	case c.State == state.Ended:
		return state.Blocked
	case s.flags&flagRST != 0:
		if !c.spendCredit() {
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
		if done, why := c.checkHandshake(s, seq, ack); done {
			return why
		}
	case s.flags&flagSYN != 0 && seq != c.ISNOut:
		return state.Handshake
	}
	if why := c.checkAck(ack, s.now); why != state.PassedOut {
		return why
	}
	if end := seq + s.span; seqBefore(c.OutNext, end) {
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

// checkHandshake judges what the host sends before the peer has agreed; not
// done means that the rules of an open connection apply.
func (c *conn) checkHandshake(s *segment, seq, ack uint32) (done bool, why state.Reason) {
	switch {
	case c.Seen&state.SYNIn == 0:
		return true, state.Handshake
	case s.flags&flagSYN != 0:
		if why := c.checkAck(ack, s.now); why != state.PassedOut {
			return true, why
		}
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= state.SYNOut
		return true, state.PassedOut
	case c.Seen&state.Early == 0 || c.Seen&state.SYNOut == 0:
		// A challenge (RFC 5961, section 4) has no data.
		if s.span != 0 || !c.spendCredit() {
			return true, state.Handshake
		}
		return true, state.PassedOut
	}
	return false, 0
}

// validReset reports whether a RST proves that the peer saw what the host sent.
func (c *conn) validReset(s *segment) bool {
	if c.Seen&state.SYNOut == 0 {
		return s.seq == c.AckHi // nothing went out; only the sender of the SYN knows it
	}
	if c.Seen&state.SYNIn != 0 && seqWithin(c.lowestAck(s.now), s.seq, c.AckHi) {
		return true
	}
	first := c.OutUna
	if c.State == state.Handshaking {
		first = c.ISNOut + 1
	}
	return s.flags&flagACK != 0 && seqWithin(first, s.ack, c.OutNext)
}

// judgeIncoming records what a segment of the peer proves; all of them pass,
// since the host judges them itself.
func (c *conn) judgeIncoming(s *segment, blockMS uint32) state.Reason {
	end := s.seq + s.span
	c.LastSeen = s.now
	c.addCredit()
	if s.flags&flagRST != 0 {
		return c.judgeReset(s, blockMS)
	}
	if c.State == state.Handshaking {
		if s.flags&flagACK == 0 || c.Seen&state.SYNOut == 0 || !seqWithin(c.ISNOut+1, s.ack, c.OutNext) {
			return state.PassedIn
		}
		if s.flags&flagSYN != 0 {
			c.recordPeerSYN(s)
		} else if c.Seen&state.SYNIn == 0 {
			return state.PassedIn
		}
		c.State = state.Established
	}
	if seqBefore(c.InNext, end) && end-c.AckHi <= maxWindow {
		c.InNext = end
	}
	if s.flags&flagACK != 0 && seqWithin(c.OutUna, s.ack, c.OutNext) {
		c.OutUna = s.ack
	}
	if s.flags&flagFIN != 0 {
		c.FinIn = end
		c.Seen |= state.FINSeen
	}
	return state.PassedIn
}

func (c *conn) judgeReset(s *segment, blockMS uint32) state.Reason {
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

func (c *conn) recordPeerSYN(s *segment) {
	c.ISNIn, c.InNext = s.seq, s.seq+s.span
	c.AckHi, c.LoCur, c.LoPrev, c.LoSince = s.seq+1, s.seq+1, s.seq+1, s.now
	c.Seen |= state.SYNIn
}

// handlePeerSYN handles a SYN of the peer that opens no new connection:
// simultaneous open, a retransmission, or a peer that tries again with another
// number.
func (c *conn) handlePeerSYN(s *segment) {
	c.LastSeen = s.now
	c.addCredit()
	if c.State == state.Handshaking && (c.Seen&state.SYNIn == 0 || s.seq != c.ISNIn) {
		c.recordPeerSYN(s)
	}
}

// repeatsSYN reports whether a SYN of the host belongs to this connection.
func (c *conn) repeatsSYN(s *segment) bool {
	seq := s.seq + c.Out
	switch {
	case c.isOver():
		return false
	case c.State == state.Handshaking && c.Seen&state.SYNOut == 0:
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= state.SYNOut
	case seq != c.ISNOut:
		return false
	case seqBefore(c.OutNext, seq+s.span):
		c.OutNext = seq + s.span
	}
	c.LastSeen, c.Sent = s.now, s.now
	return true
}
