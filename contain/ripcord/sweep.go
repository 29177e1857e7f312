//go:build linux

package ripcord

import (
	"errors"

	"dragnet/contain/ripcord/state"
)

// sweepTables removes expired entries. now is in milliseconds since boot.
func (g *Gateway) sweepTables(now uint32) error {
	type old struct {
		ends state.Ends
		conn state.Conn
	}
	var over []old
	g.wire.Conns(func(e state.Ends, c state.Conn) bool {
		if g.config.Idle.hasExpired(&c, now) {
			over = append(over, old{e, c})
		}
		return true
	})
	var errs []error
	for _, o := range over {
		errs = append(errs, g.wire.DeleteConn(o.ends, o.conn))
	}
	errs = append(errs, g.wire.SweepStops(now), g.logWarnings())
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
		reason state.Reason
		means  string
	}{
		{state.Untracked, "packets of untracked connections passed: their peers cannot end them (fail_open)"},
		{state.TableFull, "new connections refused: the table is full"},
		{state.EventLost, "events lost: only the counters include them"},
	} {
		if n := sum[a.reason] - g.warned[a.reason]; n > 0 && g.swept {
			g.log.Warn(a.means, "packets", n)
		}
	}
	g.warned, g.swept = sum, true
	return nil
}

// hasExpired reports whether a connection can be removed.
func (i Idle) hasExpired(c *state.Conn, now uint32) bool {
	idle := int64(int32(now - c.LastSeen))
	switch {
	case c.State == state.Ended && int32(c.Until-now) > 0:
		return false // a block in force is never removed
	case c.State == state.Ended || c.Over():
		return idle > i.Closed.Milliseconds()
	case c.State == state.Handshaking:
		return idle > i.Handshake.Milliseconds()
	}
	return idle > i.Established.Milliseconds()
}
