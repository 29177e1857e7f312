package zeek

import (
	"bytes"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"dragnet/flow"
)

// lastTime bounds what is believed: capture files count seconds in 32 bits, so
// a time from 2106 on is damage, as is one before 1970.
const lastTime = flow.Time(1<<32-1) * flow.Time(time.Second)

// parseSeconds reads a non-negative number of seconds as nanoseconds, exactly;
// digits below a nanosecond are cut off.
func parseSeconds(b []byte) (int64, bool) {
	whole, n := uint64(0), 0
	for n < len(b) && b[n]-'0' <= 9 {
		if n == 18 {
			return 0, false
		}
		whole = whole*10 + uint64(b[n]-'0')
		n++
	}
	switch {
	case n == 0:
		return 0, false
	case n == len(b):
		return toNanos(whole, 0)
	case b[n] != '.':
		return parseScientific(b)
	}
	fraction := b[n+1:]
	if len(fraction) == 6 { // as Zeek writes
		micros, ok := parseCount(fraction)
		if ok {
			return toNanos(whole, micros*1000)
		}
	}
	nanos, unit := uint64(0), uint64(time.Second)
	for _, c := range fraction {
		if c-'0' > 9 {
			return parseScientific(b)
		}
		unit /= 10
		nanos += unit * uint64(c-'0')
	}
	if len(fraction) == 0 {
		return 0, false
	}
	return toNanos(whole, nanos)
}

func toNanos(seconds, nanos uint64) (int64, bool) {
	if seconds >= math.MaxInt64/uint64(time.Second) {
		return 0, false
	}
	return int64(seconds*uint64(time.Second) + nanos), true
}

// parseScientific reads what JSON may write for short or long intervals, such
// as 7.82012939453125e-05.
func parseScientific(b []byte) (int64, bool) {
	e := bytes.IndexAny(b, "eE")
	if e < 0 {
		return 0, false
	}
	sign, exponent := 1, b[e+1:]
	if len(exponent) > 0 && (exponent[0] == '-' || exponent[0] == '+') {
		if exponent[0] == '-' {
			sign = -1
		}
		exponent = exponent[1:]
	}
	shift, ok := parseCount(exponent)
	if !ok || shift > 400 { // beyond what a double can hold
		return 0, false
	}
	whole, fraction, _ := bytes.Cut(b[:e], []byte("."))
	// point is how many of the digits stand before the decimal point.
	point := len(whole) + sign*int(shift)
	digits := append(append(make([]byte, 0, 32), whole...), fraction...)
	nanos := int64(0)
	for i := 0; i < max(point+9, len(digits)); i++ {
		d := byte(0)
		if i < len(digits) {
			if d = digits[i] - '0'; d > 9 {
				return 0, false
			}
		}
		if i >= point+9 {
			continue // below a nanosecond
		}
		if nanos > (math.MaxInt64-9)/10 {
			return 0, false
		}
		nanos = nanos*10 + int64(d)
	}
	return nanos, len(whole) > 0
}

// parseTime reads Zeek's three ways to write a time: seconds since the epoch,
// and in JSON also whole milliseconds or RFC 3339. An integer of 12 digits is
// milliseconds, since as seconds it would be 1,200 years off.
func parseTime(b []byte) (flow.Time, bool) {
	nanos, ok := parseSeconds(b)
	t := flow.Time(nanos)
	if !ok || t > lastTime {
		if millis, whole := parseCount(b); whole && len(b) >= 12 {
			nanos, ok = toNanos(millis/1000, millis%1000*uint64(time.Millisecond))
			t = flow.Time(nanos)
		} else if parsed, err := time.Parse(time.RFC3339Nano, view(b)); err == nil {
			t, ok = flow.FromTime(parsed), true
		}
	}
	return t, ok && t >= 0 && t <= lastTime
}

// parseCount reads a decimal number that fits 64 bits.
func parseCount(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	n := uint64(0)
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

func parsePort(b []byte) (uint16, bool) {
	n, ok := parseCount(b)
	return uint16(n), ok && n <= math.MaxUint16
}

// parseAddr reads an address without its zone, which means nothing off the
// host that logged it; an IPv4-mapped one becomes IPv4.
func parseAddr(b []byte) (netip.Addr, bool) {
	var octets [4]byte
	v, digits, dots := uint(0), 0, 0
	for _, c := range b {
		switch {
		case c-'0' <= 9 && digits < 3 && (digits == 0 || v != 0):
			v = v*10 + uint(c-'0')
			digits++
		case c == '.' && digits > 0 && dots < 3 && v <= 255:
			octets[dots] = byte(v)
			v, digits, dots = 0, 0, dots+1
		default:
			return parseAnyAddr(b)
		}
	}
	if dots != 3 || digits == 0 || v > 255 {
		return netip.Addr{}, false
	}
	octets[3] = byte(v)
	return netip.AddrFrom4(octets), true
}

func parseAnyAddr(b []byte) (netip.Addr, bool) {
	a, err := netip.ParseAddr(view(b))
	return a.Unmap().WithZone(""), err == nil
}

// view is b as a string, without a copy: only for a parser that keeps none of
// it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
