// Package inspect matches signatures in the payload of packets as they pass: in
// each direction of TCP connections, reassembled, and in datagrams.
//
// A direction is judged a second after new bytes of it came, and at its end; with
// each segment, as long as connections that match may be reset. What is held is
// bounded, for each direction and in total, and what was not compared is counted.
package inspect

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/stream"
	"dragnet/signature/match"
)

// Configuration bounds an Inspector.
type Configuration struct {
	// Bytes of each direction are compared; Held bounds those held at a time, in
	// all connections, of which there are at most Connections.
	Bytes, Held, Connections int
	// IgnoreChecksums accepts packets with a wrong checksum.
	IgnoreChecksums bool
	// Reset is called with each sighting in a connection that is still open, and
	// the sequence numbers that Resp and Orig expect next; it may add to the
	// sighting. Nil resets nothing. Calls of one Inspector come one at a time.
	Reset func(now flow.Time, s *dossier.Sighting, toResp, toOrig uint32)
}

// Signatures are those that Inspectors match. It is safe for concurrent use; the
// zero value holds none, and then nothing is inspected.
type Signatures struct {
	matcher atomic.Pointer[compiled]
	prompt  atomic.Bool
}

// compiled are signatures in use, with what to know about them by name.
type compiled struct {
	*match.Matcher
	about map[string]*dossier.Signature
}

// statusOf is the status of a signature at the time of a packet, and at the time of the
// clock: a capture, or a sensor whose clock is wrong, must not keep one in use.
func (c *compiled) statusOf(name string, ts flow.Time) dossier.SignatureStatus {
	s := c.about[name]
	if now := s.StatusAt(time.Now()); !now.IsMatched() {
		return now
	}
	return s.StatusAt(ts.Time())
}

// JudgePromptly has connections judged with each segment, so that what matches can
// be reset in time, at the price of more work.
func (s *Signatures) JudgePromptly(yes bool) { s.prompt.Store(yes) }

// Use replaces the signatures, which must have passed Check. Connections that are
// open go on with those that they began with.
// Those that are retired, or have expired, are left out; others expire in use.
func (s *Signatures) Use(all []*dossier.Signature) error {
	now := time.Now()
	all = slices.DeleteFunc(slices.Clone(all), func(x *dossier.Signature) bool { return !x.StatusAt(now).IsMatched() })
	if len(all) == 0 {
		s.matcher.Store(nil)
		return nil
	}
	m, err := match.New(all, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return err
	}
	c := &compiled{m, map[string]*dossier.Signature{}}
	for _, x := range all {
		c.about[x.Name] = x
	}
	s.matcher.Store(c)
	return nil
}

// Inspector inspects the packets of one link. It is not safe for concurrent use.
type Inspector struct {
	config     Configuration
	signatures *Signatures
	tcp        *stream.Assembler
	seen       dossier.Inspection

	held   int
	open   map[*sequence]bool
	fresh  map[*sequence]bool // with bytes that were not judged
	judged flow.Time          // when the fresh ones were
}

// idle is how long a connection without packets is followed.
const idle = time.Minute

// New makes an Inspector.
func New(c Configuration, s *Signatures) *Inspector {
	i := &Inspector{config: c, signatures: s, open: map[*sequence]bool{}, fresh: map[*sequence]bool{}, judged: flow.MinTime}
	rules := stream.DefaultConfiguration()
	rules.MaxConnections, rules.MaxWaitingTotal = c.Connections, c.Held
	rules.MaxWaiting, rules.IdleTimeout, rules.IgnoreChecksums = min(c.Bytes, rules.MaxWaiting), idle, c.IgnoreChecksums
	i.tcp = stream.New(rules, i.begin)
	return i
}

func (i *Inspector) begin(k stream.Key) stream.Handler {
	m := i.signatures.matcher.Load()
	if m == nil {
		return nil // they were taken away this moment
	}
	c := &connection{in: i, key: k}
	for d := range c.sides {
		c.sides[d] = &sequence{of: c, dir: stream.Direction(d), matcher: m}
	}
	return c
}

// Packet takes a packet captured at ts.
func (i *Inspector) Packet(ts flow.Time, p *packet.Packet) {
	m := i.signatures.matcher.Load()
	switch {
	case m == nil:
		i.tcp.Advance(ts)
	case p.Proto == flow.TCP:
		i.tcp.Packet(ts, p)
	case p.Proto == flow.UDP:
		i.inspectDatagram(ts, p, m)
	}
	i.judgeFresh(ts)
}

// Advance moves time to ts when no packet comes.
func (i *Inspector) Advance(ts flow.Time) {
	i.tcp.Advance(ts)
	i.judgeFresh(ts)
}

// Flush judges what is held, and ends all connections.
func (i *Inspector) Flush() { i.tcp.Flush() }

// Take returns what was seen since the last call.
func (i *Inspector) Take() dossier.Inspection {
	seen := i.seen
	i.seen = dossier.Inspection{}
	return seen
}

// inspectDatagram judges a datagram by itself. Who sent it is not confirmed.
func (i *Inspector) inspectDatagram(ts flow.Time, p *packet.Packet, m *compiled) {
	if !p.Decoded || len(p.Payload) == 0 || !i.config.IgnoreChecksums && p.Checksum() == packet.ChecksumBad {
		return
	}
	n := min(len(p.Payload), i.config.Bytes)
	i.seen.Sequences++
	i.seen.Bytes += uint64(n)
	i.seen.Skipped += uint64(max(p.PayloadLen, n) - n)
	for _, r := range m.Match(p.Payload[:n]) {
		if status := m.statusOf(r.Signature, ts); r.Match && status.IsMatched() {
			k := stream.Key{Client: netip.AddrPortFrom(p.Src, p.SrcPort), Server: netip.AddrPortFrom(p.Dst, p.DstPort)}
			x := sighting(ts, k, flow.UDP, &r)
			x.Probation = status == dossier.SignatureOnProbation
			i.seen.Add(x)
		}
	}
}

func sighting(ts flow.Time, k stream.Key, proto flow.Proto, r *match.Result) *dossier.Sighting {
	s := &dossier.Sighting{Time: ts, Signature: r.Signature, Orig: k.Client, Resp: k.Server, Proto: proto, Exact: r.Exact, Count: 1}
	for _, p := range r.Parts {
		if p.Reached {
			s.Omega = max(s.Omega, p.Omega)
		}
	}
	return s
}

// promptBytes of a direction are judged with each segment at most.
const promptBytes = 64 << 10

// every is how often a direction with new bytes is judged before it ends.
const every = flow.Time(time.Second)

// judgeFresh judges what got new bytes since the last time.
func (i *Inspector) judgeFresh(ts flow.Time) {
	if ts < i.judged+every && ts >= i.judged {
		return
	}
	i.judged = ts
	for s := range i.fresh {
		s.report(s.stream.Verdict())
	}
	clear(i.fresh)
}

// connection is a TCP connection.
type connection struct {
	in    *Inspector
	key   stream.Key
	sides [2]*sequence
	over  bool // it has ended, and is not only forgotten
}

// Data implements stream.Handler.
func (c *connection) Data(dir stream.Direction, b []byte) { c.sides[dir].add(b) }

// Gap implements stream.Handler.
func (c *connection) Gap(dir stream.Direction, n int64) { c.sides[dir].lose(n) }

// Close implements stream.Handler.
func (c *connection) Close(why stream.CloseReason) {
	c.over = why != stream.Idle
	for _, s := range c.sides {
		s.end()
	}
}

// sequence is one direction of a connection.
type sequence struct {
	of       *connection
	dir      stream.Direction
	matcher  *compiled
	stream   *match.Stream // nil before the first byte, and after the last
	bytes    int
	ended    bool
	reported map[string]bool
}

func (s *sequence) add(b []byte) {
	i := s.of.in
	n := min(len(b), i.config.Bytes-s.bytes)
	if s.ended {
		n = 0
	}
	i.seen.Skipped += uint64(len(b) - n)
	if n == 0 {
		s.end()
		return
	}
	if s.stream == nil {
		s.stream = s.matcher.NewStream()
		i.open[s] = true
		i.seen.Sequences++
	}
	before := s.stream.Held()
	_, _ = s.stream.Write(b[:n]) // never fails
	s.bytes += n
	i.seen.Bytes += uint64(n)
	i.held += s.stream.Held() - before
	if i.fresh[s] = true; i.config.Reset != nil && s.bytes <= promptBytes && i.signatures.prompt.Load() {
		s.report(s.stream.Verdict())
	}
	for other := range i.open { // in random order, so that a sender cannot choose which is given up
		if i.held <= i.config.Held {
			break
		}
		other.end()
	}
}

func (s *sequence) lose(n int64) {
	s.of.in.seen.Skipped += uint64(n)
	if s.stream != nil {
		s.stream.Lost(n)
	}
}

// end judges the sequence for the last time.
func (s *sequence) end() {
	s.ended = true
	if s.stream == nil {
		return
	}
	i := s.of.in
	s.report(s.stream.Close())
	i.held -= s.stream.Held()
	delete(i.open, s)
	delete(i.fresh, s)
	s.stream = nil
}

// report reports each signature that matches once.
func (s *sequence) report(all []match.Result) {
	for k := range all {
		r := &all[k]
		if !r.Match || s.reported[r.Signature] {
			continue
		}
		if s.reported == nil {
			s.reported = map[string]bool{}
		}
		i := s.of.in
		status := s.matcher.statusOf(r.Signature, i.tcp.Now())
		s.reported[r.Signature] = true
		if !status.IsMatched() {
			continue
		}
		x := sighting(i.tcp.Now(), s.of.key, flow.TCP, r)
		x.FromResp, x.Confirmed = s.dir == stream.ToClient, i.tcp.Confirmed(s.of.key, s.dir)
		x.Probation = status == dossier.SignatureOnProbation
		if i.config.Reset != nil && !s.of.over && !x.Probation {
			if toResp, toOrig, ok := i.tcp.Expected(s.of.key); ok {
				i.config.Reset(x.Time, x, toResp, toOrig)
			}
		}
		i.seen.Add(x)
	}
}
