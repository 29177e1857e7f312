package daw

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/flow"
)

func TestReplyMustProveItsRequest(t *testing.T) {
	for name, change := range map[string]func(c *Conn, at *flow.Time){
		"another sequence number": func(c *Conn, _ *flow.Time) { c.Seq++ },
		"another port":            func(c *Conn, _ *flow.Time) { c.SrcPort++ },
		"another destination":     func(c *Conn, _ *flow.Time) { c.Dst = target(99) },
		"another source":          func(c *Conn, _ *flow.Time) { c.Src = host(99) },
		"too late":                func(_ *Conn, at *flow.Time) { *at += 46 * second },
	} {
		e := newEdge(t, nil)
		c := conn(host(1), target(1), 1)
		e.Request(morning, c)
		forged, at := *c, morning
		change(&forged, &at)
		if o := e.Failure(at, Reset, &forged); o != Forged {
			t.Errorf("%s: outcome %d, want forged", name, o)
		}
	}
	e := newEdge(t, nil)
	c := conn(host(1), target(1), 1)
	e.Request(morning, c)
	if o := e.Failure(morning+second, Unreachable, c); o != Counted {
		t.Errorf("the true reply: outcome %d", o)
	}
	if o := e.Failure(morning+second, Unreachable, c); o != Forged {
		t.Errorf("the same reply again: outcome %d, want forged: one request has one outcome", o)
	}
}

func TestResetAfterSuccessIsNoFailure(t *testing.T) {
	e := newEdge(t, nil)
	c := conn(host(1), target(1), 1)
	e.Request(morning, c)
	e.Success(morning+1, c)
	if o := e.Failure(morning+2, Reset, c); o != Forged {
		t.Errorf("outcome %d: the connection had succeeded", o)
	}
}

func TestRetransmissionsAreOneRequest(t *testing.T) {
	e := newEdge(t, nil)
	c := conn(host(1), target(1), 1)
	for i := range 4 {
		e.Request(morning+flow.Time(i)*second, c)
	}
	if n := e.Report(morning + 9*second).Requests; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestFailLogNeedsNoSequenceNumber(t *testing.T) {
	e := newEdge(t, nil)
	c := conn(host(1), target(1), 1)
	e.Request(morning, c)
	l := FailLog{Time: morning, Src: c.Src, Dst: c.Dst, SrcPort: c.SrcPort, DstPort: c.DstPort, Device: "fw"}
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	if o := e.Failure(morning+second, Logged, l.Conn()); o != Counted {
		t.Errorf("outcome %d, want counted", o)
	}
	for _, bad := range []FailLog{{}, {Src: c.Src, Dst: c.Src, DstPort: 80}, {Src: c.Src, Dst: c.Dst},
		{Src: c.Src, Dst: netip.IPv6Loopback(), DstPort: 80}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// A page that makes its visitor fail towards one /24 costs the visitor little;
// a scanner of one /24 gains no more than the grace.
func TestInducedFailuresCountOnce(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Grace = 30 })
	for n := range 150 { // so that the host has a record
		scan(e, morning+flow.Time(n)*second, host(1), n)
	}
	e.ListAll(true) // so that the other has one too
	count := func() (counted, induced uint64) {
		o := e.Report(morning + hour).Outcomes
		return o[Counted], o[Induced]
	}
	before, _ := count()
	fail := func(n int) {
		c := &Conn{Src: host(2), Dst: netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), SrcPort: uint16(n), DstPort: 80, Seq: uint32(n)}
		e.Request(morning+hour+flow.Time(n)*second/100, c)
		e.Failure(morning+hour+flow.Time(n)*second/100, Reset, c)
	}
	for n := range 20 {
		fail(n)
	}
	if c, i := count(); c-before != 1 || i != 19 {
		t.Errorf("20 failures to one /24 in a moment: %d counted, %d forgiven; want 1 and 19", c-before, i)
	}
	for n := 20; n < 120; n++ {
		fail(n)
	}
	if c, i := count(); i != 30 || c-before != 90 {
		t.Errorf("120 failures to one /24: %d counted, %d forgiven; want 90 and 30", c-before, i)
	}
}

func TestSpoofedSourceOfAnotherLink(t *testing.T) {
	e := newEdge(t, nil)
	e.Bind(netip.PrefixFrom(host(1), 32), 7)
	c := conn(host(1), target(1), 1)
	c.Link = 8
	if v := e.Request(morning, c); v != Spoofed {
		t.Errorf("verdict %d, want spoofed", v)
	}
	c.Link = 7
	if v := e.Request(morning, c); v != Forward {
		t.Errorf("verdict %d on its own link", v)
	}
	other := conn(host(2), target(1), 1)
	if v := e.Request(morning, other); v != Forward {
		t.Errorf("verdict %d for a source without a binding", v)
	}
	if e.WatchBoundOnly(); e.Request(morning, other) != Unwatched {
		t.Error("a source that anybody may use is watched")
	}
}

// An attacker fills the table with sources of one failure each; the heavy
// scanner keeps its record, and with it its limit.
func TestTableFillingKeepsTheLargestCounters(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Records, p.Entries, p.Phi = 64, 1, 10 })
	passed, n := 0, 0
	for s := range 20_000 {
		at := morning + flow.Time(s)*second
		if scan(e, at, host(1), n) {
			passed++
		}
		for range 3 {
			n++
			scan(e, at, host(1000+n), n)
		}
		n++
	}
	if got := e.Report(morning + 6*hour).Records; got > 64 {
		t.Errorf("%d records, limit 64", got)
	}
	if passed > 600 {
		t.Errorf("%d failures of the scanner passed: it shook off its limit", passed)
	}
}

// Times that jump, repeat and run back neither panic nor grant more than one
// quota per midnight that the clock has shown.
func TestClockStepsGrantNoQuota(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock(morning, 0)
		told, last := morning, c.now
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			told += flow.Time(rapid.Int64Range(-int64(3*day), int64(2*day)).Draw(t, "step"))
			before := c.day
			m := c.advance(told)
			if c.now < last {
				t.Fatalf("internal time ran back from %v to %v", last, c.now)
			}
			if m > 0 && c.day <= before {
				t.Fatalf("a quota was granted going from day %d to %d", before, c.day)
			}
			if left := c.end - c.now; left <= 0 || left > 2*flow.Time(day) { // the day goes on where the clock was set back over midnight
				t.Fatalf("%v left of the day", time.Duration(left))
			}
			last = c.now
		}
	})
	e := newEdge(t, nil)
	for _, at := range []flow.Time{flow.MaxTime, flow.MinTime, 0, morning, -1} {
		scan(e, at, host(1), int(at%1000))
	}
}

func TestBackwardStepKeepsTheSpentQuota(t *testing.T) {
	e := newEdge(t, nil)
	total, n := 0, 0
	for range 50 { // the clock is set back by an hour again and again
		for s := range 3600 {
			if scan(e, morning+20*hour+flow.Time(s)*second, host(1), n) {
				total++
			}
			n++
		}
	}
	if total > 600 {
		t.Errorf("%d failures within one told day, want at most 2*300", total)
	}
	if r := e.Report(morning + 21*hour); r.ClockSteps != 49 {
		t.Errorf("%d steps back noticed, want 49", r.ClockSteps)
	}
}

func TestSmallDisorderIsNoStep(t *testing.T) {
	c := newClock(morning, 0)
	for i := range 1000 {
		c.advance(morning + flow.Time(i)*1000)
		c.advance(morning + flow.Time(i)*1000 - 500)
	}
	if c.steps != 0 || c.shift != 0 {
		t.Errorf("%d steps, shift %d: packets of two queues are no clock step", c.steps, c.shift)
	}
}

// The table of requests against a plain map: it may forget, but then it says
// so, and it never invents.
func TestRequestsAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := newRequests(rapid.SampledFrom([]int{5, 20, 400}).Draw(t, "size"), 45*time.Second, morning)
		type pending struct {
			at  flow.Time
			seq uint32
		}
		model := map[[2]uint64]pending{}
		now := morning
		for range 200 {
			now += flow.Time(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "dt"))
			id := rapid.Uint64Range(1, 40).Draw(t, "id")
			hash := id * 0x9e3779b97f4a7c15
			seq := uint32(rapid.IntRange(0, 1).Draw(t, "seq"))
			if rapid.Bool().Draw(t, "add") {
				rs.addRequest(now, hash, seq)
				model[[2]uint64{hash, uint64(seq)}] = pending{now, seq}
				continue
			}
			want, known := model[[2]uint64{hash, uint64(seq)}]
			age := now - want.at
			got := rs.takeRequest(now, hash, seq, true)
			switch sure := 45*second - second/5; {
			case got == matched && (!known || want.seq != seq || age > 45*second+second/5):
				t.Fatalf("matched what was not asked (age %v)", time.Duration(age))
			case got == forged && known && want.seq == seq && age < sure:
				t.Fatalf("called forged what was asked %v ago", time.Duration(age))
			}
			if got == matched {
				delete(model, [2]uint64{hash, uint64(seq)})
			}
		}
	})
}

func TestIndexAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		keys := make([]uint64, 64)
		hashOf := func(s uint32) uint64 { return keys[s] % 7 } // crowded on purpose
		model := map[uint32]bool{}
		for range 300 {
			s := uint32(rapid.IntRange(0, 63).Draw(t, "slot"))
			if model[s] {
				x.removeSlot(s, hashOf)
				delete(model, s)
			} else {
				keys[s] = rapid.Uint64().Draw(t, "key")
				x.addSlot(s, hashOf)
				model[s] = true
			}
			for s := range uint32(64) {
				found := x.findSlot(hashOf(s), func(o uint32) bool { return o == s }) >= 0
				if found != model[s] {
					t.Fatalf("slot %d found %v, want %v", s, found, model[s])
				}
			}
		}
	})
}

func TestParametersThatMakeNoSense(t *testing.T) {
	for say, change := range map[string]func(*Parameters){
		"lambda":                    func(p *Parameters) { p.Lambda = 0 },
		"beta":                      func(p *Parameters) { p.Beta = 1.5 },
		"omega":                     func(p *Parameters) { p.Omega = 1 },
		"bucket: want 1 to omega/2": func(p *Parameters) { p.Bucket = 151 },
		"days":                      func(p *Parameters) { p.Days = 0 },
		"recent":                    func(p *Parameters) { p.Recent = 0 },
		"records":                   func(p *Parameters) { p.Records = 1 << 30 },
		"midnight":                  func(p *Parameters) { p.Midnight = day },
		"first_block":               func(p *Parameters) { p.FirstBlock = -1 },
	} {
		p := DefaultParameters()
		change(&p)
		if _, err := New(p, customer, morning); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: error %v", say, err)
		}
	}
	p := DefaultParameters()
	if w, err := p.Validate(); err != nil || len(w) != 0 {
		t.Errorf("defaults: %v, %v", w, err)
	}
	p.Phi = 100
	if w, err := p.Validate(); err != nil || len(w) != 1 {
		t.Errorf("phi below omega: warnings %v, error %v; want one warning", w, err)
	}
	for _, s := range []Scope{{}, {Sources: customer.Sources}, {Sources: []netip.Prefix{{}}, Ports: []uint16{80}}} {
		if _, err := New(p, s, morning); err == nil {
			t.Errorf("scope %+v is accepted", s)
		}
	}
}

// Split over several edges, a source that uses all of them stays within the
// whole.
func TestSplitOverEdges(t *testing.T) {
	whole := DefaultParameters()
	whole.Entries, whole.Records, whole.Requests = 64, 256, 1<<13
	parts := whole.Split(3)
	passed := 0
	for i := range 3 {
		e, err := New(parts, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 86400 {
			if scan(e, morning+flow.Time(n)*second, host(1), n+i<<18) {
				passed++
			}
		}
	}
	if passed > 2*whole.Omega || passed < whole.Omega {
		t.Errorf("%d failures over three edges, want at most 2*%d", passed, whole.Omega)
	}
	if got := (Parameters{Phi: 0, Omega: 300}).Split(2); got.Phi != 0 {
		t.Error("splitting switched a limit on")
	}
}
