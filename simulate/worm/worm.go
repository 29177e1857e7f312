// Package worm simulates how a worm spreads among the customer networks of an
// ISP, with and without DAW at their edges (Tang 2006, sections 2.1 and 2.4).
//
// It is event-driven: between two hits on vulnerable hosts a worm's scans are
// not simulated one by one but skipped exactly. A random scan hits a
// susceptible host with the same probability each time, so the number of scans
// to the next hit is geometric; a permutation scan is advanced to the next
// vulnerable position. The edges pass a rate that is constant between events.
// PerScan is the slow twin that runs every scan through the real limiter of
// package daw.
//
// Time is in seconds from the first infection, which happens at midnight.
package worm

import (
	"fmt"
	"math"
)

// Day is a day in seconds.
const Day = 86400.0

// Strategy is how infected hosts choose their targets.
type Strategy string

// The strategies (Staniford et al. 2002, for the last three).
const (
	Random      Strategy = "random"      // any address, drawn for each scan
	Local       Strategy = "local"       // a share of the scans goes to the host's own network
	Permutation Strategy = "permutation" // one order for all; a scanner that meets an infected host jumps elsewhere
	HitList     Strategy = "hit-list"    // Warhol: a list is split among the infected, then permutation
	Flash       Strategy = "flash"       // a list of all targets is split; nothing else is scanned
)

// Defence is what the edges run.
type Defence string

// The defences. Both is the temporal and the spatial limit; Full blocks
// persistent scanners as well.
const (
	None     Defence = "none"
	Basic    Defence = "basic"
	Temporal Defence = "temporal"
	Spatial  Defence = "spatial"
	Both     Defence = "both"
	Full     Defence = "full"
)

// Budget is how much of its limits a source uses per day.
type Budget string

// The budgets. Once spreads Omega (Phi) evenly over each day, Twice does so
// with the bounds 2*Omega (2*Phi) of theorems 2 and 3, and Agent models what
// the limiter does during a day: a burst after midnight, then the rest spread.
const (
	Once  Budget = "once"
	Twice Budget = "twice"
	Agent Budget = "agent"
)

// Configuration describes a world, a worm and a defence.
type Configuration struct {
	// Networks is k, Hosts is z: vulnerable hosts per network on average,
	// distributed exponentially unless Equal.
	Networks int     `json:"networks"`
	Hosts    float64 `json:"hosts"`
	Equal    bool    `json:"equal"`
	// Space is N, the number of addresses.
	Space float64 `json:"space"`

	Strategy Strategy `json:"strategy"`
	// Rate is the scans per second of an infected host.
	Rate float64 `json:"rate"`
	// Instant infects a whole network with its first host, as the paper does.
	Instant bool `json:"instant"`
	// LocalShare of the scans goes to the host's own network of LocalSpace
	// addresses (strategy Local).
	LocalShare float64 `json:"local_share"`
	LocalSpace float64 `json:"local_space"`
	// List is the length of the hit list, ListLive the share of its entries
	// that are vulnerable. Flash takes all vulnerable hosts.
	List     int     `json:"list"`
	ListLive float64 `json:"list_live"`

	Defence Defence `json:"defence"`
	Budget  Budget  `json:"budget"`
	Lambda  float64 `json:"lambda"`
	Omega   float64 `json:"omega"`
	Phi     float64 `json:"phi"`
	Tau     float64 `json:"tau"`
	// Days is n, the days until a persistent scanner is blocked for good.
	Days float64 `json:"days"`
	// Replies is p1 + p2 + p3': the share of failing scans that an edge sees.
	Replies float64 `json:"replies"`
	// Deployed is the share of networks behind an edge with DAW.
	Deployed float64 `json:"deployed"`
	// Zones splits the ISP; ZonePhi is the spatial limit on the failures of a
	// zone in a day, 0 for none.
	Zones   int     `json:"zones"`
	ZonePhi float64 `json:"zone_phi"`

	// Until stops a run at this share of infected hosts, MaxDays at this time.
	Until   float64 `json:"until"`
	MaxDays float64 `json:"max_days"`
	Seed    uint64  `json:"seed"`
}

// DefaultConfiguration is the paper's simulation (section 2.4).
func DefaultConfiguration() Configuration {
	return Configuration{
		Networks: 10000, Hosts: 10, Space: 1 << 32, Strategy: Random, Rate: 10, Instant: true,
		LocalShare: 0.5, LocalSpace: 256, List: 10000, ListLive: 0.5,
		Defence: Both, Budget: Once, Lambda: 1, Omega: 300, Phi: 3000, Tau: 50, Days: 7, Replies: 1, Deployed: 1, Zones: 1,
		Until: 1, MaxDays: 3650, Seed: 1,
	}
}

// Validate reports the first invalid value.
func (c *Configuration) Validate() error {
	positive := func(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
	share := func(v float64) bool { return v >= 0 && v <= 1 }
	ordered := c.Strategy == Permutation || c.Strategy == HitList || c.Strategy == Flash
	for _, w := range []struct {
		wrong bool
		say   string
	}{
		{c.Networks < 1 || c.Networks > 1<<26, "networks must lie between 1 and 67108864"},
		{!positive(c.Hosts) || c.Hosts*float64(c.Networks) > 1<<28, "hosts must be positive, and all networks together hold at most 2^28"},
		{!positive(c.Space) || c.Space < 2*c.Hosts*float64(c.Networks), "space must hold at least twice as many addresses as there are vulnerable hosts"},
		{!ordered && c.Strategy != Random && c.Strategy != Local, "strategy must be random, local, permutation, hit-list or flash"},
		{!positive(c.Rate), "rate must be a positive number of scans per second"},
		{c.Strategy == Local && (!share(c.LocalShare) || c.LocalSpace < 1), "local-share must lie between 0 and 1, local-space be at least 1"},
		{c.List < 0 || !(c.ListLive > 0 && c.ListLive <= 1), "list must not be negative, list-live be above 0 and at most 1"},
		{!oneOf(c.Defence, None, Basic, Temporal, Spatial, Both, Full), "defence must be none, basic, temporal, spatial, both or full"},
		{!oneOf(c.Budget, Once, Twice, Agent), "budget must be once, twice or agent"},
		{!positive(c.Lambda), fmt.Sprintf("lambda is %g; it must be positive", c.Lambda)},
		{!positive(c.Omega), fmt.Sprintf("omega is %g; it must be positive", c.Omega)},
		{!positive(c.Phi), fmt.Sprintf("phi is %g; it must be positive", c.Phi)},
		{c.Tau < 0, fmt.Sprintf("tau is %g; it must not be negative", c.Tau)},
		{!positive(c.Days), fmt.Sprintf("days is %g; it must be positive", c.Days)},
		{!(c.Replies > 0 && c.Replies <= 1), "replies must be above 0 and at most 1"},
		{!share(c.Deployed), "deployed must lie between 0 and 1"},
		{c.Zones < 1 || c.Zones > c.Networks || c.Zones > 1000 || c.ZonePhi < 0, "zones must lie between 1 and the number of networks (at most 1000), zone-phi not be negative"},
		{!(c.Until > 0 && c.Until <= 1) || !positive(c.MaxDays), "until must be above 0 and at most 1, max-days be positive"},
		{ordered && !c.Instant, "strategy " + string(c.Strategy) + " works on whole networks: use --instant"},
		{ordered && (c.Budget == Agent || c.Zones > 1), "strategy " + string(c.Strategy) + " works with budget once or twice and one zone"},
		{c.Budget == Agent && (!c.Instant || c.Strategy == Local), "budget agent works on whole networks: use --instant and strategy random"},
	} {
		if w.wrong {
			return fmt.Errorf("simulation: %s", w.say)
		}
	}
	return nil
}

func oneOf[T comparable](v T, choices ...T) bool {
	for _, c := range choices {
		if v == c {
			return true
		}
	}
	return false
}

// externalRate is the rate of an infected host's scans that leave its network.
func (c *Configuration) externalRate() float64 {
	if c.Strategy == Local {
		return c.Rate * (1 - c.LocalShare)
	}
	return c.Rate
}

// passedRate is the rate of scans that leave a network with m infected hosts, for
// budgets Once and Twice.
func (c *Configuration) passedRate(m float64, deployed bool) float64 {
	rate := m * c.externalRate()
	if !deployed {
		return rate
	}
	times := 1.0
	if c.Budget == Twice {
		times = 2
	}
	temporal, spatial := m*times*c.Omega/Day/c.Replies, times*c.Phi/Day/c.Replies
	switch c.Defence {
	case Basic:
		rate = min(rate, m*c.Lambda/c.Replies)
	case Temporal:
		rate = min(rate, temporal)
	case Spatial:
		rate = min(rate, spatial)
	case Both, Full:
		rate = min(rate, temporal, spatial)
	}
	return rate
}
