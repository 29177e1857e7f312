package worm

import (
	"context"
	"math"
	"slices"
	"testing"

	"dragnet/internal/testkit"
)

func ensemble(t testing.TB, c Configuration, n int) []*Outbreak {
	t.Helper()
	rs, err := Ensemble(context.Background(), c, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func whens(rs []*Outbreak, share float64) []float64 {
	var all []float64
	for _, r := range rs {
		all = append(all, r.When(share))
	}
	return all
}

// smallWorld is one that can be played scan by scan.
func smallWorld() Configuration {
	c := DefaultConfiguration()
	c.Networks, c.Hosts, c.Space, c.Rate = 30, 3, 1<<15, 0.01
	c.Lambda, c.Omega, c.Phi, c.Tau, c.Days = 0.004, 60, 120, 10, 4
	c.Budget, c.Until, c.MaxDays = Agent, 0.4, 200
	return c
}

// The fast simulator against the slow one: each scan played, each request
// judged by the limiter itself. Kolmogorov-Smirnov on the time to 40 %.
func TestAgainstPerScan(t *testing.T) {
	runs := 120
	if testkit.Short(t) {
		runs = 10
	}
	for number, defence := range []Defence{None, Basic, Temporal, Both, Full} {
		t.Run(string(defence), func(t *testing.T) {
			t.Parallel()
			c := smallWorld()
			c.Defence = defence
			if defence == None {
				c.Budget = Once
			}
			var slow []float64
			var slowShare, fastShare []float64
			for i := range runs {
				c.Seed = uint64(10_000*(number+2) + i)
				r, err := PerScan(context.Background(), c)
				if err != nil {
					t.Fatal(err)
				}
				slow, slowShare = append(slow, r.When(0.4)), append(slowShare, r.Share())
			}
			c.Seed = 1
			fast := ensemble(t, c, 3*runs)
			for _, r := range fast {
				fastShare = append(fastShare, r.Share())
			}
			d, p := KolmogorovSmirnov(slow, whens(fast, 0.4))
			t.Logf("time to 40 %%: slow %v fast %v, D = %.3f, p = %.3f", days(slow), days(whens(fast, 0.4)), d, p)
			if p < 0.001 {
				t.Errorf("the distributions differ: D = %.3f, p = %.2g", d, p)
			}
			if d, p := KolmogorovSmirnov(slowShare, fastShare); p < 0.001 {
				t.Errorf("the final shares differ: D = %.3f, p = %.2g", d, p)
			}
		})
	}
}

func days(seconds []float64) [3]float64 {
	q := QuartilesOf(slices.Clone(seconds))
	return [3]float64{q.Low / Day, q.Median / Day, q.High / Day}
}

// Without defence and with equal networks of one host, the mean time follows
// equation 2-3.
func TestUndefendedFollowsTheLogistic(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Hosts, c.Equal, c.Defence, c.Until = 50_000, 1, true, None, 0.9
	runs := 40
	if testkit.Short(t) {
		runs = 8
	}
	rs := ensemble(t, c, runs)
	// From 1 % to 90 % chance hardly matters.
	var spans []float64
	for _, r := range rs {
		spans = append(spans, r.When(0.9)-r.When(0.01))
	}
	want := TimeTo(0.9, 500, c.Rate, 50_000, c.Space)
	if got := QuartilesOf(spans).Median; math.Abs(got/want-1) > 0.02 {
		t.Errorf("from 1 %% to 90 %% in %.0f s, the closed form says %.0f", got, want)
	}
}

// Hosts that fall one by one, and networks that fall as wholes but hold one
// host each, are the same thing.
func TestInstantIsOneByOneForSingleHosts(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Hosts, c.Equal, c.Defence, c.Until = 500, 1, true, Temporal, 0.5
	c.Space = 1 << 22
	a := whens(ensemble(t, c, 150), 0.5)
	c.Instant, c.Seed = false, 5000
	if d, p := KolmogorovSmirnov(a, whens(ensemble(t, c, 150), 0.5)); p < 0.001 {
		t.Errorf("D = %.3f, p = %.2g", d, p)
	}
}

// Local scans find the rest of a network: the more of them, the closer the
// worm comes to networks that fall at once.
func TestLocalPreferenceApproachesInstant(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Space, c.Defence, c.Until = 300, 1<<24, Temporal, 0.5
	median := func() float64 { return QuartilesOf(whens(ensemble(t, c, 60), 0.5)).Median }
	instant := median()
	c.Instant = false
	alone := median()
	c.Strategy, c.LocalShare = Local, 0.5
	local := median()
	if math.Abs(local/instant-1) > 0.15 {
		t.Errorf("local preference takes %.3g s, networks falling at once %.3g: minutes of local search should not matter in days", local, instant)
	}
	if alone < 1.2*instant {
		t.Errorf("without local scans %.3g s, with instant fall %.3g: want far slower", alone, instant)
	}
}

func TestPermutationSavesDuplicateScans(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Hosts, c.Space, c.Defence, c.Until = 2000, 1, 1<<20, None, 0.99
	median := func() float64 { return QuartilesOf(whens(ensemble(t, c, 40), 0.99)).Median }
	random := median()
	c.Strategy = Permutation
	if permuted := median(); permuted > 0.9*random {
		t.Errorf("to 99 %%: permutation %.0f s, random %.0f s; the last hosts should be found sooner", permuted, random)
	}
	// Under the temporal limit the gain is small (section 2.3.11).
	c.Defence, c.Until, c.Networks, c.Space = Temporal, 0.05, 2000, 1<<26
	limited := QuartilesOf(whens(ensemble(t, c, 60), 0.05)).Median
	c.Strategy = Random
	if r := QuartilesOf(whens(ensemble(t, c, 60), 0.05)).Median; math.Abs(limited/r-1) > 0.25 {
		t.Errorf("to 5 %% under the temporal limit: permutation %.3g s, random %.3g s", limited, r)
	}
}

func TestHitListAndFlash(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Space, c.Defence, c.Until = 1000, 1<<26, Temporal, 0.5
	median := func() float64 { return QuartilesOf(whens(ensemble(t, c, 30), 0.5)).Median }
	random := median()
	c.Strategy, c.List, c.ListLive = HitList, 2000, 0.5
	listed := median()
	if listed > 0.7*random {
		t.Errorf("hit list %.3g s, random %.3g s: a list should save the slow start", listed, random)
	}
	// Every entry alive: nothing fails, so nothing limits the worm.
	c.Strategy, c.ListLive = Flash, 1
	if f := median(); f > 3600 {
		t.Errorf("a flash worm with a perfect list takes %.0f s; no limit on failures can stop it", f)
	}
	c.ListLive = 0.1
	r := ensemble(t, c, 5)
	if r[0].Share() < 0.5 || QuartilesOf(whens(r, 0.5)).Median < 600 {
		t.Errorf("a flash worm with a list that is wrong for 90 %% must be slowed: %.0f s", QuartilesOf(whens(r, 0.5)).Median)
	}
}

// A list is scanned once: a flash worm sends one scan an entry, and a worm that goes
// on by permutation no more than its hosts can.
func TestScansOfLists(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Space, c.Defence, c.Until, c.MaxDays = 200, 1<<26, None, 1, 1
	c.Strategy, c.ListLive = Flash, 0.1
	for _, r := range ensemble(t, c, 5) {
		if entries := float64(r.Infected) / c.ListLive; r.Scans > entries*1.2 || r.Scans < entries*0.8 {
			t.Errorf("%.0f scans for a list of some %.0f entries", r.Scans, entries)
		}
	}
	c.Strategy, c.List = HitList, 500
	for _, r := range ensemble(t, c, 5) {
		if most := float64(r.Infected) * c.Rate * r.Last; r.Scans > most+10*float64(c.List) {
			t.Errorf("%.3g scans; %d hosts send at most %.3g in %.0f s", r.Scans, r.Infected, most, r.Last)
		}
	}
}

func TestFullDefenceStops(t *testing.T) {
	testkit.Long(t) // 300 epidemics
	c := DefaultConfiguration()
	c.Defence, c.Days, c.MaxDays = Full, 3, 2000
	r := Reproduction(c.Days, c.Phi, 100_000, c.Space) / 2 // budget once
	total := 0.0
	rs := ensemble(t, c, 300)
	for _, x := range rs {
		if !x.Stopped {
			t.Fatalf("seed runs on with reproduction %.2f: %+v", r, x)
		}
		total += float64(x.Networks)
	}
	// The first network is one of a random host, later ones too.
	want := 1 / (1 - r)
	if mean := total / 300; math.Abs(mean/want-1) > 0.15 {
		t.Errorf("%.2f networks fall on average, the closed form says %.2f", mean, want)
	}
}

func TestPartialDeploymentAndZones(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Space, c.Until, c.MaxDays = 1000, 1<<26, 0.5, 4000
	median := func() float64 { return QuartilesOf(whens(ensemble(t, c, 30), 0.5)).Median }
	all := median()
	c.Deployed = 0.9
	if most := median(); most > all/2 {
		t.Errorf("with a tenth unprotected %.3g s, all protected %.3g s: what is unprotected should dominate", most, all)
	}
	c.Deployed, c.Zones = 1, 5
	if zoned := median(); math.Abs(zoned/all-1) > 0.2 {
		t.Errorf("zones without limits between them: %.3g s, no zones %.3g s", zoned, all)
	}
	c.ZonePhi = 100
	if zoned := median(); zoned < 1.5*all {
		t.Errorf("zones with a limit between them: %.3g s, no zones %.3g s", zoned, all)
	}
}

func TestFewRepliesSlowTheDefence(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.Space, c.Until = 1000, 1<<28, 0.05
	median := func() float64 { return QuartilesOf(whens(ensemble(t, c, 100), 0.05)).Median }
	all := median()
	c.Replies = 0.1
	if ratio := all / median(); math.Abs(ratio/10-1) > 0.2 {
		t.Errorf("with a tenth of the replies the worm is %.1f times faster, want 10", ratio)
	}
}

func TestEqualSeedsGiveEqualRuns(t *testing.T) {
	for _, s := range []Strategy{Random, Permutation, HitList} {
		c := DefaultConfiguration()
		c.Networks, c.Strategy, c.Until = 500, s, 0.2
		a, b := ensemble(t, c, 1)[0], ensemble(t, c, 1)[0]
		if a.Last != b.Last || a.Scans != b.Scans || a.Infected != b.Infected {
			t.Errorf("%s: %+v and %+v", s, a, b)
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Configuration){
		"no networks":  func(c *Configuration) { c.Networks = 0 },
		"NaN rate":     func(c *Configuration) { c.Rate = math.NaN() },
		"tiny space":   func(c *Configuration) { c.Space = 100 },
		"strategy":     func(c *Configuration) { c.Strategy = "clever" },
		"zones":        func(c *Configuration) { c.Zones = 0 },
		"agent, local": func(c *Configuration) { c.Budget, c.Strategy = Agent, Local },
		"ordered":      func(c *Configuration) { c.Strategy, c.Instant = Permutation, false },
		"until":        func(c *Configuration) { c.Until = 0 },
	} {
		c := DefaultConfiguration()
		change(&c)
		if _, err := Run(context.Background(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKolmogorovSmirnovTellsApart(t *testing.T) {
	var a, b, far []float64
	for i := range 300 {
		x := float64(i) / 300
		a, b, far = append(a, x), append(b, math.Mod(x*7+0.1, 1)), append(far, x+0.2)
	}
	if _, p := KolmogorovSmirnov(a, b); p < 0.5 {
		t.Errorf("p = %.3g for the same distribution", p)
	}
	if d, p := KolmogorovSmirnov(a, far); p > 1e-4 || math.Abs(d-0.2) > 0.01 {
		t.Errorf("D = %.3f, p = %.3g for a shift by 0.2", d, p)
	}
}
