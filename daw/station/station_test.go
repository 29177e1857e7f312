package station

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/testkit"
)

func daily(day int64, failures, requests uint64) daw.EdgeReport {
	r := daw.EdgeReport{}
	r.Day = day + 1
	r.Previous.Day = day
	r.Previous.Requests, r.Previous.Outcomes[daw.Counted] = requests, failures
	return r
}

func TestTrendSeesASlowWorm(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	for name, c := range map[string]struct {
		failures func(day int) uint64
		rising   bool
	}{
		"quiet":       {func(int) uint64 { return 300 }, false},
		"one bad day": {func(d int) uint64 { return 300 + uint64(d/13)*9000 }, false},
		"slow worm":   {func(d int) uint64 { return 300 + 40*uint64(d) }, true},
		"falling":     {func(d int) uint64 { return 3000 - 40*uint64(d) }, false},
	} {
		draw := rand.New(rand.NewPCG(1, 1))
		s := New(DefaultConfiguration())
		for d := range 14 {
			noise := uint64(draw.IntN(60))
			for _, agent := range []string{"a", "b"} {
				if !s.Report(flow.Time(d), agent, daily(int64(d), c.failures(d)+noise, 100_000), nil) {
					t.Fatal("refused")
				}
			}
		}
		if rising, p, ratios := s.Trend(); rising != c.rising || len(ratios) != 14 {
			t.Errorf("%s: rising %v (p = %.3g), want %v; %d days", name, rising, p, c.rising, len(ratios))
		}
	}
}

// With nothing but chance, the test gives an alarm as seldom as its level says.
func TestTrendKeepsItsLevel(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	draw := rand.New(rand.NewPCG(3, 4))
	alarms := 0
	for range 5000 {
		v := make([]float64, 14)
		for i := range v {
			v[i] = draw.Float64()
		}
		if mannKendall(v) < 0.05 {
			alarms++
		}
	}
	if share := float64(alarms) / 5000; share > 0.06 || share < 0.03 {
		t.Errorf("%.3f of random series called rising at level 0.05", share)
	}
}

func TestNonsenseIsNotCounted(t *testing.T) {
	bad := daily(1, 5_000_000, 10)
	many := daw.EdgeReport{Limited: 5, Records: 1}
	s := New(DefaultConfiguration())
	if s.Report(1, "a", bad, nil) || s.Report(1, "a", many, nil) ||
		s.Report(1, "a", daw.EdgeReport{}, []daw.Offender{{Addr: netip.MustParseAddr("10.0.0.1"), Rate: math.NaN()}}) || s.Inconsistent != 3 {
		t.Errorf("%d of 3 nonsensical reports noticed", s.Inconsistent)
	}
	if _, _, ratios := s.Trend(); len(ratios) != 0 {
		t.Error("nonsense reached the trend")
	}
}

func TestADayCountsOncePerAgent(t *testing.T) {
	s := New(DefaultConfiguration())
	for range 5 {
		s.Report(1, "a", daily(3, 50, 100), nil)
	}
	s.Report(1, "b", daily(3, 0, 100), nil)
	if _, _, ratios := s.Trend(); len(ratios) != 1 || ratios[0] != 0.25 {
		t.Errorf("ratios %v, want 50/200", ratios)
	}
}

func TestSilentAgentsDoNotCount(t *testing.T) {
	s := New(DefaultConfiguration())
	minute := flow.Time(time.Minute)
	for i := range flow.Time(3) {
		s.Report(i*minute, "a", daw.EdgeReport{Limited: int(i), Records: 9}, nil)
	}
	if got := s.Silent(2 * minute); len(got) != 0 {
		t.Errorf("silent: %v", got)
	}
	if got := s.Silent(20 * minute); len(got) != 1 || got[0] != "a" {
		t.Errorf("silent after 20 min: %v, want a", got)
	}
	if s.Look(20*minute) != nil || s.last != 0 {
		t.Error("a silent agent's offenders still count")
	}
}
