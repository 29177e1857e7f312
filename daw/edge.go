package daw

import (
	"net/netip"

	"dragnet/flow"
)

// Edge is the agent's knowledge of one customer network at one edge router.
type Edge struct {
	p        Parameters
	scope    *scope
	clock    clock
	hosts    tier // single addresses
	networks tier // the /64s of IPv6
	recent   recent
	requests requests
	spatial  spatial
	blocks   map[key]*history
	links    map[key]uint64
	counts   Counts // of today
	previous Counts // of the last day before
}

// New starts an edge at now. Parameters and scope must be valid.
func New(p Parameters, s Scope, now flow.Time) (*Edge, error) {
	if _, err := p.Validate(); err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	e := &Edge{p: p, scope: s.compile(), clock: newClock(now, int64(p.Midnight)), blocks: map[key]*history{}, links: map[key]uint64{}}
	e.counts.Day = e.clock.day
	t := e.clock.now
	e.hosts = newTier(&p, 1, p.Seed)
	e.networks = newTier(&p, p.Network64, p.Seed+1)
	e.recent = newRecent(p.Recent, p.Seed+2)
	e.requests = newRequests(p.Requests, p.Match, t)
	return e, nil
}

func (p *Parameters) quota() quota {
	return quota{omega: float64(p.Omega), lambda: p.Lambda, size: p.Bucket}
}

// Verdict is what becomes of a connection request.
type Verdict uint8

// The verdicts.
const (
	Unwatched Verdict = iota // not of S, or not to P: passes
	Forward                  // passes, and is remembered
	Temporal                 // dropped: its source's limit
	Network64                // dropped: the limit of its source's /64
	Spatial                  // dropped: the customer network's limit
	Blocked                  // dropped: its source is blocked
	Spoofed                  // dropped: the source belongs to another link
)

// Passes reports whether the packet goes on.
func (v Verdict) Passes() bool { return v <= Forward }

// Request judges a SYN that enters from the customer network.
func (e *Edge) Request(now flow.Time, c *Conn) Verdict {
	t := e.tell(now)
	if !e.scope.watches(c) {
		return Unwatched
	}
	k := keyOf(c.Src)
	hash := c.hash(k, keyOf(c.Dst), e.p.Seed)
	e.requests.touch(hash)
	s := e.hosts.look(k)
	v := e.judge(t, k, c, &s)
	e.counts.Verdicts[v]++
	if v != Forward {
		return v
	}
	if e.requests.add(t, hash, c.Seq) {
		e.counts.Requests++
		*s.asked()++
	}
	return Forward
}

func (e *Edge) judge(t flow.Time, k key, c *Conn, s *source) Verdict {
	if len(e.links) > 0 && c.Link != 0 {
		if link, bound := e.links[k]; bound && link != c.Link {
			return Spoofed
		}
	}
	if len(e.blocks) > 0 && e.blocked(t, k) {
		return Blocked
	}
	r := s.record
	if r != nil && !e.hosts.admit(t, s, &e.p, e.clock.end) {
		return Temporal
	}
	if !k.is4() {
		if n := e.networks.look(key{hi: k.hi}); n.record != nil && !e.networks.admit(t, &n, &e.p, e.clock.end) {
			return Network64
		}
	}
	if r != nil && e.spatial.active && int(r.c) > e.p.Tau && !e.spatial.admit(t, e.wide(), e.clock.end) {
		r.flags |= atLimit
		return Spatial
	}
	return Forward
}

// asked is where x is counted, answered where y is.
func (s *source) asked() *uint32 {
	if s.record != nil {
		return &s.record.asked
	}
	return &s.entry.asked
}

func (s *source) answered() *uint32 {
	if s.record != nil {
		return &s.record.answered
	}
	return &s.entry.answered
}

// wide is the quota of the customer network as a whole.
func (e *Edge) wide() quota {
	phi := float64(e.p.Phi)
	return quota{omega: phi, lambda: e.p.Lambda, size: min(e.p.Bucket, phi/2)}
}

// Success notes a SYN-ACK that answers a request.
func (e *Edge) Success(now flow.Time, c *Conn) {
	t := e.tell(now)
	if !e.scope.watches(c) {
		return
	}
	k := keyOf(c.Src)
	hash := c.hash(k, keyOf(c.Dst), e.p.Seed)
	e.requests.touch(hash)
	s := e.hosts.look(k)
	if e.requests.take(t, hash, c.Seq, true) == forged {
		return
	}
	e.counts.Successes++
	*s.answered()++
}

// Kind tells what reported a failure.
type Kind uint8

// The kinds of failure replies.
const (
	Reset       Kind = iota // a TCP RST that acknowledges the SYN
	Unreachable             // an ICMP error; the destination is the quoted one, not its sender
	Logged                  // a FailLog message: knows no sequence number
)

// Outcome is what was made of a failure reply.
type Outcome uint8

// The outcomes.
const (
	Ignored Outcome = iota // not of S, or not from P
	Counted
	Forged  // no request in memory could have caused it
	Recent  // its destination is in the list of recent failures
	Induced // its source failed to the same /24 or /48 just before
)

// Failure notes a failure reply that leaves for the customer network.
func (e *Edge) Failure(now flow.Time, kind Kind, c *Conn) Outcome {
	t := e.tell(now)
	if !e.scope.watches(c) {
		return Ignored
	}
	o := e.fail(t, kind, c)
	e.counts.Outcomes[o]++
	return o
}

func (e *Edge) fail(t flow.Time, kind Kind, c *Conn) Outcome {
	k, d := keyOf(c.Src), keyOf(c.Dst)
	hash := c.hash(k, d, e.p.Seed)
	e.requests.touch(hash)
	s := e.hosts.look(k)
	switch e.requests.take(t, hash, c.Seq, kind != Logged) {
	case forged:
		return Forged
	case unknown:
		if !s.plausible() {
			return Forged
		}
	}
	if !e.recent.add(d) {
		return Recent
	}
	site := e.siteTag(t, d)
	if s.record != nil && e.induced(&s, site) {
		return Induced
	}
	if !e.spatial.active && e.p.Phi > 0 && e.recent.inserted > uint64(e.p.Phi) {
		e.spatial.begin(t)
	}
	if e.hosts.fail(t, &s, k, &e.p, e.spatial.active); s.record != nil {
		s.record.lastSite = site
		e.spatial.fail(s.record, e.p.Tau)
	}
	if !k.is4() {
		n := key{hi: k.hi}
		s := e.networks.look(n)
		e.networks.fail(t, &s, n, &e.p, false)
	}
	return Counted
}

// plausible is the invariant that needs no memory of single requests: c + y
// must not exceed x (Tang 2006, section 2.3.12).
func (s *source) plausible() bool {
	if r := s.record; r != nil && r.asked > 0 {
		return r.c+r.answered < r.asked
	}
	return s.entry.c+s.entry.answered < s.entry.asked
}

// induced forgives a failure that follows another to the same /24 or /48.
func (e *Edge) induced(s *source, site uint32) bool {
	if e.p.Induced == 0 || s.record.lastSite != site || s.record.c == 0 {
		return false
	}
	book := e.hosts.records.book(s.slot)
	if int(book.forgiven) >= e.p.Grace {
		return false
	}
	book.forgiven++
	return true
}

// siteTag stands for a /24 or /48 during one span of Induced.
func (e *Edge) siteTag(t flow.Time, d key) uint32 {
	if e.p.Induced == 0 {
		return 0
	}
	return uint32(d.site().hash(e.p.Seed ^ uint64(t)/uint64(e.p.Induced)))
}

// Bind ties an address to the link it is reached by; requests from others are
// dropped as spoofed. Link 0 unties it.
func (e *Edge) Bind(addr netip.Addr, link uint64) {
	if link == 0 {
		delete(e.links, keyOf(addr))
		return
	}
	e.links[keyOf(addr)] = link
}

// tell moves the clock and begins a new day when one has come.
func (e *Edge) tell(now flow.Time) flow.Time {
	if midnights := e.clock.tell(now); midnights > 0 {
		start := e.clock.start()
		e.hosts.newDay(start, e.clock.day, midnights, &e.p)
		e.networks.newDay(start, e.clock.day, midnights, &e.p)
		e.recent.clear()
		e.spatial = spatial{}
		e.forgetBlocks(start)
		e.previous, e.counts = e.counts, Counts{Day: e.clock.day}
	}
	return e.clock.now
}
