package path

import "dragnet/contain/ripcord/tables"

const (
	awayMS  = 15_000 // user space sweeps every second
	sweepMS = 5000   // between sweeps of one table by the programs, at least
)

// isDue reports whether a full table may be swept: user space does not, and last,
// its last sweep, is some time ago.
func (p *Path) isDue(last *uint32) bool {
	now := p.nowMS()
	if now-p.Sweeps.Agent < awayMS || now-*last < sweepMS {
		return false
	}
	*last = now
	return true
}

// hasRoom reports whether a table takes another connection, and makes room if user
// space is away.
func (p *Path) hasRoom(family int) bool {
	if p.conns[family] < p.Room[family] {
		return true
	}
	last := &p.Sweeps.Conns4
	if family == 1 {
		last = &p.Sweeps.Conns6
	}
	if !p.isDue(last) {
		return false
	}
	for e, c := range p.Conns {
		if (e.Host.Addr().Is6()) == (family == 1) && c.Half == 0 && (*conn)(c).hasExpired(p.nowMS(), &p.Settings) {
			delete(p.Conns, e)
			p.conns[family]--
		}
	}
	return p.conns[family] < p.Room[family]
}

// hasExpired reports whether a connection can be forgotten.
func (c *conn) hasExpired(now uint32, s *tables.Settings) bool {
	idle, limit := int32(now-c.LastSeen), s.EstablishedMS
	switch {
	case c.State == tables.Ended && int32(c.Until-now) > 0:
		return false
	case c.State == tables.Ended || c.isOver():
		limit = s.ClosedMS
	case c.State == tables.Handshaking:
		limit = s.HandshakeMS
	}
	return idle > int32(limit)
}
