package cloud

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat"

	"dragnet/detect/coresidence"
	"dragnet/internal/testkit"
)

func TestAlphaMinAgainstKolmogorovSmirnov(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		on, off := make([]float64, 1+rng.IntN(30)), make([]float64, 1+rng.IntN(30))
		for i := range on {
			on[i] = float64(rng.IntN(12))
		}
		for i := range off {
			off[i] = float64(rng.IntN(12) + rng.IntN(3))
		}
		d := stat.KolmogorovSmirnov(slices.Sorted(slices.Values(on)), nil, slices.Sorted(slices.Values(off)), nil)
		m, n := float64(len(on)), float64(len(off))
		if got, want := AlphaMin(on, off), 2*math.Exp(-2*m*n/(m+n)*d*d); math.Abs(got-want) > 1e-12 {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if AlphaMin(nil, []float64{1}) != 2 {
		t.Error("nothing measured decides something")
	}
}

func TestSameSeedSameFlows(t *testing.T) {
	a, err := Simulate(Paper(10, true, 3))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Simulate(Paper(10, true, 3))
	if !slices.Equal(a.Flows, b.Flows) || len(a.Flows) == 0 {
		t.Error("two runs with one seed differ")
	}
	if _, err := Simulate(Configuration{}); err == nil {
		t.Error("an empty cloud is accepted")
	}
}

func detect(t *testing.T, r *Run, seconds int) coresidence.Result {
	t.Helper()
	a, err := coresidence.NewActivity(r.VMs, r.Start, time.Second, seconds)
	if err != nil {
		t.Fatal(err)
	}
	a.Add(r.Flows)
	found, err := coresidence.Detect(context.Background(), a, coresidence.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// judge counts the attacker's flooders that are named together with the master,
// and the pairs accused wrongly. The sink answers the flooders, and counts as one
// of the attacker's.
func judge(r *Run, found coresidence.Result) (named, wrong int) {
	hit := map[string]bool{}
	for _, a := range found.Alarms {
		if a.ExplainedBy != nil {
			continue
		}
		ours := a.VM.Tenant == r.Tenant
		for _, o := range a.Others {
			ours = ours && o.Tenant == r.Tenant
		}
		if !ours {
			wrong++
			continue
		}
		for _, vm := range append(a.Others, a.VM) {
			hit[vm.Name] = true
		}
	}
	for k := range r.Flooders {
		if hit["master"] && hit[r.VMs[len(r.VMs)-len(r.Flooders)+k].Name] {
			named++
		}
	}
	return named, wrong
}

// TestMasterAndFloodersAreNamed runs the paper's test bed with seeds that the
// detector was not tuned on.
func TestMasterAndFloodersAreNamed(t *testing.T) {
	seeds := 25
	if testkit.Short(t) {
		seeds = 2
	}
	wrong, pairs := 0, 0
	for _, x := range []struct {
		tests, lag int
		high       bool
		least      float64 // share of the flooders
	}{
		{10, 0, false, 1}, {10, 0, true, 1}, {20, 0, false, 1}, {20, 0, true, 1}, {40, 0, false, 1}, {40, 0, true, 1},
		{10, 3, false, 0}, {10, 3, true, 0}, {20, 3, false, 0.3}, {20, 3, true, 0.3}, {40, 3, false, 0.95}, {40, 3, true, 0.95},
	} {
		named, all := 0, 0
		for seed := range uint64(seeds) {
			c := Paper(x.tests, x.high, 700_000+seed)
			c.Lag = x.lag
			r, err := Simulate(c)
			if err != nil {
				t.Fatal(err)
			}
			found := detect(t, r, c.Seconds)
			n, w := judge(r, found)
			named, all, wrong, pairs = named+n, all+len(r.Flooders), wrong+w, pairs+found.CrossPairs+found.SamePairs
		}
		t.Logf("tests %d, lag %d, high %v: %d of %d flooders are named", x.tests, x.lag, x.high, named, all)
		if float64(named) < x.least*float64(all) {
			t.Errorf("tests %d, lag %d, high %v: %d of %d flooders are named, want %v of them", x.tests, x.lag, x.high, named, all, x.least)
		}
	}
	t.Logf("%d of %d pairs are accused wrongly", wrong, pairs)
	if float64(wrong) > 1e-4*float64(pairs)+1 {
		t.Errorf("%d of %d pairs are accused wrongly", wrong, pairs)
	}
}

func TestACloudWithoutAttackHasNoAlarm(t *testing.T) {
	c := Configuration{Servers: 100, Inside: 45, Outside: 60, Seconds: 1440, Seed: 900_001}
	if testkit.Short(t) {
		c.Servers, c.Inside = 30, 10
	}
	r, err := Simulate(c)
	if err != nil {
		t.Fatal(err)
	}
	found := detect(t, r, c.Seconds)
	for _, a := range found.Alarms {
		if a.ExplainedBy == nil {
			t.Errorf("%s with %v: p = %v", a.VM.Name, a.Others, a.P)
		}
	}
	t.Logf("%d pairs, %d alarms", found.CrossPairs+found.SamePairs, len(found.Alarms))
}
