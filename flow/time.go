package flow

import (
	"fmt"
	"math"
	"time"
)

// Time is nanoseconds since the Unix epoch, UTC. It reaches from 1677 to 2262.
type Time int64

// The ends of what Time can hold.
const (
	MinTime Time = math.MinInt64
	MaxTime Time = math.MaxInt64
)

// FromTime converts t; instants that Time cannot hold become its nearest end.
func FromTime(t time.Time) Time {
	switch s := t.Unix(); {
	case s > math.MaxInt64/int64(time.Second)-1:
		return MaxTime
	case s < math.MinInt64/int64(time.Second)+1:
		return MinTime
	}
	return Time(t.UnixNano())
}

// Time converts to the standard library's time, in UTC.
func (t Time) Time() time.Time { return time.Unix(0, int64(t)).UTC() }

// String is RFC 3339 in UTC with as many decimals as needed.
func (t Time) String() string { return t.Time().Format(time.RFC3339Nano) }

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	return t.Time().AppendFormat(nil, time.RFC3339Nano), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Time) UnmarshalText(b []byte) error {
	p, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("time %q is not RFC 3339, such as 2026-11-22T10:00:00Z", b)
	}
	*t = FromTime(p)
	return nil
}

// Window is the half-open span [From, To). The zero value of To means "no
// end", so the zero Window holds every time from 1970 on; AllTime holds all.
type Window struct {
	From Time `json:"from"`
	To   Time `json:"to"`
}

// AllTime is the window without bounds.
var AllTime = Window{From: MinTime}

// Contains reports whether t lies in the window.
func (w Window) Contains(t Time) bool {
	return t >= w.From && (w.To == 0 || t < w.To)
}
