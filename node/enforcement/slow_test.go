package enforcement

import (
	"net/netip"
	"strings"
	"testing"

	"dragnet/daw"
	"dragnet/node/notify"
)

// While the share of failures rises over days, guards are asked for the sources that
// fail most, and people are told once.
func TestSlowWormIsLookedFor(t *testing.T) {
	e, _ := enforce(t, nil)
	var told []string
	e.deps.Notify = func(n notify.Notice) {
		if strings.Contains(n.Text, "10.1.0.5 (90)") && n.Kind == "trend" {
			told = append(told, n.Text)
		}
	}
	heard := func(day int64, failures uint64) daw.AgentPolicy {
		b := report("edge-1")
		b.Report.Day, b.Report.Previous.Day = day+1, day
		b.Report.Previous.Requests, b.Report.Previous.Outcomes[daw.Counted] = 100_000, failures
		b.Busiest = []daw.Offender{{Addr: netip.MustParseAddr("10.1.0.5"), Failures: 90}, {Addr: netip.MustParseAddr("10.2.0.9"), Failures: 80}}
		return exchange(t, e, b)
	}
	for day := range int64(14) {
		if o := heard(day, 300+uint64(day)*40); o.Slow {
			t.Fatalf("a slow worm after %d days", day)
		}
	}
	update(t, e, currentTime())
	for range 3 {
		if o := heard(13, 0); !o.Slow {
			t.Error("the guard is not asked for its busiest sources")
		}
	}
	if len(told) != 1 || strings.Contains(told[0], "10.2.0.9") {
		t.Errorf("told %q; want once, about the guard's own sources", told)
	}
}
