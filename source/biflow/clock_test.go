package biflow

import (
	"net/netip"
	"testing"
	"time"

	"dragnet/flow"
)

// TestClocksOfExporters: what an exporter with a wrong clock, or a forger, says
// of times is bounded, kept relative where it can be, and counted.
func TestClocksOfExporters(t *testing.T) {
	const now, hour = 1_800_000_000 * second, 3600 * second
	for name, c := range map[string]struct {
		sent, start       flow.Time
		lasting           time.Duration
		maxSkew           time.Duration
		wantStart         flow.Time
		wantLasting       time.Duration
		wantSkew          time.Duration
		wantOff           uint64
		wantKnowsDuration bool
	}{
		"right":                            {now - second, now - 60*second, time.Minute, 600e9, now - 60*second, time.Minute, 0, 0, true},
		"a little off":                     {now - 599*second, now - 620*second, time.Second, 600e9, now - 620*second, time.Second, 0, 0, true},
		"an hour behind":                   {now - hour, now - hour - 60*second, time.Minute, 600e9, now - 60*second, time.Minute, -time.Hour, 1, true},
		"an hour ahead":                    {now + hour, now + hour - 60*second, time.Minute, 600e9, now - 60*second, time.Minute, time.Hour, 1, true},
		"in 1970":                          {second, 0, time.Second, 600e9, now - second, time.Second, time.Duration(second - now), 1, true},
		"started a week ago":               {now, now - 168*hour, 168 * time.Hour, 600e9, now - 168*hour, 168 * time.Hour, 0, 0, true},
		"started years ago":                {now, now - 24*365*hour, time.Hour, 600e9, now, 0, -24 * 365 * time.Hour, 1, false},
		"to begin years from now":          {now, now + 24*365*hour, time.Hour, 600e9, now, 0, 24 * 365 * time.Hour, 1, false},
		"2242":                             {now, 1 << 33 * second, time.Hour, 600e9, now, 0, time.Duration(1<<33*second - now), 1, false},
		"without a clock":                  {0, now, 0, 600e9, now, 0, 0, 0, true},
		"wrong clock and wrong times":      {now + hour, now, time.Hour, 600e9, now - hour, time.Hour, time.Hour, 1, true},
		"wrong clock and right times":      {now - 24*hour, now - 60*second, time.Minute, 600e9, now - 60*second, time.Minute, 0, 0, true},
		"every clock is believed":          {second, 0, time.Second, 0, 0, time.Second, 0, 0, true},
		"believed, even the year 2242":     {now, 1 << 33 * second, time.Hour, 0, 1 << 33 * second, time.Hour, 0, 0, true},
		"started before the clock was set": {now, 5 * second, time.Hour, 600e9, now, 0, time.Duration(5*second - now), 1, false},
	} {
		var got []flow.Flow
		config := DefaultConfiguration()
		config.MaxSkew = c.maxSkew
		j := New(config, func(f *flow.Flow) { got = append(got, *f) })
		r := record(client, server, 40000, 80, flow.SYN, c.start, 1)
		r.Duration, r.Sent, r.Known = c.lasting, c.sent, flow.Lasting|flow.Flags
		r.Exporter = netip.MustParseAddr("192.0.2.1")
		j.Add(now, &r)
		j.Flush()
		q := j.Qualities()[r.Exporter]
		if len(got) != 1 || got[0].Start != c.wantStart || got[0].Duration != c.wantLasting || q.ClockOff != c.wantOff || q.Skew != c.wantSkew || got[0].Known.Has(flow.Lasting) != c.wantKnowsDuration {
			t.Errorf("%s: %+v, off %d, skew %v", name, got, q.ClockOff, q.Skew)
		}
	}
}

// TestOurClockIsSetBack: after it was years ahead for a moment, conversations
// end in time again.
func TestOurClockIsSetBack(t *testing.T) {
	n := 0
	j := New(DefaultConfiguration(), func(*flow.Flow) { n++ })
	for i, now := range []flow.Time{10 * second, 1e8 * second, 20 * second, 21 * second} {
		r := record(client, server, uint16(40000+i), 80, flow.SYN, now, 1)
		j.Add(now, &r)
	}
	if j.Advance(130 * second); n != 4 || j.Held() != 0 {
		t.Errorf("%d flows, %d held", n, j.Held())
	}
}
