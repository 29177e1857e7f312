package coresidence

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"dragnet/detect/synchrony"
)

// All pairs at once are what each pair has by the definition.
func TestCorrelationsAgainstShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	flows, seconds := rounds(rng, 25)
	vms := machines(8)
	a := activity(t, vms, seconds, append(flows, clients(rng, seconds, 8)...)...)
	const least = 0.05
	got, dropped, err := Correlations(context.Background(), a, least, 1000)
	if err != nil || dropped != 0 || len(got) == 0 {
		t.Fatal(got, dropped, err)
	}
	n := 0
	for i := range vms {
		for j := range i {
			if rho, ok := synchrony.Pearson(a.Share(i), a.Share(j)); ok && rho >= least {
				n++
			}
		}
	}
	for _, c := range got {
		rho, _ := synchrony.Pearson(a.ShareOf(c.First), a.ShareOf(c.Second))
		if math.Abs(rho-c.Rho) > 1e-12 || c.SameTenant != (c.First.Tenant == c.Second.Tenant) {
			t.Errorf("%+v, want %v", c, rho)
		}
	}
	if len(got) != n {
		t.Errorf("%d pairs, want %d", len(got), n)
	}
}
