package path

import "dragnet/contain/ripcord/tables"

const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16

	maxWindow = 1<<30 + 1<<16 // nothing further ahead is sent (RFC 7323)
	step      = 0x0fffffff    // how far above the last number a new incarnation may start
)

const (
	challengeMS = 500 // between challenges of one connection, at least
	synAcks     = 6   // a SYN|ACK and its repetitions
	mostSYNAcks = 16  // where the peer's SYN comes again
	earlySegs   = 64  // to a peer that showed a Fast Open cookie
	earlyOctets = 1 << 16
	maxDatagram = 65535 // of IP, in octets
)

// conn is an entry of the table of connections, and how segments change it.
type conn tables.Conn

func (c *conn) isOver() bool { return (*tables.Conn)(c).Over() }

type segment struct {
	seq, ack uint32
	len      uint32 // of the payload
	span     uint32 // payload, SYN and FIN
	now      uint32
	flags    uint8
	sign     bool
	cookie   bool   // it shows a Fast Open cookie granted to the peer
	first    bool   // the first fragment: len and span are the most they can be
	have     uint32 // of the payload, in this fragment
}

func (s *segment) isFirstSYN() bool { return s.flags&(flagSYN|flagACK) == flagSYN }

// seqBefore compares sequence numbers (RFC 9293, section 3.4).
func seqBefore(a, b uint32) bool { return int32(a-b) < 0 }

func seqWithin(lo, a, hi uint32) bool { return a-lo <= hi-lo }

// checkAck checks an acknowledgement on its way out. One below the highest is
// raised to it (raisedAck), so that a host cannot choose what an answering RST
// carries.
func (c *conn) checkAck(ack uint32) tables.Reason {
	lowest := c.AckHi - maxWindow
	if first := c.ISNIn + 1; c.AckHi-first < maxWindow {
		lowest = first
	}
	if !seqWithin(lowest, ack, c.InNext) {
		return tables.AckRange
	}
	if seqBefore(c.AckHi, ack) {
		c.AckHi = ack
	}
	return tables.PassedOut
}

// raisedAck is what is added to the acknowledgement of a segment of the host.
func (c *conn) raisedAck(s *segment) uint32 {
	if c.State == tables.Established && s.flags&flagRST == 0 && seqBefore(s.ack-c.In, c.AckHi) {
		return c.AckHi - s.ack
	}
	return -c.In
}

// spendGrant uses one of the segments that may leave before the peer has agreed.
func (c *conn) spendGrant() bool {
	if c.Grants == 0 {
		return false
	}
	c.Grants--
	return true
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
func (c *conn) judgeOutgoing(s *segment) tables.Reason {
	why := c.checkOutgoing(s)
	if why == tables.PassedOut {
		c.LastSeen, c.Sent = s.now, s.now
	}
	return why
}

func (c *conn) checkOutgoing(s *segment) tables.Reason {
	seq, ack := s.seq+c.Out, s.ack-c.In
	switch {
	case c.State == tables.Ended:
		return tables.Blocked
	case s.flags&flagRST != 0:
		// A RST may have text (RFC 9293, section 3.5.3); the peer may be anybody, so it
		// has none here.
		if s.len > 0 || !c.spendCredit() {
			return tables.ResetLimit
		}
		if c.State == tables.Established {
			c.State = tables.Reset
		}
		return tables.PassedOut
	case c.State == tables.Reset:
		return tables.Closed
	case s.flags&flagACK == 0:
		return tables.NoAck
	case c.State == tables.Handshaking:
		if done, why := c.checkHandshake(s, seq, ack); done {
			return why
		}
	case s.flags&flagSYN != 0 && seq != c.ISNOut:
		return tables.Handshake
	}
	end := seq + s.span
	if c.isFinished(s, end) {
		return tables.Closed
	}
	if why := c.checkAck(ack); why != tables.PassedOut {
		return why
	}
	if seqBefore(c.OutNext, end) {
		c.OutNext = end
	}
	if s.flags&flagFIN != 0 {
		c.Seen |= tables.FINOut
	}
	if c.Seen&tables.FINSeen != 0 && (ack == c.FinIn || c.FinLoose == 1 && seqWithin(c.FinIn, ack, c.FinIn+maxDatagram)) {
		c.Seen |= tables.FINIn
	}
	return tables.PassedOut
}

// isFinished reports whether a segment has no more place in its connection: nothing
// follows the host's FIN, and when both sides have closed and the peer has acknowledged
// all of it, what is left are answers.
func (c *conn) isFinished(s *segment, end uint32) bool {
	switch {
	case c.Seen&tables.FINOut == 0:
		return false
	case seqBefore(c.OutNext, end):
		return true
	}
	return c.isOver() && c.OutUna == c.OutNext && (s.len > 0 || !c.spendCredit())
}

// checkHandshake judges what the host sends before the peer has agreed; not
// done means that the rules of an open connection apply.
func (c *conn) checkHandshake(s *segment, seq, ack uint32) (done bool, why tables.Reason) {
	switch {
	case c.Seen&tables.SYNIn == 0:
		return true, tables.Handshake
	case s.flags&flagSYN != 0:
		// The peer knows no more yet than that it sent a SYN.
		switch {
		case s.len != 0:
			return true, tables.Handshake
		case ack != c.ISNIn+1 && ack != c.InNext:
			return true, tables.AckRange
		case !c.spendGrant():
			return true, tables.Handshake
		}
		if seqBefore(c.AckHi, ack) {
			c.AckHi = ack
		}
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= tables.SYNOut
		return true, tables.PassedOut
	case c.Seen&tables.Early == 0 || c.Seen&tables.SYNOut == 0:
		// A challenge (RFC 5961, section 4) has no data.
		if s.span != 0 || !c.spendCredit() {
			return true, tables.Handshake
		}
		return true, tables.PassedOut
	case !seqWithin(c.ISNOut, seq+s.span, c.ISNOut+earlyOctets) || !c.spendGrant():
		return true, tables.Handshake
	}
	return false, 0
}

// validReset reports whether a RST proves that the peer saw what the host sent:
// of 2^32 numbers one does, and another for a connection that was challenged
// (RFC 5961, section 3.2, where an inexact one in the window is challenged; here
// any is).
func (c *conn) validReset(s *segment) bool {
	switch {
	case c.Seen&tables.SYNIn != 0 && s.seq == c.AckHi:
		return true
	case c.State == tables.Handshaking:
		return c.Seen&tables.SYNOut != 0 && s.flags&flagACK != 0 && (s.ack == c.ISNOut+1 || s.ack == c.OutNext)
	}
	return c.Seen&tables.Probed != 0 && s.seq == c.Probe
}

// agrees reports whether a segment of the peer acknowledges the host's SYN.
func (c *conn) agrees(s *segment) bool {
	if s.flags&flagACK == 0 || c.Seen&tables.SYNOut == 0 {
		return false
	}
	return s.ack == c.ISNOut+1 || s.ack == c.OutNext || c.Seen&tables.Early != 0 && seqWithin(c.ISNOut+1, s.ack, c.OutNext)
}

// judgeIncoming records what a segment of the peer proves; all of them pass,
// since the host judges them itself.
func (c *conn) judgeIncoming(s *segment, settings *tables.Settings) tables.Reason {
	end := s.seq + s.span
	c.LastSeen = s.now
	c.addCredit()
	if s.flags&flagRST != 0 {
		return c.judgeReset(s, settings)
	}
	if c.State == tables.Handshaking {
		if !c.agrees(s) {
			return tables.PassedIn
		}
		if s.flags&flagSYN != 0 {
			c.recordPeerSYN(s)
		} else if c.Seen&tables.SYNIn == 0 {
			return tables.PassedIn
		}
		c.State, c.Until = tables.Established, s.now
	}
	if seqBefore(c.InNext, end) && end-c.AckHi <= maxWindow {
		c.InNext = end
	}
	if s.flags&flagACK != 0 && seqWithin(c.OutUna, s.ack, c.OutNext) {
		c.OutUna = s.ack
	}
	if s.flags&flagFIN != 0 {
		c.FinIn, c.FinLoose = end, 0
		if s.first {
			c.FinIn, c.FinLoose = s.seq+s.have+1, 1
		}
		c.Seen |= tables.FINSeen
	}
	return tables.PassedIn
}

func (c *conn) judgeReset(s *segment, settings *tables.Settings) tables.Reason {
	switch {
	case c.State == tables.Ended:
		return tables.PassedIn
	case !c.validReset(s):
		if c.Inexact < 255 {
			c.Inexact++
		}
		if c.State == tables.Established && !settings.Observe && c.Seen&tables.Exempt == 0 && int32(s.now-c.Until) >= 0 {
			return tables.Challenge
		}
		return tables.InexactReset
	}
	c.Reopen = 0
	if c.State == tables.Established {
		c.Reopen = 1
	}
	c.State = tables.Ended
	c.Until = s.now + settings.BlockMS
	return tables.Block
}

func (c *conn) recordPeerSYN(s *segment) {
	c.ISNIn, c.InNext = s.seq, s.seq+s.span
	c.AckHi = s.seq + 1
	c.Seen |= tables.SYNIn
}

// handlePeerSYN handles a SYN of the peer that opens no new connection:
// simultaneous open, a retransmission, or a peer that tries again with another
// number.
func (c *conn) handlePeerSYN(s *segment) {
	c.LastSeen = s.now
	c.addCredit()
	if c.State != tables.Handshaking {
		return
	}
	if c.Grants < mostSYNAcks {
		c.Grants++
	}
	if c.Seen&tables.SYNIn == 0 || s.seq != c.ISNIn {
		c.recordPeerSYN(s)
		c.Seen &^= tables.Early
	}
}

// repeatSYN judges a SYN of the host on a connection that is known; NoHandshake
// is one that opens another. A repetition has the first one's data or none,
// since the peer's answer acknowledges either.
func (c *conn) repeatSYN(s *segment) tables.Reason {
	seq := s.seq + c.Out
	switch {
	case c.isOver():
		return tables.NoHandshake
	case c.State == tables.Handshaking && c.Seen&tables.SYNOut == 0:
		if s.len != 0 {
			return tables.Handshake
		}
		c.ISNOut, c.OutUna, c.OutNext = seq, seq, seq+s.span
		c.Seen |= tables.SYNOut
	case seq != c.ISNOut:
		return tables.NoHandshake
	case c.State == tables.Handshaking && s.len != 0 && seq+s.span != c.OutNext:
		return tables.Handshake
	}
	c.LastSeen, c.Sent = s.now, s.now
	return tables.PassedOut
}

// bars reports whether the peer's end of the last connection keeps the host from
// another. One whose start both had agreed to does not: a peer that has forgotten it
// ends it as well, and can refuse the next.
func (c *conn) bars(now uint32) bool {
	return (c.State == tables.Ended && c.Reopen == 0 || c.State == tables.Handshaking) && int32(c.Until-now) > 0
}
