package daw

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/flow"
)

// traffic is what one host asks for: bursts of requests a fixed gap apart.
type traffic struct {
	src    netip.Addr
	bursts []burst
}

type burst struct {
	start flow.Time
	gap   flow.Time
	n     int
}

func drawTraffic(t *rapid.T, src netip.Addr, days, requests int) traffic {
	tr := traffic{src: src}
	for range rapid.IntRange(1, 4).Draw(t, "bursts") {
		tr.bursts = append(tr.bursts, burst{
			start: morning + flow.Time(rapid.Int64Range(0, int64(days)*int64(day)).Draw(t, "start")),
			gap:   flow.Time(rapid.Int64Range(int64(20*time.Millisecond), int64(2*time.Minute)).Draw(t, "gap")),
			n:     rapid.IntRange(1, requests).Draw(t, "n"),
		})
	}
	return tr
}

type happening struct {
	at   flow.Time
	conn *Conn
}

// play runs traffic in which every request fails after roundTrip, and counts
// per day the failures that reach the hosts. inFlight is the largest number of
// requests that one host sent within one round trip.
func play(e *Edge, all []traffic, roundTrip flow.Time) (failures map[int64]int, inFlight int) {
	var events []happening
	n := 0
	for _, tr := range all {
		var times []flow.Time
		for _, b := range tr.bursts {
			for i := range b.n {
				at := b.start + flow.Time(i)*b.gap
				times = append(times, at)
				events = append(events, happening{at: at, conn: conn(tr.src, target(n), n)})
				n++
			}
		}
		slices.Sort(times)
		for i := range times {
			j := i
			for j < len(times) && times[j]-times[i] <= roundTrip {
				j++
			}
			inFlight = max(inFlight, j-i)
		}
	}
	order := func(a, b happening) int { return int(a.at - b.at) }
	slices.SortStableFunc(events, order)
	failures = map[int64]int{}
	var replies []happening
	deliver := func(until flow.Time) {
		for len(replies) > 0 && replies[0].at <= until {
			if e.Failure(replies[0].at, Reset, replies[0].conn) != Forged {
				failures[int64(replies[0].at-morning)/int64(day)]++
			}
			replies = replies[1:]
		}
	}
	for _, h := range events {
		deliver(h.at)
		if e.Request(h.at, h.conn).Passes() {
			replies = append(replies, happening{at: h.at + roundTrip, conn: h.conn})
		}
	}
	deliver(flow.MaxTime)
	return failures, inFlight
}

func drawLimits(t *rapid.T) Parameters {
	p := DefaultParameters()
	p.Entries, p.Records, p.Requests, p.Grace = 64, 1000, 1<<13, 0
	p.Omega = rapid.IntRange(2, 400).Draw(t, "omega")
	p.Lambda = rapid.Float64Range(0.01, 5).Draw(t, "lambda")
	p.Bucket = rapid.Float64Range(1, float64(p.Omega)/2).Draw(t, "bucket")
	p.Seed = rapid.Uint64().Draw(t, "seed")
	return p
}

// Theorem 2: failures of an address in a day stay within 2*Omega + r*T.
func TestTheorem2(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawLimits(t)
		p.Phi = 0
		e, err := New(p, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip := flow.Time(rapid.Int64Range(0, int64(400*time.Millisecond)).Draw(t, "roundTrip"))
		failures, inFlight := play(e, []traffic{drawTraffic(t, host(1), 3, 3000)}, roundTrip)
		for d, n := range failures {
			if n > 2*p.Omega+inFlight {
				t.Fatalf("%d failures on day %d, bound 2*%d + %d", n, d, p.Omega, inFlight)
			}
		}
	})
}

// Theorem 3, with the m*(tau+1) it leaves out.
func TestTheorem3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawLimits(t)
		p.Phi = rapid.IntRange(10, 500).Draw(t, "phi")
		p.Tau = rapid.IntRange(0, 60).Draw(t, "tau")
		p.Omega = 100_000 // so that only the spatial limit binds
		p.Lambda = math.Max(p.Lambda, 2)
		e, err := New(p, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		m := rapid.IntRange(1, 12).Draw(t, "hosts")
		var all []traffic
		for i := range m {
			all = append(all, drawTraffic(t, host(i), 1, 800))
		}
		roundTrip := flow.Time(rapid.Int64Range(0, int64(400*time.Millisecond)).Draw(t, "roundTrip"))
		failures, inFlight := play(e, all, roundTrip)
		for d, n := range failures {
			if bound := 2*p.Phi + m*(p.Tau+1+inFlight); n > bound {
				t.Fatalf("%d failures on day %d, bound 2*%d + %d*(%d+1+%d) = %d", n, d, p.Phi, m, p.Tau, inFlight, bound)
			}
		}
	})
}

// The spatial limit binds: without it the same hosts fail far more.
func TestSpatialLimitBinds(t *testing.T) {
	run := func(phi int) (total int, r EdgeReport) {
		e := newEdge(t, func(p *Parameters) { p.Phi, p.Omega, p.Bucket = phi, 2000, 60 })
		for n := range 86400 {
			if scan(e, morning+flow.Time(n)*second, host(n%20), n) {
				total++
			}
		}
		return total, e.Report(morning + aDay - second)
	}
	without, _ := run(0)
	with, report := run(1000)
	if without < 20*2000 {
		t.Errorf("%d failures without the spatial limit, want at least 20*2000", without)
	}
	if bound := 2*1000 + 20*51; with > bound || with < 2*1000-10 {
		t.Errorf("%d failures with phi = 1000, want between 2000 and %d", with, bound)
	}
	if !report.SpatialActive || !report.Overwhelmed || report.Members != 20 {
		t.Errorf("report says active %v, overwhelmed %v, %d members", report.SpatialActive, report.Overwhelmed, report.Members)
	}
}

// A host that makes only successful connections passes at any rate, also next
// to scanners that share its entry of H.
func TestSuccessesAreNeverHindered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawLimits(t)
		p.Entries = 1
		e, err := New(p, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		gap := flow.Time(rapid.Int64Range(1000, int64(time.Minute)).Draw(t, "gap"))
		for n := range 5000 {
			at := morning + flow.Time(n)*gap
			scan(e, at, host(1), n)
			c := conn(host(2), target(1<<19+n), n)
			if v := e.Request(at, c); v != Forward {
				t.Fatalf("request %d of a host without failures: verdict %d", n, v)
			}
			e.Success(at, c)
		}
	})
}

// RFAL: however often a host fails towards at most as many destinations as the
// list holds, each counts once a day.
func TestRecentListCountsEachDestinationOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 40).Draw(t, "size")
		p := DefaultParameters()
		p.Entries, p.Records, p.Recent, p.Requests = 16, 16, size, 1<<12
		e, err := New(p, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		dests := rapid.SliceOfN(rapid.IntRange(0, size-1), 1, 500).Draw(t, "dests")
		distinct := map[int]bool{}
		for n, d := range dests {
			distinct[d] = true
			c := conn(host(n%5), target(d), n)
			e.Request(morning+flow.Time(n), c)
			e.Failure(morning+flow.Time(n), Reset, c)
		}
		if got := e.Report(morning + second).Outcomes[Counted]; got != uint64(len(distinct)) {
			t.Fatalf("%d counted, want %d distinct destinations", got, len(distinct))
		}
	})
}

// Whatever replies are invented, none counts without its own request.
func TestForgedRepliesNeverExceedRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultParameters()
		p.Entries, p.Records, p.Grace = 4, 16, 0
		p.Requests = rapid.SampledFrom([]int{0, 1, 40, 4000}).Draw(t, "memory")
		e, err := New(p, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		asked := map[Conn]bool{}
		requests := 0
		for n := range rapid.IntRange(1, 400).Draw(t, "packets") {
			at := morning + flow.Time(n)*second/10
			c := *conn(host(rapid.IntRange(0, 3).Draw(t, "src")), target(rapid.IntRange(0, 300).Draw(t, "dst")), 5)
			c.Seq = uint32(rapid.IntRange(0, 2).Draw(t, "seq"))
			if rapid.Bool().Draw(t, "request") {
				if e.Request(at, &c).Passes() {
					asked[c] = true
					requests++
				}
				continue
			}
			if o := e.Failure(at, Reset, &c); o == Counted && p.Requests == 4000 && !asked[c] {
				t.Fatalf("a reply to %+v counted, which was never asked", c)
			}
		}
		if r := e.Report(morning + hour); r.Outcomes[Counted] > uint64(requests) {
			t.Fatalf("%d failures counted after %d requests", r.Outcomes[Counted], requests)
		}
	})
}

// Under the spatial limit the hosts of a large network never come near omega;
// they must be proposed for blocking all the same.
func TestHostsOfALargeNetworkAreProposed(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Phi, p.Days = 1500, 2 })
	const hosts = 25
	for n := range 2*86400 + 1 {
		scan(e, morning+flow.Time(n)*second, host(n%hosts), n)
	}
	if busiest := e.Busiest(morning+2*aDay-second, 1); len(busiest) > 0 && busiest[0].Failures > 250 {
		t.Fatalf("the busiest host has %d failures: this test is about hosts below omega", busiest[0].Failures)
	}
	if got := len(e.Persistent(morning + 2*aDay + second)); got != hosts {
		t.Errorf("%d hosts proposed, want all %d", got, hosts)
	}
}

// A source that was limited early and then waits saves up no more than its
// bucket: theorem 2 hangs on the bucket's size.
func TestAPauseSavesUpNoQuota(t *testing.T) {
	e := newEdge(t, func(p *Parameters) { p.Omega, p.Bucket, p.Phi = 400, 60, 0 })
	n, passed := 0, 0
	burst := func(from flow.Time, requests int) {
		for i := range requests {
			if scan(e, from+flow.Time(i)*second/10, host(1), n) {
				passed++
			}
			n++
		}
	}
	burst(morning+hour, 210) // its record is limited by now, at less than omega/2
	early := passed
	burst(morning+4*hour, 2000)
	if saved := passed - early; saved > 60+200+10 {
		t.Errorf("%d failures in a burst after a pause of 3 h; the bucket holds 60, then lambda gives 1 a second", saved)
	}
	burst(morning+20*hour, 2000)
	if passed > 2*400 {
		t.Errorf("%d failures in a day, bound 2*400", passed)
	}
}
