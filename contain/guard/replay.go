package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// Replayed is the result of replaying captures through a guard.
type Replayed struct {
	// First and Last are the times of the first and last packet.
	First, Last flow.Time
	// Report is the guard's report at the end, Stats its counts.
	Report daw.EdgeReport
	Stats  Stats
	// Skipped counts packets that could not be decoded.
	Skipped uint64
	// Worst are the sources with the highest rates at the end.
	Worst []daw.Offender
}

// Replay runs a guard over the packets of captures, one file after the other,
// at the times recorded. It calls event for each action the guard would have
// taken. It is always a dry run without a station.
func Replay(ctx context.Context, c Configuration, files []string, event func(Action)) (Replayed, error) {
	var done Replayed
	c.Station, c.State, c.Standing.Enforce = false, "", false
	if c.Standing.By == "" {
		c.Standing.By, c.Standing.Why = "replay", "what a standing decision would have done"
	}
	if c.Name == "" {
		c.Name, _ = os.Hostname() // only a label here
	}
	var g *Guard
	var p packet.Packet
	take := func(rec capture.Record) error {
		if g == nil {
			var err error
			if g, err = New(c, rec.Time, nil, event); err != nil {
				return err
			}
			done.First, done.Last = rec.Time, rec.Time
		}
		done.Last = max(done.Last, rec.Time)
		if p.Decode(rec.Link, rec.Data, rec.Wire) == nil {
			g.Packet(rec.Time, &p, pathOf(&rec))
		}
		return nil
	}
	for _, path := range files {
		if err := eachPacket(ctx, path, &done.Skipped, take); err != nil {
			return done, err
		}
	}
	if g == nil {
		return done, errors.New("the captures hold no packets")
	}
	g.findPersistent(done.Last)
	done.Report, done.Stats, done.Worst = g.edge.Report(done.Last), g.Stats(), g.edge.Offenders(done.Last, daw.MaxOffenders)
	return done, nil
}

// eachPacket calls take for every packet of a capture file; of a damaged file
// the packets before the damage are used.
func eachPacket(ctx context.Context, path string, skipped *uint64, take func(capture.Record) error) error {
	f, err := capture.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := 0; ; n++ {
		if n&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rec, err := f.Next()
		var skip *capture.SkipError
		var damage *capture.DamageError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &skip):
			*skipped++
			continue
		case errors.As(err, &damage):
			*skipped++
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := take(rec); err != nil {
			return err
		}
	}
}
