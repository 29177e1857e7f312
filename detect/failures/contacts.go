package failures

import (
	"cmp"
	"maps"

	"dragnet/flow"
)

// contacts are the hosts that one source tried in a slice of time.
type contacts struct {
	hosts      map[uint32]contact
	handshakes int // hosts with which the source completed one, in each slice
}

// contact is what a source did with one host. Attempts are told apart by their
// time and port, so that a flow which is said twice is one.
type contact struct {
	attempt  uint32 // of the first failed one; 0 for none
	port     uint16 // the lowest on which it failed
	answered bool
	met      bool // a handshake was completed
	again    bool // failed more than once
	refused  bool
	probed   bool
}

func (c *contacts) add(f *flow.Flow, s FlowSignal) {
	host := hostTarget(f.Resp)
	k, known := c.hosts[host]
	if !known && len(c.hosts) >= targetBound {
		return
	}
	if s == Success {
		k.answered = true
		if !k.met && Handshake(f) {
			k.met = true
			c.handshakes++
		}
	} else {
		k.fail(attemptOf(f), f.RespPort)
		k.refused, k.probed = k.refused || s == Refusal, k.probed || s == Probe
	}
	if c.hosts == nil {
		c.hosts = map[uint32]contact{}
	}
	c.hosts[host] = k
}

func (k *contact) fail(attempt uint32, port uint16) {
	switch {
	case k.attempt == 0:
		k.attempt, k.port = attempt, port
	case k.attempt != attempt:
		k.again = true
	}
	// The order of the flows must not matter.
	k.attempt, k.port = min(k.attempt, attempt), min(k.port, port)
}

// attemptOf names an attempt; never 0.
func attemptOf(f *flow.Flow) uint32 {
	h := uint64(f.Start)*0x9e3779b97f4a7c15 ^ uint64(f.OrigPort)*0xc2b2ae3d27d4eb4f
	return uint32(h>>32) | 1
}

// merge adds the contacts of a later slice.
func (c *contacts) merge(d *contacts) {
	if c.hosts == nil {
		c.hosts = make(map[uint32]contact, len(d.hosts))
	}
	c.handshakes += d.handshakes
	for host, k := range d.hosts {
		have := c.hosts[host]
		have.answered, have.again = have.answered || k.answered, have.again || k.again
		have.refused, have.probed = have.refused || k.refused, have.probed || k.probed
		if k.attempt != 0 {
			have.fail(k.attempt, k.port)
		}
		c.hosts[host] = have
	}
}

// sums are the counts of contacts that are judged.
type sums struct {
	answered, once, again, refused, silent, probed int
	port                                           uint16 // most failed on it
	onPort                                         int
}

func (c *contacts) sum() sums {
	var s sums
	ports := map[uint16]int{}
	for k := range maps.Values(c.hosts) {
		if k.attempt == 0 || k.answered && !k.probed {
			s.answered++
			continue
		}
		if k.again {
			s.again++
		} else {
			s.once++
		}
		switch {
		case k.probed:
			s.probed++
		case k.refused:
			s.refused++
		default:
			s.silent++
		}
		ports[k.port]++
	}
	for port, n := range ports {
		if cmp.Or(cmp.Compare(n, s.onPort), cmp.Compare(s.port, port)) > 0 {
			s.port, s.onPort = port, n
		}
	}
	return s
}

func (s *sums) failed() int { return s.once + s.again }
