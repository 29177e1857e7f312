package daw

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"dragnet/flow"
)

const (
	second = flow.Time(time.Second)
	hour   = flow.Time(time.Hour)
	aDay   = flow.Time(day)
)

// morning is a midnight (UTC), so that a test's day is a day.
var morning = flow.FromTime(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))

var customer = Scope{
	Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
	Exempt:  []netip.Prefix{netip.MustParsePrefix("10.9.9.0/24")},
	Ports:   []uint16{80, 443},
}

func newEdge(t testing.TB, change func(*Parameters)) *Edge {
	t.Helper()
	p := DefaultParameters()
	p.Entries, p.Records, p.Requests = 256, 4096, 1<<14
	if change != nil {
		change(&p)
	}
	e, err := New(p, customer, morning)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// target is the n-th address of a scan, each in a different /24.
func target(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0xb0000000+uint32(n)*256%0x10000000+uint32(n)>>20)
	return netip.AddrFrom4(b)
}

func host(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func conn(src, dst netip.Addr, n int) *Conn {
	return &Conn{Src: src, Dst: dst, SrcPort: uint16(1024 + n%60000), DstPort: 80, Seq: uint32(n) * 2654435761}
}

// scan sends one request and its failure at once; it reports whether the
// request passed.
func scan(e *Edge, at flow.Time, src netip.Addr, n int) bool {
	c := conn(src, target(n), n)
	if !e.Request(at, c).Passes() {
		return false
	}
	e.Failure(at, Reset, c)
	return true
}

func TestScannerIsHeldToItsQuota(t *testing.T) {
	e := newEdge(t, nil)
	var perDay [3]int
	for n := range 3 * 86400 {
		if scan(e, morning+flow.Time(n)*second, host(1), n) {
			perDay[n/86400]++
		}
	}
	omega := DefaultParameters().Omega
	if perDay[0] <= omega || perDay[0] > 2*omega {
		t.Errorf("%d failures on the first day, want more than %d (the shared entry's are extra) and at most %d", perDay[0], omega, 2*omega)
	}
	for d := 1; d < 3; d++ {
		if perDay[d] < omega-2 || perDay[d] > omega {
			t.Errorf("%d failures on day %d, want all of omega (%d) and no more", perDay[d], d, omega)
		}
	}
}

func TestQuotaIsSpreadOverTheDay(t *testing.T) {
	e := newEdge(t, nil)
	hours := map[int]int{}
	for n := range 86400 {
		if scan(e, morning+flow.Time(n)*second, host(1), n) {
			hours[n/3600]++
		}
	}
	for h := 1; h < 24; h++ {
		if hours[h] < 4 || hours[h] > 9 {
			t.Errorf("hour %d passes %d failures, want about 150/24: a source must get through all day", h, hours[h])
		}
	}
}

func TestFailuresOfListedDestinationsAreFree(t *testing.T) {
	e := newEdge(t, nil)
	// 500 hosts keep asking one server that is down, far beyond omega and phi.
	for n := range 200_000 {
		c := conn(host(n%500), target(7), n)
		if v := e.Request(morning+flow.Time(n)*second/4, c); v != Forward {
			t.Fatalf("request %d: verdict %d, want forward", n, v)
		}
		e.Failure(morning+flow.Time(n)*second/4, Unreachable, c)
	}
	if got := e.Report(morning + 20*hour); got.Outcomes[Counted] != 1 || got.Outcomes[Recent] != 199_999 {
		t.Errorf("counted %d, recent %d; want 1 and 199999", got.Outcomes[Counted], got.Outcomes[Recent])
	}
	c := conn(host(3), target(7), 1)
	e.Request(morning+25*hour, c)
	if o := e.Failure(morning+25*hour, Reset, c); o != Counted {
		t.Errorf("the list is emptied daily, but outcome is %d", o)
	}
}

func TestPersistentScannerIsProposedAfterNDays(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Days = 3 })
	n := 0
	for d := range 5 {
		for s := 0; s < 86400; s += 20 {
			at := morning + flow.Time(d)*aDay + flow.Time(s)*second
			scan(e, at, host(1), n) // scans without end
			if s < 2000 {
				scan(e, at, host(2), n+1<<20) // 100 failures a day
			}
			n++
		}
		got := e.Persistent(morning + flow.Time(d+1)*aDay)
		if d+1 != 3 {
			if len(got) != 0 {
				t.Errorf("after %d days: %v proposed, want none (again)", d+1, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Addr != host(1) {
			t.Errorf("after 3 days: %v proposed, want %v", got, host(1))
		}
	}
}

// The literal rule "c reaches omega" never fires: the quota is spread so that
// c is omega-1 just before midnight.
func TestCounterEndsJustBelowOmega(t *testing.T) {
	e := newEdge(t, nil)
	for n := range 2*86400 - 1 {
		scan(e, morning+flow.Time(n)*second, host(1), n)
	}
	r := e.hosts.findSource(keyOf(host(1))).record
	if r.c >= 300 || r.c < 298 {
		t.Errorf("counter ends at %d, want 298 or 299", r.c)
	}
	if !r.hasFlag(atLimit) {
		t.Error("the day does not count towards blocking")
	}
}

func TestBlockingTimeGrowsAndIsForgotten(t *testing.T) {
	e := newEdge(t, nil)
	at, hours := morning, []float64{1, 2.718, 7.389}
	for i, want := range hours {
		b := e.Block(at, host(1))
		if got := float64(b.Until-at) / float64(hour); got < 0.99*want || got > 1.01*want || b.Prior != i {
			t.Errorf("block %d lasts %.3f h with %d before it, want %.3f h", i, got, b.Prior, want)
		}
		if v := e.Request(at+second, conn(host(1), target(1), 1)); v != Blocked {
			t.Errorf("verdict %d while blocked", v)
		}
		again := e.Block(at+second, host(1))
		if again.Until != b.Until {
			t.Error("blocking a blocked address must not prolong its block")
		}
		at = b.Until
		if v := e.Request(at, conn(host(1), target(1), 1)); v != Forward {
			t.Errorf("verdict %d after the block's end", v)
		}
	}
	if b := e.Block(at+40*aDay, host(1)); b.Prior != 0 {
		t.Errorf("%d earlier blocks remembered after 40 days, want none", b.Prior)
	}
	if !e.Unblock(at+40*aDay+second, host(1), true) || len(e.Blocks(at+40*aDay+second)) != 0 {
		t.Error("unblocking had no effect")
	}
}

func TestExemptAndForeignTrafficIsNotWatched(t *testing.T) {
	e := newEdge(t, nil)
	for _, c := range []*Conn{
		conn(netip.MustParseAddr("10.9.9.9"), target(1), 1),
		conn(netip.MustParseAddr("192.0.2.1"), target(1), 1),
		{Src: host(1), Dst: target(1), DstPort: 22},
		{},
	} {
		if v := e.Request(morning, c); v != Unwatched {
			t.Errorf("%+v: verdict %d, want unwatched", c, v)
		}
		if o := e.Failure(morning, Reset, c); o != Ignored {
			t.Errorf("%+v: outcome %d, want ignored", c, o)
		}
	}
}

func TestWeeklyAndMonthlyBudgets(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Weekly, p.Monthly = 500, 900 })
	passed := map[string]int{}
	first := int(e.clock.day)
	for d := range 60 {
		for s := 0; s < 86400; s += 30 {
			if scan(e, morning+flow.Time(d)*aDay+flow.Time(s)*second, host(1), d*86400+s) {
				passed["week"+string(rune('a'+(first+d)/7%26))]++
				passed["month"+string(rune('a'+(first+d)/30%26))]++
			}
		}
	}
	for span, got := range passed {
		// The shared entry's failures before the first record are extra.
		limit := map[byte]int{'w': 500 + 300, 'm': 900 + 300}[span[0]]
		if got > limit {
			t.Errorf("%s: %d failures, want at most %d", span, got, limit)
		}
	}
	if passed["month"+string(rune('a'+(first+30)/30%26))] < 890 {
		t.Errorf("budgets are not used: %v", passed)
	}
}

func TestIPv6SourceCannotEscapeWithinIts64(t *testing.T) {
	e := newEdge(t, nil)
	net64 := netip.MustParseAddr("2001:db8:0:7::").As16()
	var byDay [2]int
	for n := range 2 * 86400 {
		src := net64
		binary.BigEndian.PutUint32(src[12:], uint32(n)) // a new address each time
		if scan(e, morning+flow.Time(n)*second, netip.AddrFrom16(src), n) {
			byDay[n/86400]++
		}
	}
	omega := DefaultParameters().Omega * DefaultParameters().Network64
	if byDay[0] > 2*omega || byDay[1] > omega || byDay[1] < omega-3 {
		t.Errorf("%v failures from one /64, want at most %d, then %d", byDay, 2*omega, omega)
	}
}

// A source is told to wait until just before its next request would pass.
func TestWaitEndsWhenARequestPasses(t *testing.T) {
	for _, failures := range []int{120, 200} { // above lambda; and in the spread half of the day
		e := newEdge(t, nil)
		now, n := morning, 0
		e.ListAll(true) // counts singly from the first failure on
		scan(e, now, host(1), 1<<20)
		for ; e.Busiest(now, 1)[0].Failures < failures || scan(e, now, host(1), n); n++ {
			if now += second / 4; n > 1_000_000 {
				t.Fatal("never limited")
			}
			scan(e, now, host(1), n)
		}
		wait := flow.Time(e.Wait(now, host(1), Temporal))
		if wait <= 0 {
			t.Fatalf("%d failures: waits %v", failures, wait)
		}
		if scan(e, now+wait*9/10, host(1), n+1) {
			t.Errorf("%d failures: passes after 0.9 of %v", failures, time.Duration(wait))
		}
		if !scan(e, now+wait+second/10, host(1), n+2) {
			t.Errorf("%d failures: still limited after all of %v", failures, time.Duration(wait))
		}
	}
}

// What slipped through counts when it fails.
func TestSlippedRequestsCount(t *testing.T) {
	e, err := New(DefaultParameters(), customer, morning)
	if err != nil {
		t.Fatal(err)
	}
	c := Conn{Src: host(1), Dst: netip.MustParseAddr("203.0.113.1"), SrcPort: 1, DstPort: 80, Seq: 7}
	if got := e.Failure(morning, Reset, &c); got != Forged {
		t.Fatalf("outcome %d, want forged", got)
	}
	e.Slipped(morning, &c)
	if got := e.Failure(morning, Reset, &c); got != Counted {
		t.Errorf("outcome %d, want counted", got)
	}
}
