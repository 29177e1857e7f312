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

// Replayed is what a guard made of captures.
type Replayed struct {
	// First and Last are the times of the first and last packet.
	First, Last flow.Time
	// Report is the guard's at the end, Stats what it did.
	Report daw.Report
	Stats  Stats
	// Skipped counts packets that could not be used.
	Skipped uint64
	// Worst are the sources with the highest rates at the end.
	Worst []daw.Offender
}

// Replay shows a guard the packets of captures, one file after the other, in
// their own time. What it would have done goes to event. Whatever the
// configuration says, it is a dry run without a station.
func Replay(ctx context.Context, c Configuration, files []string, event func(Event)) (Replayed, error) {
	var done Replayed
	c.Station, c.State, c.Standing.Enforce = "", "", false
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
			g.Packet(rec.Time, &p)
		}
		return nil
	}
	for _, path := range files {
		if err := each(ctx, path, &done.Skipped, take); err != nil {
			return done, err
		}
	}
	if g == nil {
		return done, errors.New("the captures hold no packets")
	}
	g.look(done.Last)
	done.Report, done.Stats, done.Worst = g.edge.Report(done.Last), g.Stats(), g.edge.Offenders(done.Last, daw.MaxOffenders)
	return done, nil
}

// each calls take for every packet of a capture file; one that ends in damage
// is used as far as it goes.
func each(ctx context.Context, path string, skipped *uint64, take func(capture.Record) error) error {
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
