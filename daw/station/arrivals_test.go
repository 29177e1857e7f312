package station

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/testkit"
)

var monday = flow.FromTime(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))

const (
	minute = flow.Time(time.Minute)
	day    = 24 * hour
)

// town is an edge with hosts behind it, and the station it reports to.
type town struct {
	t       *testing.T
	edge    *daw.Edge
	station *Station
	n       uint32
	alarms  int
	alarmed bool
}

func newTown(t *testing.T, c Configuration) *town {
	t.Helper()
	p := daw.DefaultParameters()
	p.Entries, p.Records, p.Requests = 1<<10, 1<<12, 1<<14
	e, err := daw.New(p, daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports: []uint16{80}}, monday)
	if err != nil {
		t.Fatal(err)
	}
	return &town{t: t, edge: e, station: New(c)}
}

// fail has a host ask dead targets, each another.
func (w *town) fail(now flow.Time, host, times int) {
	for range times {
		w.n++
		var dst [4]byte
		binary.BigEndian.PutUint32(dst[:], 20<<24+w.n<<8)
		c := daw.Conn{Src: netip.AddrFrom4([4]byte{10, byte(host >> 16), byte(host >> 8), byte(host)}), Dst: netip.AddrFrom4(dst), SrcPort: uint16(w.n), DstPort: 80, Seq: w.n}
		if w.edge.Request(now, &c).Passes() {
			w.edge.Failure(now, daw.Reset, &c)
		}
	}
}

// look reports to the station and has it look.
func (w *town) look(now flow.Time) []daw.Offender {
	w.t.Helper()
	if !w.station.Report(now, "edge", w.edge.Report(now), w.edge.Offenders(now, daw.MaxOffenders)) {
		w.t.Fatal("a true report is called nonsense")
	}
	proposed := w.station.Look(now)
	if alarm := w.station.Alarm(); alarm && !w.alarmed {
		w.alarms++
	}
	w.alarmed = w.station.Alarm()
	return proposed
}

// chronic has 60 hosts ask one to six dead targets a minute.
func (w *town) chronic(now flow.Time) {
	for h := range 60 {
		w.fail(now, h, 1+h%6)
	}
}

// Sixty hosts that fail all day, every day, are no worm; one that infects a host
// every few minutes is, also among them, and only the infected are proposed.
func TestChronicFailersAndAWorm(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	w := newTown(t, DefaultConfiguration())
	now := monday
	for ; now < monday+10*day; now += minute {
		w.chronic(now)
		if len(w.look(now)) > 0 {
			t.Fatalf("hosts are proposed after %v", time.Duration(now-monday))
		}
	}
	if w.alarms != 0 {
		t.Fatalf("%d false alarms in 10 days", w.alarms)
	}
	saved, err := w.station.Save()
	if err != nil {
		t.Fatal(err)
	}
	for every, most := range map[flow.Time]int{minute / 2: 6, minute: 6, 2 * minute: 6, 4 * minute: 8, 8 * minute: 12} {
		x := newTown(t, DefaultConfiguration())
		if err := x.station.Load(saved); err != nil { // it goes on from the tenth day
			t.Fatal(err)
		}
		if x.edge, err = daw.Restore(daw.DefaultParameters(), daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports: []uint16{80}}, now, w.edge.Snapshot()); err != nil {
			t.Fatal(err)
		}
		infected := 0
		for at := now; !x.alarmed && infected < 200; at += minute {
			x.chronic(at)
			infected = int((at-now)/every) + 1
			for h := range infected {
				x.fail(at, 1000+h, 300)
			}
			for _, o := range x.look(at) {
				if o.Addr.As4()[2] < 3 {
					t.Errorf("%s is proposed, which fails every day", o.Addr)
				}
			}
		}
		if infected > most {
			t.Errorf("a new infected host every %v: alarm at %d infected, want at most %d", time.Duration(every), infected, most)
		}
		t.Logf("a new infected host every %v: alarm at %d", time.Duration(every), infected)
	}
}

// Many at once are an outage: an alarm takes several periods.
func TestManyAtOnceAreNoWorm(t *testing.T) {
	c := DefaultConfiguration()
	c.Learn = 0
	w := newTown(t, c)
	for n := range flow.Time(300) {
		if n == 30 {
			for h := range 100 {
				w.fail(monday+n*minute, h, 400)
			}
		}
		w.look(monday + n*minute)
	}
	if w.alarms != 0 || w.station.Offenders() != 100 {
		t.Errorf("%d alarms, %d offenders", w.alarms, w.station.Offenders())
	}
}

// Where some new offenders come at an hour of every day, as many are none to alarm
// for, and twice as many are.
func TestComparedWithTheSameHour(t *testing.T) {
	c := DefaultConfiguration()
	s := New(c)
	offenders := []daw.Offender{}
	next := uint32(0)
	at := func(now flow.Time, fresh int) {
		for range fresh {
			next++
			offenders = append(offenders, daw.Offender{Addr: netip.AddrFrom4([4]byte{10, byte(next >> 16), byte(next >> 8), byte(next)}), Limited: true})
		}
		if n := len(offenders); n > 400 {
			offenders = offenders[n-400:]
		}
		s.Report(now, "edge", daw.EdgeReport{Limited: len(offenders), Records: len(offenders)}, offenders)
		s.Look(now)
	}
	for now := monday; now < monday+8*day; now += minute {
		evening := int64((now-monday)/hour)%24 == 20 // hosts come home, 30 new ones
		fresh := 0
		if evening && (now/minute)%2 == 0 {
			fresh = 1
		}
		if at(now, fresh); s.Alarm() && now > monday+2*day {
			t.Fatalf("alarm after %v", time.Duration(now-monday))
		}
	}
	alarms := 0
	for now := monday + 8*day; now < monday+9*day; now += minute {
		fresh := 0
		if int64((now-monday)/hour)%24 == 20 {
			fresh = 2
		}
		if at(now, fresh); s.Alarm() {
			alarms++
		}
	}
	if alarms == 0 {
		t.Error("four times as many as usual raise no alarm")
	}
}

func TestLearning(t *testing.T) {
	s := New(DefaultConfiguration())
	if s.Learning(monday) != 0 {
		t.Error("it learns before anybody has reported")
	}
	s.Report(monday, "edge", daw.EdgeReport{Limited: 1, Records: 1}, []daw.Offender{{Addr: netip.MustParseAddr("10.0.0.1"), Limited: true}})
	s.Look(monday)
	if s.Learning(monday+hour) != monday+day || s.Learning(monday+day) != 0 {
		t.Error("it does not learn for a day")
	}
	for _, bad := range []string{"", "{", `{"version": 9}`, `{"version":1,"known":{"x":1}}`} {
		if s.Load([]byte(bad)) == nil {
			t.Errorf("%q is loaded", bad)
		}
	}
}

// Learning begins with the first report, though no offender is in it: a network where
// the first comes a month later has been learnt.
func TestLearningBeginsWithTheFirstReport(t *testing.T) {
	s := New(DefaultConfiguration())
	s.Report(monday, "edge", daw.EdgeReport{}, nil)
	s.Look(monday)
	if until := s.Learning(monday + hour); until != monday+day {
		t.Errorf("learns until %v, want a day after the first report", until)
	}
}

// What a station has saved it can load, however many offenders it knows, and its
// agents are not silent before they have had time to report.
func TestSavedStationIsLoaded(t *testing.T) {
	s := New(DefaultConfiguration())
	now := monday
	for i := range maxKnown {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		s.known[a], s.first[a] = now, now
	}
	fresh := []daw.Offender{{Addr: netip.MustParseAddr("11.0.0.1"), Limited: true}}
	s.Report(now, "edge", daw.EdgeReport{Limited: 1, Records: 1}, fresh)
	s.Look(now)
	saved, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	again := New(DefaultConfiguration())
	if err := again.Load(saved); err != nil {
		t.Fatal(err)
	}
	if silent := again.Silent(now); len(silent) != 0 {
		t.Errorf("%v are called silent as soon as the station has restarted", silent)
	}
}

// Hours are kept as long as they are compared with.
func TestHoursOfManyDaysAreKept(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	c := DefaultConfiguration()
	c.Days = 100
	s := New(c)
	for d := range flow.Time(90) {
		s.Report(monday+d*day, "edge", daw.EdgeReport{Limited: 1, Records: 1}, []daw.Offender{{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(d)}), Limited: true}})
		s.Look(monday + d*day)
	}
	if n := s.hours[int64(monday/hour)]; n != 1 {
		t.Errorf("%d new offenders are known of the first hour, want 1", n)
	}
}

func TestPoissonTail(t *testing.T) {
	for _, expected := range []float64{0.02, 1, 7.5} {
		sum, term := 0.0, math.Exp(-expected)
		for n := range 20 {
			if got, want := poissonTail(n, expected), 1-sum; math.Abs(got-want) > 1e-9 {
				t.Errorf("P(X >= %d | %g) = %g, want %g", n, expected, got, want)
			}
			sum += term
			term *= expected / float64(n+1)
		}
	}
}
