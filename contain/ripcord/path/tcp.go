package path

// tcp judges a segment and shifts its numbers.
func (p *Path) tcp(f *frame, s *segment, side Side) Reason {
	var o options
	if why := p.readSegment(f, s, &o); why > PassedIn {
		return why
	}
	if side == Out && p.stopped(f, s.first()) {
		return Stopped
	}
	host, peer := f.ends(side)
	ends := Ends{host, peer}
	c := p.Conns[ends]
	why := p.judgeSegment(c, f, s, side)
	if p.Settings.FailOpen && (why == NoHandshake || why == TableFull) {
		p.count(Untracked)
		if why == TableFull {
			p.tell(f, s, side, Untracked)
		}
		return passed(side)
	}
	if why == InexactReset {
		p.count(InexactReset)
		why = PassedIn
	}
	if why > PassedIn {
		return why
	}
	if c == nil {
		c = p.Conns[ends] // begun just now
	}
	if c == nil || c.In|c.Out == 0 {
		return passed(side)
	}
	seq, ack := c.Out, -c.In
	if side == In {
		seq, ack = c.In, -c.Out
	}
	f.shiftSegment(seq, ack, &o)
	if o.sackLen > 0 {
		p.count(SACK)
	}
	return passed(side)
}

func (p *Path) readSegment(f *frame, s *segment, o *options) Reason {
	if f.piece != whole {
		return Fragment
	}
	if f.len < 20 {
		return Malformed
	}
	f.sport, f.dport = f.u16(f.l4), f.u16(f.l4+2)
	b := f.b[f.l4:]
	head := uint32(b[12]>>4) * 4
	if head < 20 || head > f.len {
		return Malformed
	}
	s.flags = b[13] & (flagFIN | flagSYN | flagRST | flagACK)
	s.seq, s.ack = f.u32(f.l4+4), f.u32(f.l4+8)
	s.len = f.len - head
	s.span = s.len + uint32(s.flags>>1&1) + uint32(s.flags&1)
	s.now = p.now()
	if s.flags&flagSYN != 0 && s.flags&(flagFIN|flagRST) != 0 {
		return Flags
	}
	// The kernel skips the walk for a lone time stamp; so it is here.
	if head == 32 && f.u32(f.l4+20) == 0x0101080a {
		return 0
	}
	o.walk(b[20:head])
	s.sign = o.sign
	if o.broken {
		return Options
	}
	return 0
}

func (p *Path) judgeSegment(c *Conn, f *frame, s *segment, side Side) Reason {
	if s.first() {
		if side == Out {
			switch {
			case c != nil && c.State == Ended && int32(c.Until-s.now) > 0:
				return Blocked
			case c != nil && c.State != Ended && c.repeats(s):
				return PassedOut
			}
			return p.open(f, s, c, Out)
		}
		if c != nil && c.State != Ended && !c.Over() {
			c.synIn(s)
			return PassedIn
		}
		return p.open(f, s, c, In)
	}
	if c == nil {
		return NoHandshake
	}
	if side == Out {
		return c.outgoing(s)
	}
	fresh := c.State == Handshaking && c.Seen&SYNOut != 0
	why := c.incoming(s, p.Settings.BlockMS)
	if why != Block {
		return why
	}
	p.count(Block)
	p.tell(f, s, In, Block)
	if fresh {
		p.countReset(f, s)
	}
	return PassedIn
}

// open takes the first SYN of a connection; old is what the ports were used for
// before, if that is remembered.
func (p *Path) open(f *frame, s *segment, old *Conn, side Side) Reason {
	n := Conn{State: Handshaking, Credits: 1, LastSeen: s.now, LoSince: s.now}
	if s.sign {
		if !p.Settings.SignedPass {
			return Signed
		}
		n.Seen = Exempt
	}
	host, peer := f.ends(side)
	random := p.draw(host, peer)
	if random == 0 {
		return TableFull
	}
	family := 0
	if f.v6 {
		family = 1
	}
	if old == nil && p.conns[family] >= p.Room[family] {
		return TableFull
	}
	n.shifts(s, old, random, side)
	if p.Settings.Observe || n.Seen&Exempt != 0 {
		n.In, n.Out = 0, 0
	}
	if side == Out {
		n.Sent = s.now
		n.ISNOut = s.seq + n.Out
		n.OutUna, n.OutNext = n.ISNOut, n.ISNOut+s.span
		n.Seen |= SYNOut
	} else {
		n.Sent = s.now - 0x7fffffff // never
		n.peerSYN(s)
		// Whoever ended the last one gets no data before it agreed.
		if s.len > 0 && (old == nil || old.State != Ended) {
			n.Seen |= Early
		}
	}
	if old != nil {
		*old = n
	} else {
		p.Conns[Ends{host, peer}] = &n
		p.conns[family]++
	}
	p.count(Opened)
	return passed(side)
}

// shifts draws what is added to both sides' numbers. A side in TIME_WAIT takes
// numbers above the last ones only.
func (c *Conn) shifts(s *segment, old *Conn, random uint64, side Side) {
	c.Out, c.In = uint32(random), uint32(random>>32)
	switch {
	case old == nil:
	case side == Out:
		c.Out = old.OutNext + 1 + c.Out&step - s.seq
	default:
		c.In = old.InNext + old.In + 1 + c.In&step - s.seq
	}
}
