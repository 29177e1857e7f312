package daw

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"dragnet/flow"
)

// Edge is the agent's state for one customer network at one edge router.
type Edge struct {
	p        Parameters
	scope    *compiledScope
	clock    clock
	hosts    tier // single addresses
	prefixes [len(prefixBits)]tier
	recent   recent
	answered answered
	waiting  waiting
	requests requests
	spatial  spatial
	network  quota // of the whole customer network
	listAll  bool  // each source that fails has a record
	blocks   map[key]*blockHistory
	links    bart.Table[[]uint64] // by the prefixes bound to them
	bound    bool                 // sources without a binding are not watched
	counts   Counts               // of today
	previous Counts               // of the last day before
}

// New makes an edge whose time starts at now. Parameters and scope must be
// valid.
func New(p Parameters, s Scope, now flow.Time) (*Edge, error) {
	if _, err := p.Validate(); err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	e := &Edge{p: p, scope: s.compileScope(), clock: newClock(now, int64(p.Midnight)), blocks: map[key]*blockHistory{}}
	e.counts.Day = e.clock.day
	t := e.clock.now
	e.network = newQuota(p.Phi, p.Lambda, min(p.Bucket, float64(p.Phi)/2), 1)
	e.hosts = newTier(&p, 1, p.Seed)
	for i, scale := range [...]int{p.Network64, p.Network56, p.Network48} {
		e.prefixes[i] = newTier(&p, scale, p.Seed+10+uint64(i))
	}
	e.answered = newAnswered(p.Answered, p.Seed+3)
	e.waiting = newWaiting(&p)
	e.recent = newRecent(p.Recent, p.Seed+2)
	e.requests = newRequests(p.Requests, p.Match, t)
	return e, nil
}

// RequestVerdict is the decision about a connection request.
type RequestVerdict uint8

// The verdicts.
const (
	Unwatched RequestVerdict = iota // not of S, or not to P: passes
	Forward                         // passes, and is recorded
	Temporal                        // dropped: its source's limit
	Network64                       // dropped: the limit of its source's /64
	Network56                       // of its /56
	Network48                       // of its /48
	Spatial                         // dropped: the customer network's limit
	Blocked                         // dropped: its source is blocked
	Spoofed                         // dropped: the source belongs to another link
)

// String is the name of the limit that drops the request, or of what else became of
// it.
func (v RequestVerdict) String() string {
	names := [...]string{"unwatched", "forward", "temporal", "network64", "network56", "network48", "spatial", "blocked", "spoofed"}
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}

// Passes reports whether the packet is forwarded.
func (v RequestVerdict) Passes() bool { return v <= Forward }

// Request judges a SYN that enters from the customer network.
func (e *Edge) Request(now flow.Time, c *Conn) RequestVerdict {
	if !e.scope.watchesConn(c) {
		return Unwatched
	}
	link := e.checkLink(c)
	if link == Unwatched {
		return Unwatched
	}
	t := e.advanceClock(now)
	if link == Spoofed {
		e.counts.Verdicts[link]++
		return link
	}
	k := keyOf(c.Src)
	hash := c.hashWith(k, keyOf(c.Dst), e.p.Seed)
	e.requests.prefetchLine(hash)
	s := e.hosts.findSource(k)
	v := e.judgeRequest(t, k, c, &s)
	if v.IsLimit() && e.answered.has(serviceOf(c)) {
		e.counts.Known++
		v = Forward
	}
	e.counts.Verdicts[v]++
	if v != Forward {
		return v
	}
	if e.requests.addRequest(t, hash, c.Seq) {
		e.counts.Requests++
		*s.requestCount()++
		e.waiting.push(t, k, c, hash)
	}
	return Forward
}

// IsLimit reports whether a limit, and not a block, drops the request.
func (v RequestVerdict) IsLimit() bool { return v >= Temporal && v <= Spatial }

// HeldBits is the length of the prefix that a limit acts on when it drops a request
// of src: the whole address, or for IPv6 the prefix whose limit it is. The spatial
// limit acts on the largest.
func (v RequestVerdict) HeldBits(src netip.Addr) int {
	switch {
	case v >= Network64 && v <= Network48:
		return prefixBits[v-Network64]
	case v == Spatial && src.Is6() && !src.Is4In6():
		return prefixBits[len(prefixBits)-1]
	}
	return src.BitLen()
}

func (e *Edge) judgeRequest(t flow.Time, k key, c *Conn, s *source) RequestVerdict {
	if len(e.blocks) > 0 && e.isBlocked(t, k) {
		return Blocked
	}
	r := s.record
	if r != nil && !e.hosts.admitRequest(t, s, &e.p, e.clock.end) {
		return Temporal
	}
	if !k.is4() {
		for i := range e.prefixes {
			tier := &e.prefixes[i]
			n := tier.findSource(k.prefixOf(i))
			if n.record != nil && !tier.admitRequest(t, &n, &e.p, e.clock.end) {
				return Network64 + RequestVerdict(i)
			}
			r = n.record // of the largest prefix in the end, the unit of the spatial limit
		}
	}
	if r != nil && e.spatial.active && int(r.c) > e.p.Tau && !e.spatial.admitRequest(t, &e.network, e.clock.end) {
		r.flags |= atLimit
		return Spatial
	}
	return Forward
}

// requestCount is where x is counted, successCount where y is.
func (s *source) requestCount() *uint32 {
	if s.record != nil {
		return &s.record.asked
	}
	return &s.entry.asked
}

func (s *source) successCount() *uint32 {
	if s.record != nil {
		return &s.record.answered
	}
	return &s.entry.answered
}

// Success counts a SYN-ACK that answers a request; the outcome is Ignored, Counted
// or Forged.
func (e *Edge) Success(now flow.Time, c *Conn) ReplyOutcome {
	if !e.scope.watchesConn(c) {
		return Ignored
	}
	t := e.advanceClock(now)
	k := keyOf(c.Src)
	hash := c.hashWith(k, keyOf(c.Dst), e.p.Seed)
	e.requests.prefetchLine(hash)
	s := e.hosts.findSource(k)
	if e.requests.takeRequest(t, hash, c.Seq, true) == forged {
		return Forged
	}
	e.waiting.replied = t
	e.answered.add(serviceOf(c))
	e.counts.Successes++
	*s.successCount()++
	return Counted
}

// FailureKind is what reported a failure.
type FailureKind uint8

// The kinds of failure replies.
const (
	Reset       FailureKind = iota // a TCP RST that acknowledges the SYN
	Unreachable                    // an ICMP error; the destination is the quoted one, not its sender
	Logged                         // a FailLog message, without a sequence number
	Silent                         // no reply within Parameters.Silence; found by the Edge itself
)

// ReplyOutcome is how a failure reply was counted.
type ReplyOutcome uint8

// The outcomes.
const (
	Ignored ReplyOutcome = iota // not of S, or not from P
	Counted
	Forged  // no request in memory could have caused it
	Recent  // its destination is in the list of recent failures
	Induced // its source failed to the same /24 or /48 just before
)

// Failure counts a failure reply on its way to the customer network.
func (e *Edge) Failure(now flow.Time, kind FailureKind, c *Conn) ReplyOutcome {
	if !e.scope.watchesConn(c) {
		return Ignored
	}
	t := e.advanceClock(now)
	o := e.countFailure(t, kind, c)
	e.counts.Outcomes[o]++
	return o
}

func (e *Edge) countFailure(t flow.Time, kind FailureKind, c *Conn) ReplyOutcome {
	k, d := keyOf(c.Src), keyOf(c.Dst)
	hash := c.hashWith(k, d, e.p.Seed)
	e.requests.prefetchLine(hash)
	s := e.hosts.findSource(k)
	switch e.requests.takeRequest(t, hash, c.Seq, kind != Logged) {
	case forged:
		return Forged
	case unknown:
		if !s.isPlausible() {
			return Forged
		}
	}
	if kind != Silent {
		e.waiting.replied = t
	}
	e.answered.remove(serviceOf(c))
	if !e.recent.addAddr(d) {
		return Recent
	}
	site := e.siteTag(t, d)
	if s.record != nil && e.isInduced(&s, site) {
		return Induced
	}
	if !e.spatial.active && e.p.Phi > 0 && e.recent.inserted > uint64(e.p.Phi) {
		e.spatial.beginLimit(t)
	}
	if e.hosts.countFailure(t, &s, k, &e.p, e.spatial.active && k.is4(), e.listAll); s.record != nil {
		s.record.lastSite = site
		if kind == Silent {
			e.hosts.records.historyAt(s.slot).silent++
		}
	}
	unit := s.record
	if !k.is4() {
		unit = e.countPrefixes(t, k)
	}
	if unit != nil {
		e.spatial.countFailure(unit, e.p.Tau)
	}
	return Counted
}

// countPrefixes counts a failure for the prefixes of an IPv6 address, and returns
// the record of the largest or nil.
func (e *Edge) countPrefixes(t flow.Time, k key) (largest *record) {
	for i := range e.prefixes {
		n := k.prefixOf(i)
		s := e.prefixes[i].findSource(n)
		e.prefixes[i].countFailure(t, &s, n, &e.p, e.spatial.active && i == len(e.prefixes)-1, false)
		largest = s.record
	}
	return largest
}

// isPlausible is the invariant that needs no memory of single requests: c + y
// must not exceed x (Tang 2006, section 2.3.12).
func (s *source) isPlausible() bool {
	if r := s.record; r != nil && r.asked > 0 {
		return r.c+r.answered < r.asked
	}
	return s.entry.c+s.entry.answered < s.entry.asked
}

// isInduced forgives a failure that follows another to the same /24 or /48.
func (e *Edge) isInduced(s *source, site uint32) bool {
	if e.p.Induced == 0 || s.record.lastSite != site || s.record.c == 0 {
		return false
	}
	book := e.hosts.records.historyAt(s.slot)
	if int(book.forgiven) >= e.p.Grace {
		return false
	}
	book.forgiven++
	return true
}

// siteTag identifies a /24 or /48 during one span of Induced.
func (e *Edge) siteTag(t flow.Time, d key) uint32 {
	if e.p.Induced == 0 {
		return 0
	}
	return uint32(d.sitePrefix().hashWith(e.p.Seed ^ uint64(t)/uint64(e.p.Induced)))
}

// Bind binds the sources of a prefix to the links they are reached by; requests
// from other links are dropped as spoofed. Prefixes bound to different links must
// not overlap.
func (e *Edge) Bind(prefix netip.Prefix, links ...uint64) { e.links.Insert(prefix.Masked(), links) }

// WatchBoundOnly leaves sources without a binding unwatched: anybody can send in
// their names, so what they do is no evidence about their hosts or prefixes.
func (e *Edge) WatchBoundOnly() { e.bound = true }

// checkLink compares the link of a request with the binding of its source. A
// request whose link is unknown passes: only captures have such.
func (e *Edge) checkLink(c *Conn) RequestVerdict {
	if e.links.Size() == 0 && !e.bound {
		return Forward
	}
	links, ok := e.links.Lookup(c.Src)
	switch {
	case !ok && e.bound:
		return Unwatched
	case ok && c.Link != 0 && !slices.Contains(links, c.Link):
		return Spoofed
	}
	return Forward
}

// advanceClock advances the clock and starts a new day when one has come.
func (e *Edge) advanceClock(now flow.Time) flow.Time {
	if midnights := e.clock.advance(now); midnights > 0 {
		start := e.clock.dayStart()
		e.hosts.newDay(start, e.clock.day, midnights, &e.p)
		for i := range e.prefixes {
			e.prefixes[i].newDay(start, e.clock.day, midnights, &e.p)
		}
		e.recent.clear()
		e.answered.newDay(midnights)
		e.spatial = spatial{}
		e.dropOldBlocks(start)
		e.previous, e.counts = e.counts, Counts{Day: e.clock.day}
	}
	e.countSilences(e.clock.now)
	return e.clock.now
}
