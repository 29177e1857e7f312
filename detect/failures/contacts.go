package failures

import "dragnet/flow"

// contacts are the services that one source tried in a slice of time.
type contacts struct {
	services   map[service]contact
	handshakes int // services with which the source completed one, in each slice
}

type service struct {
	host  uint32
	port  uint16
	proto flow.Proto
}

// contact is what a source did with one service. Attempts are told apart by
// their time and port, so that a flow which is reported twice is one.
type contact struct {
	attempt  uint32 // of the first failed one; 0 for none
	answered bool
	met      bool // a handshake was completed
	again    bool // failed more than once
	refused  bool
	probed   bool
}

func (c *contacts) add(f *flow.Flow, s FlowSignal) {
	at := service{hostTarget(f.Resp), f.RespPort, f.Proto}
	k, known := c.services[at]
	if !known && len(c.services) >= targetBound {
		return
	}
	if s == Success {
		k.answered = true
		if !k.met && Handshake(f) {
			k.met = true
			c.handshakes++
		}
	} else {
		k.fail(attemptOf(f))
		k.refused, k.probed = k.refused || s == Refusal, k.probed || s == Probe
	}
	if c.services == nil {
		c.services = map[service]contact{}
	}
	c.services[at] = k
}

func (k *contact) fail(attempt uint32) {
	if k.attempt == 0 {
		k.attempt = attempt
	}
	k.again = k.again || k.attempt != attempt
	k.attempt = min(k.attempt, attempt) // the order of the flows must not matter
}

// attemptOf names an attempt; never 0.
func attemptOf(f *flow.Flow) uint32 {
	h := uint64(f.Start)*0x9e3779b97f4a7c15 ^ uint64(f.OrigPort)*0xc2b2ae3d27d4eb4f
	return uint32(h>>32) | 1
}

// merge adds the contacts of another slice.
func (c *contacts) merge(d *contacts) {
	if c.services == nil {
		c.services = make(map[service]contact, len(d.services))
	}
	c.handshakes += d.handshakes
	for at, k := range d.services {
		have := c.services[at]
		have.join(&k)
		c.services[at] = have
	}
}

func (k *contact) join(l *contact) {
	if l.attempt != 0 {
		k.fail(l.attempt)
	}
	k.answered, k.again = k.answered || l.answered, k.again || l.again
	k.refused, k.probed = k.refused || l.refused, k.probed || l.probed
}

// sums are the counts of contacts that are judged.
type sums struct{ answered, once, again, refused, silent, probed int }

func (s *sums) failed() int { return s.once + s.again }

func (s *sums) add(k *contact) {
	if k.attempt == 0 || k.answered && !k.probed {
		s.answered++
		return
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
}

// byHost sums the hosts, one that was tried on several ports as one: trying
// another port is not trying again.
func (c *contacts) byHost() sums {
	hosts := make(map[uint32]contact, len(c.services))
	for at, k := range c.services {
		have := hosts[at.host]
		again := have.again || k.again
		have.join(&k)
		have.again = again
		hosts[at.host] = have
	}
	var s sums
	for _, k := range hosts {
		s.add(&k)
	}
	return s
}

// byPort sums the hosts of each port.
func (c *contacts) byPort() map[service]*sums {
	all := map[service]*sums{}
	for at, k := range c.services {
		at.host = 0
		if all[at] == nil {
			all[at] = &sums{}
		}
		all[at].add(&k)
	}
	return all
}
