package border

import (
	"math"
	"math/rand/v2"
	"sort"

	"dragnet/flow"
)

// popularity draws numbers 0..n-1 by given weights.
type popularity []float64 // cumulated weights

func cumulate(w ...float64) popularity {
	p, sum := make(popularity, len(w)), 0.0
	for i, v := range w {
		sum += v
		p[i] = sum
	}
	return p
}

// zipfWeights weighs rank i (from 1) by i^-skew.
func zipfWeights(n int, skew float64) popularity {
	w := make([]float64, n)
	for i := range w {
		w[i] = math.Pow(float64(i+1), -skew)
	}
	return cumulate(w...)
}

// drawRank never draws what has no weight.
func (p popularity) drawRank(rng *rand.Rand) int {
	at := rng.Float64() * p[len(p)-1]
	return min(sort.Search(len(p), func(i int) bool { return p[i] > at }), len(p)-1)
}

// servers are outside servers, the most popular first.
type servers struct {
	popularity
	all []endpoint
}

type weighted struct {
	port  uint16
	share float64
}

// makeServers places n servers: half of them in the /24 of an earlier one, as
// in hosting centres, the others anywhere.
func (g *generator) makeServers(n int, skew float64, ports []weighted, proto flow.Proto) servers {
	s := servers{zipfWeights(n, skew), make([]endpoint, n)}
	var shares []float64
	for _, p := range ports {
		shares = append(shares, p.share)
	}
	port := cumulate(shares...)
	for i := range s.all {
		addr := g.outsideAddr()
		if i > 0 && g.rng.IntN(2) == 0 {
			addr = s.all[g.rng.IntN(i)].addr&^0xff | addr&0xff
		}
		s.all[i] = endpoint{addr, ports[port.drawRank(g.rng)].port, proto}
	}
	return s
}

func (g *generator) pickClient() uint32 { return g.clients[g.rng.IntN(len(g.clients))] }

func (g *generator) makeWebFlow() flow.Flow {
	return g.makeFlow(g.pickClient(), g.web.all[g.web.drawRank(g.rng)], flow.SF)
}

func (g *generator) makeDNSFlow() flow.Flow {
	return g.makeFlow(g.solvers[g.rng.IntN(len(g.solvers))], g.names.all[g.names.drawRank(g.rng)], flow.SF)
}

func (g *generator) makeMailFlow() flow.Flow {
	return g.makeFlow(g.clients[0], g.mail.all[g.mail.drawRank(g.rng)], flow.SF)
}

// makePeerFlow connects to any host and any high port: peer-to-peer, passive
// file transfer.
func (g *generator) makePeerFlow() flow.Flow {
	proto := flow.TCP
	if g.rng.IntN(2) == 0 {
		proto = flow.UDP
	}
	return g.makeFlow(g.pickClient(), endpoint{g.outsideAddr(), g.ephemeralPort(), proto}, flow.SF)
}

func (g *generator) makePing() flow.Flow {
	return g.makeFlow(g.pickClient(), endpoint{g.web.all[g.web.drawRank(g.rng)].addr, 0, flow.ICMP}, flow.SF)
}
