package coresidence

import (
	"context"
	"math/bits"
	"net/netip"

	"dragnet/detect/synchrony"
)

// Correlated is two machines whose shares r(t) correlate.
type Correlated struct {
	First      VM      `json:"first"`
	Second     VM      `json:"second"`
	SameTenant bool    `json:"same_tenant"`
	Rho        float64 `json:"rho"`
}

// Correlations is the time domain as published (section 3.3): every pair of machines
// whose Pearson correlation is at least least; limit bounds them, and dropped is the
// number of those that had no room. Unlike Detect it compares at no delay, knows no
// chance, and counts what two machines send each other.
func Correlations(ctx context.Context, a *Activity, least float64, limit int) (pairs []Correlated, dropped int, err error) {
	s, err := synchrony.NewShares(len(a.vms), a.Intervals)
	if err != nil {
		return nil, 0, err
	}
	for i := range a.vms {
		for t, v := range a.joinLinks(i, nil, netip.Addr{}) {
			s.Set(i, t, uint8(bits.OnesCount64(v)))
		}
	}
	found, dropped, err := synchrony.Correlations(ctx, s, least, limit)
	for _, c := range found {
		x, y := a.vms[c.First], a.vms[c.Second]
		pairs = append(pairs, Correlated{x, y, x.Tenant == y.Tenant, c.Rho})
	}
	return pairs, dropped, err
}
