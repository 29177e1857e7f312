package zeek

import (
	"bytes"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"dragnet/flow"
)

// lastTime bounds valid times: capture files count seconds in 32 bits, so a
// time from 2106 on is damaged, as is one before 1970.
const lastTime = flow.Time(1<<32-1) * flow.Time(time.Second)

// parseSeconds reads a non-negative number of seconds as nanoseconds, exactly;
// digits below a nanosecond are cut off.
func parseSeconds(b []byte) (int64, bool) {
	whole, n := uint64(0), 0
	for n < len(b) && b[n]-'0' <= 9 {
		if whole = whole*10 + uint64(b[n]-'0'); whole > maxSeconds {
			return parseScientific(b)
		}
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
		if micros, ok := parseCount(fraction); ok {
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

const maxSeconds = math.MaxInt64 / uint64(time.Second)

func toNanos(seconds, nanos uint64) (int64, bool) {
	n := seconds*uint64(time.Second) + nanos
	return int64(n), seconds <= maxSeconds && n <= math.MaxInt64
}

// parseScientific reads what JSON may write for short or long intervals, such
// as 7.82012939453125e-05.
func parseScientific(b []byte) (int64, bool) {
	e := bytes.IndexAny(b, "eE")
	if e < 0 {
		return 0, false
	}
	exponent := b[e+1:]
	whole, fraction, point := bytes.Cut(b[:e], []byte("."))
	if len(whole) == 0 || point && len(fraction) == 0 {
		return 0, false
	}
	down := bytes.HasPrefix(exponent, []byte("-"))
	if down || bytes.HasPrefix(exponent, []byte("+")) {
		exponent = exponent[1:]
	}
	shift, ok := parseCount(exponent)
	if !ok || shift > 400 { // no double is so long
		return 0, false
	}
	// places is how many of the digits a number of nanoseconds has.
	places := len(whole) + 9 + int(shift)
	if down {
		places = len(whole) + 9 - int(shift)
	}
	nanos := int64(0)
	for i := range max(places, len(whole)+len(fraction)) {
		c := byte('0')
		if i < len(whole) {
			c = whole[i]
		} else if i < len(whole)+len(fraction) {
			c = fraction[i-len(whole)]
		}
		d := int64(c - '0')
		if d > 9 {
			return 0, false
		}
		if i >= places {
			continue
		}
		if nanos > (math.MaxInt64-d)/10 {
			return 0, false
		}
		nanos = nanos*10 + d
	}
	return nanos, true
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
		} else if parsed, err := time.Parse(time.RFC3339Nano, viewString(b)); err == nil {
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
	for i, c := range b {
		d := uint64(c - '0')
		if d > 9 || i == 19 && n > (math.MaxUint64-d)/10 {
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

// parseAddr reads an address without its zone, which has no meaning on other
// hosts; an IPv4-mapped one becomes IPv4. It reads the usual form of an IPv4
// address itself.
func parseAddr(b []byte) (netip.Addr, bool) {
	least := [4]uint32{1: 0, 2: 10, 3: 100} // of an octet with that number of digits
	ip, octet, digits, dots := uint32(0), uint32(0), 0, 0
	for _, c := range b {
		if c-'0' <= 9 {
			octet = octet*10 + uint32(c-'0')
			digits++
			continue
		}
		if c != '.' || digits == 0 || digits > 3 || octet < least[digits&3] || octet > 255 {
			return parseAnyAddr(b)
		}
		ip = ip<<8 | octet
		octet, digits, dots = 0, 0, dots+1
	}
	if dots != 3 || digits == 0 || digits > 3 || octet < least[digits&3] || octet > 255 {
		return netip.Addr{}, false
	}
	ip = ip<<8 | octet
	return netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)}), true
}

func parseAnyAddr(b []byte) (netip.Addr, bool) {
	a, err := netip.ParseAddr(viewString(b))
	return a.Unmap().WithZone(""), err == nil
}

// viewString is b as a string, without a copy: only for a parser that keeps no
// part of it.
func viewString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
