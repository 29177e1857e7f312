package worm

import (
	"fmt"
	"math"
)

// Beta is the rate at which an infected host finds vulnerable ones when each
// scans r addresses per second: r*V/N (Tang 2006, section 2.1).
func Beta(r, vulnerable, space float64) float64 { return r * vulnerable / space }

// TimeTo is t(a), the time until a share a of the vulnerable hosts is infected
// when v are at the start (equation 2-3), in seconds.
func TimeTo(a, v, r, vulnerable, space float64) float64 {
	return (math.Log(a/(1-a)) - math.Log(v/(vulnerable-v))) / Beta(r, vulnerable, space)
}

// Logistic is i(t) of the simple epidemic model i' = beta*i*(1-i).
func Logistic(t, v, r, vulnerable, space float64) float64 {
	x := math.Exp(Beta(r, vulnerable, space)*t) * v / (vulnerable - v)
	if math.IsInf(x, 1) {
		return 1
	}
	return x / (1 + x)
}

// Reach is the mean of min(X, at) for X exponential with mean z.
func Reach(z, at float64) float64 { return z * -math.Expm1(-at/z) }

// TableTime is the closed form behind Table 2-2, which holds within 3 % in all
// its cells: t = N*D/(2*Phi*k*z') * ln(a(V-1)/(1-a)) with V = k*z and z' the
// mean of min(X, 30). It is in seconds; times is 2 for the table.
func TableTime(a, k, z, phi, times, space float64) float64 {
	v := k * z
	return space * Day / (times * phi * k * Reach(z, 30)) * math.Log(a*(v-1)/(1-a))
}

// NetworkTime is section 2.3.8's t(a) = N*D/(2*Phi*V) * ln(a(k-1)/(1-a)) for
// networks of equal size, in seconds.
func NetworkTime(a, k, v, phi, times, space float64) float64 {
	return space * Day / (times * phi * v) * math.Log(a*(k-1)/(1-a))
}

// PhiFor is the largest Phi with which t(a) is at least the given seconds.
func PhiFor(a, k, v, seconds, space float64) float64 {
	return space * Day / (2 * seconds * v) * math.Log(a*(k-1)/(1-a))
}

// Reproduction is 2*n*Phi*V/N, the networks that one infected network infects
// before it is blocked; below 1 the worm stops (section 2.3.9).
func Reproduction(days, phi, vulnerable, space float64) float64 {
	return 2 * days * phi * vulnerable / space
}

// FinalNetworks bounds the expected number of networks that are ever infected:
// 1/(1 - 2*n*Phi*V/N), infinite when the worm need not stop.
func FinalNetworks(days, phi, vulnerable, space float64) float64 {
	if r := Reproduction(days, phi, vulnerable, space); r < 1 {
		return 1 / (1 - r)
	}
	return math.Inf(1)
}

// StopsBelow is theorem 1: a worm of v initial hosts that may each scan r*dT
// addresses stops below the share a if r*dT < (1 - v/(a*V)) * N/V.
func StopsBelow(a, v, scans, vulnerable, space float64) bool {
	return scans < (1-v/(a*vulnerable))*space/vulnerable
}

// PrescanDays is how long one host takes to scan all addresses under the
// temporal limit: N/(2*Omega) days (section 2.3.11).
func PrescanDays(omega, space float64) float64 { return space / (2 * omega) }

// MeanField solves the model of networks with exponential sizes for the time at
// which a share a of the hosts is infected, when each infected network passes
// scans at rate(m) for its m hosts. It starts from one network of average size.
// With removal > 0 each network stops after that many seconds (equation 2-5).
// Seconds; infinite if a is not reached within most.
//
// A network with x hosts stays free with probability exp(-x*h), h being the
// scans so far per address; so all sizes follow from h alone.
func MeanField(a, k, z, space float64, rate func(m float64) float64, removal, most float64) (float64, error) {
	steps := 20000
	dt := most / float64(steps)
	if removal > 0 && removal < 4*dt {
		return 0, fmt.Errorf("mean field: blocking after %g s is too short for a horizon of %g s", removal, most)
	}
	// Scans per second of all networks infected once h has passed, and the
	// share of hosts infected: integrals over sizes, by Gauss-Laguerre-like
	// sums on a fixed grid.
	const grid = 400
	sizes, weights := make([]float64, grid), make([]float64, grid)
	total := 0.0
	for i := range sizes {
		sizes[i] = z * 20 * (float64(i) + 0.5) / grid
		weights[i] = math.Exp(-sizes[i] / z)
		total += weights[i]
	}
	state := func(h float64) (emission, share float64) {
		hosts := 0.0
		for i, x := range sizes {
			p := weights[i] / total
			fallen := -math.Expm1(-x * h)
			emission += p * fallen * rate(x)
			share += p * fallen * x
			hosts += p * x
		}
		return k * emission, share / hosts
	}
	emitted := make([]float64, 0, steps)
	h := 0.0
	for n := range steps {
		e, share := state(h)
		if share >= a {
			return float64(n) * dt, nil
		}
		emitted = append(emitted, e)
		active, seed := e, rate(z)
		if removal > 0 {
			if past := n - int(removal/dt); past >= 0 {
				active -= emitted[past]
				seed = 0
			}
		}
		h += (active + seed) * dt / space
	}
	return math.Inf(1), nil
}
