package path

import "dragnet/contain/ripcord/tables"

// judgeTCP judges a segment and shifts its numbers.
func (p *Path) judgeTCP(f *frame, s *segment, side tables.Side) tables.Reason {
	var o options
	if f.piece != whole && side == tables.Out {
		return tables.Fragment
	}
	if why := p.readSegment(f, s, &o); why > tables.PassedIn {
		return why
	}
	if side == tables.Out && p.isStopped(f, s.isFirstSYN()) {
		p.noteConversation(f)
		return tables.Stopped
	}
	if side == tables.Out && s.isFirstSYN() && s.len > 0 && !p.maySendEarly(f, &o) {
		return tables.Handshake
	}
	var mask uint64
	if o.cookie > 0 && side == tables.In && s.isFirstSYN() {
		mask = p.checkCookie(f, s, &o)
	}
	host, peer := f.hostAndPeer(side)
	ends := tables.Ends{Host: host, Peer: peer}
	c := p.Conns[ends]
	last := s.now - 0x7fffffff
	if c != nil {
		last = c.Sent
	}
	why := p.judgeSegment((*conn)(c), f, s, side)
	if why == tables.Challenge {
		why = p.challenge(f, s, (*conn)(c))
	}
	if p.Settings.FailOpen && (why == tables.NoHandshake || why == tables.TableFull) {
		p.count(tables.Untracked)
		if why == tables.TableFull {
			p.emitEvent(f, s, side, tables.Untracked)
		}
		return passReason(side)
	}
	if why == tables.InexactReset {
		p.count(tables.InexactReset)
		why = tables.PassedIn
	}
	if why > tables.PassedIn {
		return why
	}
	if c == nil {
		c = p.Conns[ends] // opened just now
	} else if side == tables.In && c.Half == 1 && c.State == tables.Established {
		if room := p.promote(c, f); !room && !p.Settings.FailOpen {
			c.State = tables.Handshaking
			return tables.TableFull
		}
	}
	if side == tables.Out && s.now-last > 200 {
		p.noteHop(f)
	}
	if c == nil || c.In|c.Out == 0 {
		return passReason(side)
	}
	by := shift{seq: c.In, ack: -c.Out, edge: -c.Out, mask: mask}
	if side == tables.Out {
		by = shift{seq: c.Out, ack: (*conn)(c).raisedAck(s), edge: -c.In}
		if o.cookie > 0 && s.flags&(flagSYN|flagACK) == flagSYN|flagACK {
			by.mask = p.grantCookie(f, &o)
		}
	}
	if o.cookie > 0 && side == tables.In && s.flags&(flagSYN|flagACK) == flagSYN|flagACK && c.State == tables.Established && s.seq == c.ISNIn {
		p.PeerCookies[tables.Grant{Host: f.dst, Peer: f.src}] = f.cookieAt(&o)
	}
	f.shiftSegment(by, &o)
	if o.sackLen > 0 {
		p.count(tables.SACK)
	}
	return passReason(side)
}

func (p *Path) readSegment(f *frame, s *segment, o *options) tables.Reason {
	if f.len < 20 {
		return tables.Malformed
	}
	f.sport, f.dport = f.u16(f.l4), f.u16(f.l4+2)
	b := f.b[f.l4:]
	head := uint32(b[12]>>4) * 4
	if head < 20 || head > f.len {
		return tables.Malformed
	}
	s.flags = b[13] & (flagFIN | flagSYN | flagRST | flagACK)
	s.seq, s.ack = f.u32(f.l4+4), f.u32(f.l4+8)
	s.len = f.len - head
	s.span = s.len + uint32(s.flags>>1&1) + uint32(s.flags&1)
	s.now = p.nowMS()
	if s.flags&flagSYN != 0 && s.flags&(flagFIN|flagRST) != 0 {
		return tables.Flags
	}
	if f.piece == first {
		// All that is judged and shifted is in the first fragment, but not how
		// long the segment is.
		if s.flags&(flagSYN|flagRST) != 0 || s.flags&flagACK == 0 {
			return tables.Fragment
		}
		s.first, s.have = true, s.len
		s.len, s.span = maxDatagram, maxDatagram+uint32(s.flags&flagFIN)
	}
	// The kernel does not parse a lone timestamp option; nor does this.
	if head == 32 && f.u32(f.l4+20) == 0x0101080a {
		return 0
	}
	o.parseList(b[20:head])
	s.sign = o.sign
	if o.broken {
		return tables.Options
	}
	return 0
}

func (p *Path) judgeSegment(c *conn, f *frame, s *segment, side tables.Side) tables.Reason {
	if s.isFirstSYN() {
		if side == tables.Out {
			switch {
			case c != nil && c.bars(s.now):
				return tables.Blocked
			case c != nil && c.State != tables.Ended:
				if why := c.repeatSYN(s); why != tables.NoHandshake {
					return why
				}
			}
			return p.openConn(f, s, c, tables.Out)
		}
		if c != nil && c.State != tables.Ended && !c.isOver() {
			c.handlePeerSYN(s)
			return tables.PassedIn
		}
		return p.openConn(f, s, c, tables.In)
	}
	if c == nil {
		return tables.NoHandshake
	}
	if side == tables.Out {
		return c.judgeOutgoing(s)
	}
	fresh := c.State == tables.Handshaking && c.Seen&tables.SYNIn == 0
	why := c.judgeIncoming(s, &p.Settings)
	if why != tables.Block {
		return why
	}
	p.count(tables.Block)
	p.emitEvent(f, s, tables.In, tables.Block)
	if fresh {
		p.countReset(f, s)
	}
	return tables.PassedIn
}

// openConn handles the first SYN of a connection; old is the previous
// connection of the same ports, if still kept.
func (p *Path) openConn(f *frame, s *segment, old *conn, side tables.Side) tables.Reason {
	n := conn{State: tables.Handshaking, Credits: 1, LastSeen: s.now, Until: s.now}
	// Anybody can send a SYN in the peer's name: until it agrees, the end of
	// the last connection holds.
	if old != nil && old.bars(s.now) {
		n.Until = old.Until
	}
	if s.sign {
		if !p.Settings.SignedPass {
			return tables.Signed
		}
		n.Seen = tables.Exempt
	}
	host, peer := f.hostAndPeer(side)
	random := p.drawNonce(host, peer)
	if random == 0 {
		return tables.TableFull
	}
	family := 0
	if f.v6 {
		family = 1
	}
	switch {
	case old != nil:
		n.Half = old.Half
	case side == tables.In:
		n.Half = 1 // in another table
	case !p.hasRoom(family):
		return tables.TableFull
	}
	n.drawShifts(s, old, random, side)
	if p.Settings.Observe || n.Seen&tables.Exempt != 0 {
		n.In, n.Out = 0, 0
	}
	if side == tables.Out {
		n.Sent = s.now
		n.ISNOut = s.seq + n.Out
		n.OutUna, n.OutNext = n.ISNOut, n.ISNOut+s.span
		n.Seen |= tables.SYNOut
	} else {
		n.Sent = s.now - 0x7fffffff // never
		n.recordPeerSYN(s)
		// A peer that ended the last connection gets no data before it agrees.
		n.Grants = synAcks
		if s.len > 0 && s.cookie && (old == nil || !old.bars(s.now)) {
			n.Seen |= tables.Early
			n.Grants = earlySegs
		}
	}
	if old != nil {
		*old = n
	} else {
		p.Conns[tables.Ends{Host: host, Peer: peer}] = (*tables.Conn)(&n)
		if n.Half == 0 {
			p.conns[family]++
		}
	}
	p.count(tables.Opened)
	return passReason(side)
}

// promote moves a connection to which its peer has just agreed, if there is room.
func (p *Path) promote(c *tables.Conn, f *frame) bool {
	family := 0
	if f.v6 {
		family = 1
	}
	if !p.hasRoom(family) {
		return false
	}
	p.conns[family]++
	c.Half = 0
	return true
}

// drawShifts draws what is added to both sides' numbers. A side in TIME_WAIT
// accepts only numbers above the last ones.
func (c *conn) drawShifts(s *segment, old *conn, random uint64, side tables.Side) {
	c.Out, c.In = uint32(random), uint32(random>>32)
	switch {
	case old == nil:
	case side == tables.Out:
		c.Out = old.OutNext + 1 + c.Out&step - s.seq
	default:
		c.In = old.InNext + old.In + 1 + c.In&step - s.seq
	}
}
