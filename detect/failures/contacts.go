package failures

import (
	"slices"
	"time"

	"dragnet/flow"
)

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
// their ports, so that a SYN which is retransmitted, and a flow which is reported
// twice, are one.
type contact struct {
	ports       [fewAttempts]uint16 // of failed attempts
	n           uint8               // of them
	many        bool                // there were more
	answered    bool
	returned    bool   // answered more than once
	port        uint16 // of an attempt that was answered
	met         bool   // a handshake was completed
	refused     bool
	probed      bool
	first, last uint32 // failed attempt, in tenths of a second, whose number wraps
}

// Scanners send a probe two or three times within seconds, as it may have been lost.
// Who wants an answer tries again later, or more often.
const (
	fewAttempts = 3
	patience    = 50 // tenths of a second
	// retransmission bounds how long a connection that fails may send its SYN again
	// (Linux, with its usual tcp_syn_retries: 127 s).
	retransmission = 1300 // tenths of a second
)

// again reports whether the source tried again after it failed.
func (k *contact) again() bool {
	span := int32(k.last - k.first)
	return k.many || k.n > 1 && span >= patience || span >= retransmission
}

func (c *contacts) add(f *flow.Flow, s FlowSignal) {
	at := service{hostTarget(f.Resp), f.RespPort, f.Proto}
	k, known := c.services[at]
	if !known && len(c.services) >= targetBound {
		return
	}
	if s == Success {
		k.answer(f.OrigPort)
		if !k.met && Handshake(f) {
			k.met = true
			c.handshakes++
		}
	} else {
		k.fail(f.OrigPort, tenthsOf(f.Start))
		k.refused, k.probed = k.refused || s == Refusal, k.probed || s == Probe
	}
	if c.services == nil {
		c.services = map[service]contact{}
	}
	c.services[at] = k
}

func (k *contact) answer(port uint16) {
	if k.answered {
		k.returned = k.returned || k.port != port
		return
	}
	k.answered, k.port = true, port
}

// fail counts an attempt. The order of the flows must not matter.
func (k *contact) fail(port uint16, at uint32) {
	if k.n == 0 {
		k.first, k.last = at, at
	}
	if int32(at-k.first) < 0 {
		k.first = at
	}
	if int32(at-k.last) > 0 {
		k.last = at
	}
	switch {
	case slices.Contains(k.ports[:k.n], port):
	case k.n < fewAttempts:
		k.ports[k.n] = port
		k.n++
	default:
		k.many = true
	}
}

func tenthsOf(t flow.Time) uint32 { return uint32(floorDivide(int64(t), int64(100*time.Millisecond))) }

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
	for _, port := range l.ports[:l.n] {
		k.fail(port, l.first)
		k.fail(port, l.last)
	}
	if l.answered {
		k.answer(l.port)
	}
	k.returned, k.many = k.returned || l.returned, k.many || l.many
	k.refused, k.probed = k.refused || l.refused, k.probed || l.probed
}

// sums are the counts of contacts that are judged.
type sums struct{ answered, returned, once, again, refused, silent, probed int }

func (s *sums) failed() int { return s.once + s.again }

func (s *sums) add(o outcome) {
	if !o.failed || o.answered && !o.probed {
		s.answered++
		if o.returned {
			s.returned++
		}
		return
	}
	if o.again {
		s.again++
	} else {
		s.once++
	}
	switch {
	case o.probed:
		s.probed++
	case o.refused:
		s.refused++
	default:
		s.silent++
	}
}

// outcome is what became of the attempts at a service or a host.
type outcome struct{ failed, again, answered, returned, refused, probed bool }

func (k *contact) outcome() outcome {
	return outcome{k.n > 0, k.again(), k.answered, k.returned, k.refused, k.probed}
}

func (o *outcome) join(p outcome) {
	*o = outcome{
		failed: o.failed || p.failed, again: o.again || p.again, answered: o.answered || p.answered,
		returned: o.returned || p.returned, refused: o.refused || p.refused, probed: o.probed || p.probed,
	}
}

// byHost sums the hosts, one that was tried on several ports as one: trying
// another port is not trying again.
func (c *contacts) byHost() sums {
	hosts := make(map[uint32]outcome, len(c.services))
	for at, k := range c.services {
		have := hosts[at.host]
		have.join(k.outcome())
		hosts[at.host] = have
	}
	var s sums
	for _, o := range hosts {
		s.add(o)
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
		all[at].add(k.outcome())
	}
	return all
}
