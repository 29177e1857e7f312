package worm

import (
	"math"
	"math/rand/v2"
)

// network is a customer network.
type network struct {
	size     int32 // vulnerable hosts
	infected int32
	entries  int32 // left in its zone's urn, of which size-infected are susceptible
	zone     int32
	version  int32 // of its pending events
	deployed bool
	rate     float64 // of the scans that leave it
	agent    agentDay
}

// world is the state of a run.
type world struct {
	c           Configuration
	draw        *rand.Rand
	networks    []network
	urns        [][]uint32 // per zone: a network's number for each of its hosts
	healthy     []int      // susceptible hosts per zone
	total       int        // vulnerable hosts
	infected    int
	hitNetworks int // infected networks
	result      Outbreak
}

func newWorld(c Configuration) *world {
	w := &world{c: c, draw: rand.New(rand.NewPCG(c.Seed, 0x776f726d)), networks: make([]network, c.Networks)}
	w.urns, w.healthy = make([][]uint32, c.Zones), make([]int, c.Zones)
	for i := range w.networks {
		n := &w.networks[i]
		n.size = w.drawSize()
		n.zone = int32(i % c.Zones)
		n.deployed = c.Deployed >= 1 || w.draw.Float64() < c.Deployed
		w.total += int(n.size)
	}
	if w.total == 0 {
		w.networks[0].size, w.total = 1, 1
	}
	for z := range w.urns {
		w.urns[z] = make([]uint32, 0, w.total/c.Zones+w.total/(4*c.Zones)+16)
	}
	for i := range w.networks {
		n := &w.networks[i]
		n.entries = n.size
		for range n.size {
			w.urns[n.zone] = append(w.urns[n.zone], uint32(i))
		}
		w.healthy[n.zone] += int(n.size)
	}
	w.result.Vulnerable = w.total
	return w
}

// drawSize draws a network's number of vulnerable hosts: geometric with the mean
// z, which is the exponential distribution in whole hosts; networks without
// any are possible.
func (w *world) drawSize() int32 {
	if w.c.Equal {
		return int32(math.Round(w.c.Hosts))
	}
	q := w.c.Hosts / (1 + w.c.Hosts)
	return int32(min(-w.draw.ExpFloat64()/math.Log(q), 1<<24))
}

// drawVictim draws a susceptible host of a zone and returns its network.
// Entries of hosts infected in another way stay in the urn until they are
// drawn: which of a network's entries they are is not known, so each is treated
// as one with the right probability.
func (w *world) drawVictim(zone int) int {
	urn := w.urns[zone]
	for {
		i := w.draw.IntN(len(urn))
		id := urn[i]
		urn[i] = urn[len(urn)-1]
		urn = urn[:len(urn)-1]
		w.urns[zone] = urn
		n := &w.networks[id]
		susceptible, entries := n.size-n.infected, n.entries
		n.entries--
		if susceptible == entries || susceptible > 0 && w.draw.Int32N(entries) < susceptible {
			return int(id)
		}
	}
}

// markInfected infects a host of network id, or with Instant all of them.
func (w *world) markInfected(id int, t float64) {
	n := &w.networks[id]
	if n.infected == 0 {
		w.hitNetworks++
	}
	more := int32(1)
	if w.c.Instant {
		more = n.size - n.infected
	}
	n.infected += more
	w.infected += int(more)
	w.healthy[n.zone] -= int(more)
	w.result.Transitions++
	w.result.addPoint(t, w.infected)
}

func (w *world) makeResult(t float64, stopped bool) *Outbreak {
	w.result.End, w.result.Stopped, w.result.Networks = t, stopped, w.hitNetworks
	return &w.result
}
