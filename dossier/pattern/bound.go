package pattern

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/flow/key"
)

// Measure is a number that a clue may bound.
type Measure uint8

// The measures. Bytes are from the IP header on, as 'flow list' shows them. Those up
// to Duration are of one flow, the others count over the flows of one X.
const (
	Bytes    Measure = iota + 1 // both ways
	Sent                        // by X
	Received                    // by X
	Duration
	Flows
	Peers // different other hosts
	Ports // different responder ports
	numMeasures
)

var measureNames = [numMeasures]string{"", "bytes", "sent", "received", "duration", "flows", "peers", "ports"}

// String is the language's word.
func (m Measure) String() string {
	if m > 0 && m < numMeasures {
		return measureNames[m]
	}
	return fmt.Sprintf("Measure(%d)", uint8(m))
}

// Counts reports whether m is over all flows of an X.
func (m Measure) Counts() bool { return m >= Flows }

// BoundStep is a round number, by its place among those of its measure; 0 is no bound.
// Bounds travel in clear, so that a number of many digits would mark a question, or
// the flow it is about, and repeated questions could narrow a number down.
type BoundStep uint8

var durations = [...]time.Duration{
	10 * time.Millisecond, 100 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second,
	30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day,
}

// maxNumberStep is that of 5*10^13.
const maxNumberStep = 42

// Steps is how many steps a measure has: of a duration 10ms to 7d, of numbers 1, 2 or
// 5 times a power of ten.
func (m Measure) Steps() BoundStep {
	if m == Duration {
		return BoundStep(len(durations))
	}
	return maxNumberStep
}

// Value is the number at a step, in bytes, nanoseconds or pieces.
func (m Measure) Value(s BoundStep) uint64 {
	if m == Duration {
		return uint64(durations[s-1])
	}
	v := [...]uint64{1, 2, 5}[(s-1)%3]
	for range (s - 1) / 3 {
		v *= 10
	}
	return v
}

// Bound requires a measure to be at least, or at most, the numbers at two steps.
type Bound struct {
	Measure     Measure
	Least, Most BoundStep
}

// Bounds are those of a clue, one a measure, in ascending order of measure.
type Bounds []Bound

// Validate reports bounds that cannot be written in the language.
func (b Bounds) Validate() error {
	var before Measure
	for _, v := range b {
		switch {
		case v.Measure <= before || v.Measure >= numMeasures:
			return fmt.Errorf("bound of %s: unknown, or out of order", v.Measure)
		case v.Least == 0 && v.Most == 0, v.Least > v.Measure.Steps(), v.Most > v.Measure.Steps(), v.Most > 0 && v.Least > v.Most:
			return fmt.Errorf("bound of %s: from step %d to step %d", v.Measure, v.Least, v.Most)
		case v.Measure.Counts() && v.Most > 0:
			return fmt.Errorf("%s: a count can only be at least a number", v.Measure)
		}
		before = v.Measure
	}
	return nil
}

// Accept reports whether a flow whose X is at end meets the bounds that are of one
// flow. A flow whose source did not state a measure does not meet a bound of it.
func (b Bounds) Accept(f *flow.Flow, end key.End) bool {
	for _, v := range b {
		if v.Measure.Counts() {
			continue
		}
		n, known := v.Measure.of(f, end)
		if !known || v.Least > 0 && n < v.Measure.Value(v.Least) || v.Most > 0 && n > v.Measure.Value(v.Most) {
			return false
		}
	}
	return true
}

func (m Measure) of(f *flow.Flow, end key.End) (n uint64, known bool) {
	sent, received := f.OrigIPBytes, f.RespIPBytes
	if end == key.In {
		sent, received = received, sent
	}
	switch m {
	case Sent:
		return sent, f.Known.Has(flow.Counts)
	case Received:
		return received, f.Known.Has(flow.Counts)
	case Bytes:
		return sent + received, f.Known.Has(flow.Counts)
	}
	return uint64(f.Duration), f.Known.Has(flow.Lasting)
}

// Least is the number that a count must reach, 0 if it is not bounded.
func (b Bounds) Least(m Measure) uint64 {
	for _, v := range b {
		if v.Measure == m && v.Least > 0 {
			return m.Value(v.Least)
		}
	}
	return 0
}

// Count reports whether any bound is of a count.
func (b Bounds) Count() bool {
	return slices.ContainsFunc(b, func(v Bound) bool { return v.Measure.Counts() })
}

// Columns are the optional columns that Accept reads.
func (b Bounds) Columns() (c flow.Columns) {
	for _, v := range b {
		switch {
		case v.Measure == Duration:
			c |= flow.Lasting
		case !v.Measure.Counts():
			c |= flow.Counts
		}
	}
	return c
}

// String is the language's form, such as "bytes>=10M duration<=5s".
func (b Bounds) String() string {
	var out []string
	for _, v := range b {
		if v.Least > 0 {
			out = append(out, v.Measure.String()+">="+v.Measure.format(v.Least))
		}
		if v.Most > 0 {
			out = append(out, v.Measure.String()+"<="+v.Measure.format(v.Most))
		}
	}
	return strings.Join(out, " ")
}

// Clear is all of a clue's conditions that travel in clear, in the language.
func Clear(s StateFilter, b Bounds) string {
	var out []string
	if s != AnyState {
		out = append(out, "state="+s.String())
	}
	if len(b) > 0 {
		out = append(out, b.String())
	}
	return strings.Join(out, " ")
}

var suffixes = []struct {
	name  string
	times uint64
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}}

func (m Measure) format(s BoundStep) string {
	n := m.Value(s)
	if m == Duration {
		if d := time.Duration(n); d < time.Second {
			return d.String()
		}
		return shortDuration(time.Duration(n))
	}
	for _, u := range suffixes {
		if n%u.times == 0 {
			return strconv.FormatUint(n/u.times, 10) + u.name
		}
	}
	return strconv.FormatUint(n, 10)
}

// shortDuration writes whole seconds in the one unit that fits.
func shortDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d%u.unit == 0 {
			return fmt.Sprintf("%d%s", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// parseBound reads ">=10M" or "<=5s" after the measure's name, and adds it to b.
func (b *Bounds) parseBound(m Measure, least bool, value string) error {
	n, err := m.parse(value)
	if err != nil {
		return err
	}
	at, known := slices.BinarySearchFunc(*b, m, func(v Bound, m Measure) int { return cmp.Compare(v.Measure, m) })
	if !known {
		*b = slices.Insert(*b, at, Bound{Measure: m})
	}
	v := &(*b)[at]
	if least {
		v.Least = n
	} else {
		v.Most = n
	}
	switch {
	case m.Counts() && !least:
		return fmt.Errorf("%s: a count can only be at least a number: %s>=N", m, m)
	case v.Least > 0 && v.Most > 0 && v.Least > v.Most:
		return fmt.Errorf("%s: nothing is at least %s and at most %s", m, m.format(v.Least), m.format(v.Most))
	}
	return nil
}

func (m Measure) parse(text string) (BoundStep, error) {
	var n uint64
	if m == Duration {
		d, err := ParseWithin(text)
		if err != nil {
			return 0, err
		}
		n = uint64(d)
	} else {
		digits, times := text, uint64(1)
		for _, u := range suffixes {
			if rest, ok := strings.CutSuffix(text, u.name); ok {
				digits, times = rest, u.times
			}
		}
		v, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%s %q: want a number such as 500, 20k, 10M or 1G", m, text)
		}
		n = v * times
	}
	for s := BoundStep(1); s <= m.Steps(); s++ {
		switch v := m.Value(s); {
		case v == n:
			return s, nil
		case v > n && s > 1:
			return 0, fmt.Errorf("%s %s: this travels in clear, so take a round number: %s or %s", m, text, m.format(s-1), m.format(s))
		case v > n:
			return 0, fmt.Errorf("%s %s: want at least %s", m, text, m.format(s))
		}
	}
	return 0, fmt.Errorf("%s %s: want at most %s", m, text, m.format(m.Steps()))
}
