package daw

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"dragnet/flow"
)

// Attacks that worked once.

// A second SYN of the same connection with another sequence number must not hide
// the first.
func TestDecoySYNHidesNoFailure(t *testing.T) {
	for decoys := 1; decoys <= 8; decoys++ {
		e := newEdge(t, nil)
		passed := 0
		for n := range 5000 {
			at := morning + flow.Time(n)*second
			c := conn(host(1), target(n), n)
			if e.Request(at, c).Passes() {
				passed++
			}
			for i := range decoys {
				decoy := *c
				decoy.Seq += uint32(i) + 1
				e.Request(at, &decoy)
			}
			e.Failure(at+second/10, Reset, c)
		}
		if o := e.Report(morning + 2*hour).Outcomes; passed > 600 || o[Counted] > 600 {
			t.Errorf("%d decoys: %d of 5000 scans pass, %d counted; want at most 2*omega", decoys, passed, o[Counted])
		}
	}
}

// Scans of silent targets are failures.
func TestSilentTargetsCount(t *testing.T) {
	e := newEdge(t, nil)
	passed := 0
	for n := range 86_400 {
		at := morning + flow.Time(n)*second
		if e.Request(at, conn(host(1), target(n), n)).Passes() {
			passed++
		}
		visit := conn(host(2), netip.MustParseAddr("192.0.2.1"), n) // shows that replies are seen here
		e.Request(at, visit)
		e.Success(at, visit)
	}
	r := e.Report(morning + 24*hour - second)
	if passed > 600+10 || r.Silences == 0 {
		t.Errorf("%d of 86400 scans of silent targets pass, %d silences; want at most 2*omega + r*10s", passed, r.Silences)
	}
	if all := e.Busiest(morning+24*hour-second, 9); len(all) != 1 || all[0].Addr != host(1) || all[0].Silent == 0 {
		t.Errorf("offenders %+v; want the scanner, with its silences", all)
	}
}

// Where the replies take another path, silence says nothing.
func TestSilenceWithoutAnyReplyIsNoFailure(t *testing.T) {
	e := newEdge(t, nil)
	for n := range 2000 {
		if v := e.Request(morning+flow.Time(n)*second, conn(host(1), target(n), n)); v != Forward {
			t.Fatalf("verdict %d", v)
		}
	}
	if r := e.Report(morning + hour); r.Silences != 0 {
		t.Errorf("%d silences", r.Silences)
	}
}

// A slow answer is not a failure, and a dead server asked again and again is one.
func TestSilenceCountsADestinationOnce(t *testing.T) {
	e := newEdge(t, nil)
	for n := range 1000 {
		at := morning + flow.Time(n)*5*second
		e.Request(at, conn(host(1), target(1), n))
		slow := conn(host(2), target(2), n)
		e.Request(at, slow)
		e.Success(at+4*second, slow)
	}
	if r := e.Report(morning + 2*hour); r.Failed() != 1 {
		t.Errorf("%d failures, want 1", r.Failed())
	}
}

// A scanner with a /48 does not get a quota for each address, /64 or /56.
func TestIPv6ScannerCannotEscapeWithinItsPrefix(t *testing.T) {
	for _, bits := range []int{64, 56, 48} {
		e := newEdge(t, nil)
		passed := 0
		for n := range 86_400 {
			b := netip.MustParseAddr("2001:db8::").As16()
			var low [8]byte
			binary.BigEndian.PutUint64(low[:], uint64(n)*0x9e3779b97f4a7c15)
			copy(b[bits/8:], low[:])
			if scan(e, morning+flow.Time(n)*second, netip.AddrFrom16(b), n) {
				passed++
			}
		}
		if most := 2 * 300 * e.p.Network48; passed > most {
			t.Errorf("over a /%d: %d scans pass, want at most %d", bits, passed, most)
		}
	}
}

// The spatial limit holds for IPv6, whatever addresses are used.
func TestSpatialLimitHoldsForIPv6(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Phi = 1000 })
	for n := range 50_000 {
		b := netip.MustParseAddr("2001:db8::").As16()
		b[5] = byte(n % 8) // eight /48s
		binary.BigEndian.PutUint64(b[8:], uint64(n))
		scan(e, morning+flow.Time(n)*second, netip.AddrFrom16(b), n)
	}
	if r := e.Report(morning + 14*hour); r.Members != 8 || r.Failed() > 2*1000+8*51 {
		t.Errorf("%d members, %d failures; want 8 and at most 2*phi + m*(tau+1)", r.Members, r.Failed())
	}
}

// A page with many dead images costs the visitor no connection to what answered
// before.
func TestDestinationsThatAnsweredPass(t *testing.T) {
	e := newEdge(t, nil)
	good := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n % 50)}) }
	for n := range 50 { // somebody else's visits
		c := conn(host(2), good(n), n)
		e.Request(morning, c)
		e.Success(morning, c)
	}
	lost, scans := 0, 0
	for n := range 4 * 3600 {
		at := morning + flow.Time(n)*second
		if n < 150 || n%60 == 0 {
			if scan(e, at, host(1), n) {
				scans++
			}
		}
		if n%20 == 0 && !visit(e, at, host(1), good(n/20), n) {
			lost++
		}
	}
	if lost > 0 || scans > 600 {
		t.Errorf("%d of 720 good connections lost; %d failing ones passed", lost, scans)
	}
}

func visit(e *Edge, at flow.Time, src, dst netip.Addr, n int) bool {
	c := conn(src, dst, n)
	if !e.Request(at, c).Passes() {
		return false
	}
	e.Success(at, c)
	return true
}

// What answered and then fails no longer passes.
func TestDestinationsThatFailedDoNotPass(t *testing.T) {
	e := newEdge(t, nil)
	for n := range 3000 {
		visit(e, morning, host(2), target(n), n)
	}
	passed := 0
	for n := range 20_000 {
		if scan(e, morning+flow.Time(n)*second, host(1), n%3000) {
			passed++
		}
	}
	if passed > 3000+600 { // each of them once, and twice omega
		t.Errorf("%d of 20000 pass", passed)
	}
}

// A clock that is set back over midnight grants no second day.
func TestClockSetBackOverMidnight(t *testing.T) {
	e := newEdge(t, nil)
	passed := 0
	for n := range 600 { // from 23:50 to 0:00: a day's quota
		if scan(e, morning+24*hour-600*second+flow.Time(n)*second, host(1), n) {
			passed++
		}
	}
	at := morning + 24*hour
	for round := range 20 { // each time 10 minutes forward over midnight, and back
		for n := range 600 {
			if scan(e, at+flow.Time(n)*second, host(1), 1000*(round+1)+n) {
				passed++
			}
		}
		at = morning + 24*hour - flow.Time(round%2)*300*second
	}
	// Two days have passed at most, and the time of one more.
	if passed > 3*600 {
		t.Errorf("%d scans pass", passed)
	}
	if scan(e, morning+72*hour, host(3), 1); e.Report(morning+72*hour).Day <= e.previous.Day {
		t.Error("no new day came")
	}
}

// A host that floods one dead address, so that its other requests are forgotten before
// their silence counts, is held to its limit all the same.
func TestFloodHidesNoSilence(t *testing.T) {
	p := DefaultParameters()
	p.Waiting, p.Requests, p.Omega, p.Bucket, p.Entries, p.Records = 100, 1<<12, 40, 10, 16, 64
	e, err := New(p, Scope{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports: []uint16{80}}, morning)
	if err != nil {
		t.Fatal(err)
	}
	scanner, other, server, dead := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("20.0.0.1"), netip.MustParseAddr("20.0.0.2")
	passed, now := 0, morning
	for n := range uint32(2000) {
		ask := func(src, dst netip.Addr, port uint16) (*Conn, bool) {
			c := &Conn{Src: src, Dst: dst, SrcPort: port, DstPort: 80, Seq: n}
			return c, e.Request(now, c).Passes()
		}
		if _, ok := ask(scanner, netip.AddrFrom4([4]byte{30, byte(n >> 8), byte(n), 1}), 1000); ok {
			passed++
		}
		for i := range uint16(50) { // the ring holds two seconds
			ask(scanner, dead, 2000+i)
		}
		if c, ok := ask(other, server, 1000); ok {
			e.Success(now, c)
		}
		now += second
	}
	if passed > 2*p.Omega+10 {
		t.Errorf("%d of 2000 scans of silent hosts passed; want at most 2*omega and those on their way", passed)
	}
}
