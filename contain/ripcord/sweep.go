//go:build linux

package ripcord

import (
	"errors"
	"time"

	"dragnet/contain/ripcord/tables"
)

// sweepConns removes expired connections. now is in milliseconds since boot.
func (g *Gateway) sweepConns(now uint32) error {
	type old struct {
		ends tables.Ends
		conn tables.Conn
	}
	// What is closed is looked at twice: how soon it is forgotten depends on how many
	// there are, and will be at the next sweep if as many come as since the last.
	var over, closed [2][]old
	all := [2]int{}
	g.wire.WholeConns(func(e tables.Ends, c tables.Conn) bool {
		family := familyIndex(e.Host.Addr())
		all[family]++
		switch {
		case g.config.Idle.hasExpired(&c, now):
			over[family] = append(over[family], old{e, c})
		case c.State == tables.Ended || c.Over():
			closed[family] = append(closed[family], old{e, c})
		}
		return true
	})
	var errs []error
	for family, room := range g.wire.Room() {
		kept := all[family] - len(over[family])
		soon := kept + max(0, all[family]-g.kept[family])
		idle := g.config.Idle.whenFilled(soon, room)
		for _, o := range closed[family] {
			if idle.hasExpired(&o.conn, now) {
				over[family] = append(over[family], o)
			}
		}
		for _, o := range over[family] {
			errs = append(errs, g.wire.DeleteConn(o.ends, o.conn))
		}
		g.kept[family] = all[family] - len(over[family])
	}
	return errors.Join(errs...)
}

// sweepHalf removes expired half-open connections. The oldest give way to new ones
// anyway, so that this is not urgent.
func (g *Gateway) sweepHalf(now uint32) error {
	var errs []error
	g.wire.HalfConns(func(e tables.Ends, c tables.Conn) bool {
		if g.config.Idle.hasExpired(&c, now) {
			errs = append(errs, g.wire.DeleteConn(e, c))
		}
		return true
	})
	return errors.Join(errs...)
}

// sweepTables removes other expired entries.
func (g *Gateway) sweepTables(now uint32) error {
	stops, err := g.wire.SweepStops(now)
	g.stops.Set(float64(stops))
	errs := []error{err, g.logWarnings(), g.sweepHalf(now)}
	gone, err := ageSources(g.wire, g.tally.takeWanted(), g.config.Learn.Quiet, now)
	errs = append(errs, err)
	if gone > 0 {
		g.log.Info("removed quiet addresses, since the host uses others", "addresses", gone)
	}
	return errors.Join(append(errs, g.setBudget(), g.record.sync())...)
}

// logWarnings warns of conditions that an administrator should fix.
func (g *Gateway) logWarnings() error {
	sum, err := g.wire.Counters()
	if err != nil {
		return err
	}
	for _, a := range []struct {
		reason tables.Reason
		means  string
	}{
		{tables.Untracked, "packets of untracked connections passed: their peers cannot end them (fail_open)"},
		{tables.TableFull, "new connections refused: the table is full"},
		{tables.EventLost, "events lost: only the counters include them"},
	} {
		if n := sum[a.reason] - g.warned[a.reason]; n > 0 && g.swept {
			g.log.Warn(a.means, "packets", n)
		}
	}
	if g.swept {
		for r, n := range sum {
			g.counted.WithLabelValues(tables.Reason(r).String()).Add(float64(n - g.warned[r]))
		}
	}
	g.warned, g.swept = sum, true
	return nil
}

// whenFilled shortens the time that closed connections are remembered when there
// are many: it makes it less likely that the next use of their ports is taken
// for the last, which matters less than a new connection.
func (i Idle) whenFilled(connections, room int) Idle {
	switch {
	case connections > room/4*3:
		i.Closed = min(i.Closed, time.Second)
	case connections > room/2:
		i.Closed = min(i.Closed, 10*time.Second)
	}
	return i
}

// hasExpired reports whether a connection can be removed.
func (i Idle) hasExpired(c *tables.Conn, now uint32) bool {
	idle := int64(int32(now - c.LastSeen))
	switch {
	case c.State == tables.Ended && int32(c.Until-now) > 0:
		return false // a block in force is never removed
	case c.State == tables.Ended || c.Over():
		return idle > i.Closed.Milliseconds()
	case c.State == tables.Handshaking:
		return idle > i.Handshake.Milliseconds()
	}
	return idle > i.Established.Milliseconds()
}
