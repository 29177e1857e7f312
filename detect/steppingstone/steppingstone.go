// Package steppingstone finds hosts through which somebody passes on: pairs of
// TCP connections of a site, one with the host before and one with the host
// after, in which data arrives by one and leaves by the other shortly later, in
// both directions. It sees times and sizes of packets only, so encryption does not
// hide a pair. It needs both connections in one capture, as at the site's edge,
// and no program on any host; what it finds is where to ask ident daemons next.
//
// Three facts about a pair are measured for each direction in which data passes:
// how many packets that begin something new (20 ms of silence before them) are
// followed by one of the other connection after the same delay; how much the
// transferred octets vary together; and how many octets there are. Each is
// compared with the same measure at delays no relay has, which is what two busy
// but unrelated connections show. A logistic model, learnt from chains of real
// ssh, weighs them. The baseline is the algorithm of Zhang and Paxson, Detecting
// Stepping Stones, USENIX Security 2000, section 4: ends of idle periods that
// coincide.
//
// Not found: chains whose delay exceeds MaxDelay, that carry hardly any data
// while both are seen, or whose relay sends without regard to what it receives.
package steppingstone

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/flow"
)

// Configuration sets how pairs are judged.
type Configuration struct {
	// Networks are the site's own: each connection has one end in them.
	Networks []netip.Prefix
	// MaxDelay is how long a relay may keep data.
	MaxDelay time.Duration
	// Score is the least score of a pair that is reported; see DefaultScore.
	Score float64
	// MinOnsets is how many packets must begin something new in each direction of
	// both connections while both are open, for the pair to be judged.
	MinOnsets int
	// AnyHost also compares connections of two hosts of the site.
	AnyHost bool
	// Reverse also compares connections that were both opened from inside, as by a
	// reverse shell; those of a browser often follow each other.
	Reverse bool
	// MaxConnections bounds the connections kept; those with least data are
	// forgotten first.
	MaxConnections int
}

// DefaultConfiguration has the score that one in a thousand pairs of unrelated
// connections exceeds.
func DefaultConfiguration() Configuration {
	return Configuration{MaxDelay: 1500 * time.Millisecond, Score: DefaultScore, MinOnsets: 4, MaxConnections: 4096}
}

// Validate reports a setting that makes no sense.
func (c *Configuration) Validate() error {
	switch {
	case len(c.Networks) == 0:
		return fmt.Errorf("no network of the site is given")
	case c.MaxDelay < 10*time.Millisecond || c.MaxDelay > 10*time.Second:
		return fmt.Errorf("a delay of %v is not from 10ms to 10s", c.MaxDelay)
	case c.MinOnsets < 4:
		return fmt.Errorf("%d onsets are less than 4", c.MinOnsets)
	case c.MaxConnections < 2:
		return fmt.Errorf("%d connections are less than 2", c.MaxConnections)
	}
	return nil
}

// Event is data that was sent at one time.
type Event struct {
	Time flow.Time
	Size int // octets of payload
}

// Connection is what was seen of one TCP connection across the site's edge.
type Connection struct {
	// Inside is the end within the site, Outside the other one.
	Inside, Outside netip.AddrPort
	// Inbound says that the outside opened it; it is guessed where the capture began
	// later.
	Inbound     bool
	First, Last flow.Time
	// Arriving came from outside, Leaving went there. Packets of the same
	// millisecond are one event.
	Arriving, Leaving []Event
	octets            int
	next              [2]uint32 // sequence numbers, of arriving and leaving data
	began             [2]bool
}

// String names the ends as the connection was opened.
func (c *Connection) String() string {
	if c.Inbound {
		return fmt.Sprintf("%v to %v", c.Outside, c.Inside)
	}
	return fmt.Sprintf("%v to %v", c.Inside, c.Outside)
}

// Pair is a stepping stone: what arrives by Before leaves by After.
type Pair struct {
	Before, After *Connection
	Score         float64
	// Onsets is how many packets that began something new arrived by Before, and
	// Followed the share of them that one leaving by After followed.
	Onsets   int
	Followed float64
	// Delay is after how long, in most cases.
	Delay time.Duration
}

// Detect judges all pairs of connections that were open at the same time, and
// returns those with at least the configured score, highest first.
func Detect(ctx context.Context, c Configuration, all []*Connection) ([]Pair, error) {
	var found []Pair
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b *Connection) int { return cmp.Compare(a.First, b.First) })
	for i, a := range sorted {
		for _, b := range sorted[i+1:] {
			if b.First > a.Last {
				break
			}
			if !c.AnyHost && a.Inside.Addr() != b.Inside.Addr() || !c.Reverse && !a.Inbound && !b.Inbound {
				continue
			}
			if p, ok := Judge(c, a, b); ok && p.Score >= c.Score {
				found = append(found, p)
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(a, b Pair) int { return cmp.Compare(b.Score, a.Score) })
	return found, nil
}

// Judge scores one pair; ok is false where there is too little data. Of the two
// orders the one with the higher score is taken: commands are followed more closely
// than anything that they cause later.
func Judge(c Configuration, a, b *Connection) (Pair, bool) {
	from, to := max(a.First, b.First), min(a.Last, b.Last)
	features, followed, ok := c.compare(a, b, from, to)
	if !ok {
		return Pair{}, false
	}
	p := Pair{Before: a, After: b, Score: weigh(features), Onsets: followed[0].onsets, Followed: followed[0].share, Delay: followed[0].delay}
	// Where an inbound connection is one of the two, it is the one before.
	if !a.Inbound && b.Inbound {
		p.Before, p.After = b, a
		p.Onsets, p.Followed, p.Delay = followed[1].onsets, followed[1].share, followed[1].delay
	}
	return p, true
}
