package border

import (
	"math"
	"math/rand/v2"
	"sort"

	"dragnet/flow"
)

// popularity draws numbers 0..n-1 by given weights.
type popularity []float64 // cumulated weights

func weights(w ...float64) popularity {
	p, sum := make(popularity, len(w)), 0.0
	for i, v := range w {
		sum += v
		p[i] = sum
	}
	return p
}

// zipf weighs rank i (from 1) by i^-skew.
func zipf(n int, skew float64) popularity {
	w := make([]float64, n)
	for i := range w {
		w[i] = math.Pow(float64(i+1), -skew)
	}
	return weights(w...)
}

// draw never draws what has no weight.
func (p popularity) draw(rng *rand.Rand) int {
	at := rng.Float64() * p[len(p)-1]
	return min(sort.Search(len(p), func(i int) bool { return p[i] > at }), len(p)-1)
}

// servers are outside, the most popular first.
type servers struct {
	popularity
	all []endpoint
}

type weighted struct {
	port  uint16
	share float64
}

// makeServers places n servers: half of them beside an earlier one, in its
// /24, as hosting centres do, the others anywhere.
func (g *generator) makeServers(n int, skew float64, ports []weighted, proto flow.Proto) servers {
	s := servers{zipf(n, skew), make([]endpoint, n)}
	var shares []float64
	for _, p := range ports {
		shares = append(shares, p.share)
	}
	port := weights(shares...)
	for i := range s.all {
		addr := g.outsider()
		if i > 0 && g.rng.IntN(2) == 0 {
			addr = s.all[g.rng.IntN(i)].addr&^0xff | addr&0xff
		}
		s.all[i] = endpoint{addr, ports[port.draw(g.rng)].port, proto}
	}
	return s
}

func (g *generator) client() uint32 { return g.clients[g.rng.IntN(len(g.clients))] }

func (g *generator) browse() flow.Flow {
	return g.connection(g.client(), g.web.all[g.web.draw(g.rng)], flow.SF)
}

func (g *generator) resolve() flow.Flow {
	return g.connection(g.solvers[g.rng.IntN(len(g.solvers))], g.names.all[g.names.draw(g.rng)], flow.SF)
}

func (g *generator) post() flow.Flow {
	return g.connection(g.clients[0], g.mail.all[g.mail.draw(g.rng)], flow.SF)
}

// peer goes to any host and any high port: peer-to-peer, passive file
// transfer.
func (g *generator) peer() flow.Flow {
	proto := flow.TCP
	if g.rng.IntN(2) == 0 {
		proto = flow.UDP
	}
	return g.connection(g.client(), endpoint{g.outsider(), g.ephemeral(), proto}, flow.SF)
}

func (g *generator) ping() flow.Flow {
	return g.connection(g.client(), endpoint{g.web.all[g.web.draw(g.rng)].addr, 0, flow.ICMP}, flow.SF)
}
