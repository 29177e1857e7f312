// Package border generates a day of connections at the border of a small
// research institute in 2006, so that evaluations that need a large border log
// can be repeated: the log of Allman et al. 2006, section 3.2 (ICSI, 27 July
// 2006, 6.2 million connections) was never published.
//
// It is a model, not a recording. What it assumes, and what of that decides
// how many (destination, protocol, port) tuples there are and how they
// collide:
//
//   - the site has one small prefix; scanners sweep all of it, on services
//     drawn by Zipf's law from a list of services scanned in 2006 (Scanned);
//   - clients fetch from outside servers whose popularity follows Zipf's law,
//     with addresses clustered in /24s, in the first octets that were
//     allocated in 2006 (Web, Names, Mail);
//   - the site's own servers have few tuples, each with many connections
//     (Served);
//   - some traffic goes to arbitrary ports, so that nearly every
//     connection is a separate tuple: peer-to-peer and passive file
//     transfer to hosts outside (Peers), and answers to attacks that forged
//     our addresses, called backscatter, to hosts inside (Backscatter);
//   - time of day does not matter: connections are spread evenly over the day.
//
// The shares of Peers and Backscatter, and the number of servers, decide the
// results most; they are in Configuration, so that others can be tried.
package border

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dragnet/flow"
)

// Configuration of a day.
type Configuration struct {
	Seed        uint64
	Connections int
	Start       time.Time
	Duration    time.Duration
	// Site is our network, IPv4 and at least a /30; Clients and Resolvers are
	// the numbers of its hosts that open connections and query name servers.
	Site               netip.Prefix
	Clients, Resolvers int
	// Shares of the connections; they need not sum to one.
	Shares Shares
	// WebServers, NameServers and MailServers are outside. Their popularity
	// falls with rank to the power of Skew.
	WebServers, NameServers, MailServers int
	Skew                                 float64
}

// Shares weigh the kinds of connections.
type Shares struct {
	Scanned, Backscatter, Served   float64 // inbound
	Web, Names, Mail, Peers, Pings float64 // outbound
}

// DefaultConfiguration is a day of 6.2 million connections. Nearly half of
// them are scans, as inbound traffic of research sites was then (Allman,
// Paxson and Terrell, "A Brief History of Scanning", IMC 2007).
func DefaultConfiguration() Configuration {
	return Configuration{
		Seed: 1, Connections: 6_200_000, Start: time.Date(2006, 7, 27, 0, 0, 0, 0, time.UTC), Duration: 24 * time.Hour,
		Site: netip.MustParsePrefix("198.18.0.0/22"), Clients: 400, Resolvers: 4,
		Shares: Shares{
			Scanned: 0.45, Backscatter: 0.03, Served: 0.12,
			Web: 0.18, Names: 0.12, Mail: 0.03, Peers: 0.05, Pings: 0.02,
		},
		WebServers: 200_000, NameServers: 100_000, MailServers: 30_000, Skew: 1,
	}
}

// Validate reports invalid settings.
func (c *Configuration) Validate() error {
	s := c.Shares
	for _, share := range []float64{s.Scanned, s.Backscatter, s.Served, s.Web, s.Names, s.Mail, s.Peers, s.Pings} {
		if !(share >= 0) {
			return fmt.Errorf("border: a share of %g; want 0 or more", share)
		}
	}
	switch {
	case c.Connections < 0 || c.Duration <= 0:
		return errors.New("border: connections and duration must be positive")
	case !c.Site.IsValid() || !c.Site.Addr().Is4() || c.Site.Bits() > 30:
		return fmt.Errorf("border: site %s; want an IPv4 prefix of at most 30 bits", c.Site)
	case c.Clients < 1 || c.Resolvers < 1 || c.WebServers < 1 || c.NameServers < 1 || c.MailServers < 1:
		return errors.New("border: at least one client, resolver and server of each kind")
	case s.sumShares() == 0:
		return errors.New("border: all shares are zero")
	}
	return nil
}

func (s Shares) sumShares() float64 {
	return s.Scanned + s.Backscatter + s.Served + s.Web + s.Names + s.Mail + s.Peers + s.Pings
}

// Day is the connections of one day, generated identically at every scan: it
// takes a few megabytes whatever their number.
type Day struct{ config Configuration }

// New is the log of a day.
func New(c Configuration) (*Day, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Day{c}, nil
}

// batch is the number of connections per call of fn.
const batch = 4096

// Scan calls fn with the connections that start in w, in order of time.
func (l *Day) Scan(ctx context.Context, w flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	g := newGenerator(l.config)
	step := l.config.Duration / time.Duration(max(l.config.Connections, 1))
	start := flow.FromTime(l.config.Start)
	flows := make([]flow.Flow, 0, batch)
	for i := 0; i < l.config.Connections; {
		if err := ctx.Err(); err != nil {
			return cov, err
		}
		flows = flows[:0]
		for ; i < l.config.Connections && len(flows) < batch; i++ {
			f := g.nextFlow()
			f.Start = start + flow.Time(i)*flow.Time(step)
			f.Sampling = 1
			if w.Contains(f.Start) {
				flows = append(flows, f)
			}
		}
		cov.Saw(flows)
		if err := fn(flows); err != nil {
			return cov, err
		}
	}
	return cov, nil
}
