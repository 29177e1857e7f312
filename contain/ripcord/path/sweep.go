package path

import "dragnet/contain/ripcord/tables"

const (
	sweepMS      = 5000 // between sweeps of one full table, at least
	sweepAgainMS = 250  // the same after one that removed a 16th of the table
)

// hasRoom reports whether a table takes another connection, and makes room if it is
// full.
func (p *Path) hasRoom(family int) bool {
	if p.conns[family] < p.Room[family] {
		return true
	}
	last := &p.Sweeps.Conns4
	if family == 1 {
		last = &p.Sweeps.Conns6
	}
	now := p.nowMS()
	if now-*last < sweepMS {
		return false
	}
	*last = now
	all, gone := p.conns[family], 0
	for e, c := range p.Conns {
		if (e.Host.Addr().Is6()) == (family == 1) && c.Half == 0 && (*conn)(c).hasExpired(now, &p.Settings) {
			delete(p.Conns, e)
			p.conns[family]--
			gone++
		}
	}
	if gone >= all/16 {
		*last = now - (sweepMS - sweepAgainMS)
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
