package border

import "dragnet/flow"

// service is a port with its protocol.
type service struct {
	port  uint16
	proto flow.Proto
}

// scannedServices are, the most scanned first, those that honeypots and dark
// networks of 2006 reported: Windows file sharing and remote calls, SQL Server
// and SSH first, then proxies, worms' back doors and messenger spam.
func scannedServices() []service {
	var all []service
	for _, p := range []uint16{
		445, 139, 135, 1433, 22, 80, 4899, 5900, 1025, 2967, 3306, 6129, 21, 42, 25, 443, 23, 3128, 8080, 1080,
		2745, 3127, 5554, 9898, 5000, 6101, 41523, 10000, 111, 3389, 2100, 1521, 7212, 8000, 6588, 27374, 4000, 113, 53, 110,
	} {
		all = append(all, service{p, flow.TCP})
		switch p { // messenger spam, Slammer and others used UDP
		case 135:
			all = append(all, service{1026, flow.UDP}, service{1027, flow.UDP}, service{1434, flow.UDP})
		case 1433:
			all = append(all, service{137, flow.UDP}, service{0, flow.ICMP})
		}
	}
	return all
}

// scanners is the number of simultaneous scans.
const scanners = 24

// scan is one sweep of the whole site on one service.
type scan struct {
	from uint32
	service
	next, left uint32
}

// nextProbe is the next probe of a sweep; a finished sweep is replaced by one
// of another scanner.
func (g *generator) nextProbe() flow.Flow {
	s := &g.scans[g.rng.IntN(scanners)]
	if s.left == 0 {
		*s = scan{g.outsideAddr(), g.services[g.scanned.drawRank(g.rng)], g.rng.Uint32N(g.size), g.size}
	}
	to := endpoint{g.base + s.next, s.port, s.proto}
	s.next, s.left = (s.next+1)%g.size, s.left-1
	state := flow.S0
	if g.rng.IntN(4) == 0 {
		state = flow.REJ
	}
	return g.makeFlow(s.from, to, state)
}

// makeBackscatter is an answer to a packet forged with our address.
func (g *generator) makeBackscatter() flow.Flow {
	f := g.makeFlow(g.outsideAddr(), endpoint{g.insideAddr(), g.ephemeralPort(), flow.TCP}, flow.OTH)
	f.OrigPort = 80
	return f
}

// makeServed places the site's own servers, the busiest first.
func (g *generator) makeServed() {
	for _, s := range []struct {
		service
		hosts int
	}{
		{service{25, flow.TCP}, 4}, {service{80, flow.TCP}, 20}, {service{53, flow.UDP}, 3}, {service{113, flow.TCP}, 4},
		{service{22, flow.TCP}, 60}, {service{443, flow.TCP}, 8}, {service{21, flow.TCP}, 3}, {service{993, flow.TCP}, 2}, {service{123, flow.UDP}, 3},
	} {
		for _, host := range g.insideAddrs(s.hosts) {
			g.served = append(g.served, endpoint{host, s.port, s.proto})
		}
	}
	g.servedBy = zipfWeights(len(g.served), 1)
}

func (g *generator) makeInbound() flow.Flow {
	return g.makeFlow(g.outsideAddr(), g.served[g.servedBy.drawRank(g.rng)], flow.SF)
}
