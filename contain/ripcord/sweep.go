//go:build linux

package ripcord

import (
	"errors"

	"dragnet/contain/ripcord/state"
)

// sweep forgets what is over. now is in milliseconds since boot.
func (g *Gateway) sweep(now uint32) error {
	type old struct {
		ends state.Ends
		conn state.Conn
	}
	var over []old
	g.wire.Conns(func(e state.Ends, c state.Conn) bool {
		if g.config.Idle.over(&c, now) {
			over = append(over, old{e, c})
		}
		return true
	})
	var errs []error
	for _, o := range over {
		errs = append(errs, g.wire.Forget(o.ends, o.conn))
	}
	errs = append(errs, g.wire.SweepStops(now), g.alarm())
	gone, err := ageSources(g.wire, g.told.takeWanted(), g.config.Learn.Quiet, now)
	errs = append(errs, err)
	if gone > 0 {
		g.log.Info("addresses were quiet and are forgotten, since the host uses others", "addresses", gone)
	}
	return errors.Join(append(errs, g.setBudget(), g.record.sync())...)
}

// alarm warns of what an administrator should change.
func (g *Gateway) alarm() error {
	sum, err := g.wire.Counters()
	if err != nil {
		return err
	}
	for _, a := range []struct {
		reason state.Reason
		means  string
	}{
		{state.Untracked, "packets pass whose connection is not tracked: the peer cannot end it (fail_open)"},
		{state.TableFull, "new connections are refused: the table is full"},
		{state.EventLost, "events were lost: the counters have them"},
	} {
		if n := sum[a.reason] - g.warned[a.reason]; n > 0 && g.swept {
			g.log.Warn(a.means, "packets", n)
		}
	}
	g.warned, g.swept = sum, true
	return nil
}

// over tells whether a connection can be forgotten.
func (i Idle) over(c *state.Conn, now uint32) bool {
	idle := int64(int32(now - c.LastSeen))
	switch {
	case c.State == state.Ended && int32(c.Until-now) > 0:
		return false // a block is never forgotten
	case c.State == state.Ended || c.Over():
		return idle > i.Closed.Milliseconds()
	case c.State == state.Handshaking:
		return idle > i.Handshake.Milliseconds()
	}
	return idle > i.Established.Milliseconds()
}
