package biflow

import (
	"bytes"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/packet"
	"dragnet/source/exporters"
)

// Configuration bounds what a Joiner holds.
type Configuration struct {
	// Wait is how long a conversation may be without a further record before
	// it is taken as over. It should exceed the active timeout of the
	// exporters, often 60 s.
	Wait time.Duration `yaml:"wait"`
	// Linger is how long a conversation that ended is held for records of it
	// that come late.
	Linger time.Duration `yaml:"linger"`
	// Longest is how long a conversation is held before it is reported in
	// parts.
	Longest time.Duration `yaml:"longest"`
	// MaxSkew is how far an exporter's clock may be off. Times of one that is
	// worse are moved to when they arrived and counted: flows of the past would
	// be removed with what is beyond keep_days, and those of the future stay for
	// ever. 0 believes every clock.
	MaxSkew time.Duration `yaml:"max_skew"`
	// MaxFlows bounds the conversations held; each takes about 600 bytes. If
	// there are more, those without a record for longest are reported early.
	MaxFlows int `yaml:"max_flows"`
	// MaxExporters bounds the exporters for which there is a Quality.
	MaxExporters int `yaml:"max_exporters"`
}

// DefaultConfiguration suits exporters with an active timeout of one minute.
func DefaultConfiguration() Configuration {
	return Configuration{Wait: 90 * time.Second, Linger: 5 * time.Second, Longest: 10 * time.Minute, MaxSkew: 10 * time.Minute, MaxFlows: 1 << 18, MaxExporters: 1024}
}

// Recorded are the settings for records from files. Their times are those of the
// file, whatever clock made them, and records come in the order in which they
// were written, which within ten minutes need not be that of their times.
func Recorded() Configuration {
	c := DefaultConfiguration()
	c.Wait, c.Longest, c.MaxSkew = 15*time.Minute, 24*time.Hour, 0
	return c
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for key, d := range map[string]time.Duration{"wait": c.Wait, "linger": c.Linger, "longest": c.Longest} {
		p.Check(d > 0, key, "is %v; want a positive duration such as 90s", d)
	}
	p.Check(c.MaxSkew >= 0, "max_skew", "is %v; want a positive duration, or 0 to believe every clock", c.MaxSkew)
	p.Check(c.MaxFlows >= 1, "max_flows", "is %d; want at least 1", c.MaxFlows)
	p.Check(c.MaxExporters >= 1, "max_exporters", "is %d; want at least 1", c.MaxExporters)
	return p.Join()
}

// Quality says how far one exporter can be relied on as a witness.
type Quality struct {
	// Records were taken in, Flows made of them.
	Records, Flows uint64
	// Joined flows have packets of both directions.
	Joined uint64
	// OneSided TCP flows have packets of one direction only, although they
	// acknowledge what the other side sent: the exporter does not see it.
	OneSided uint64
	// Duplicates are records of packets that another observation point of the
	// same exporter had counted.
	Duplicates uint64
	// Early flows were reported for lack of room, before they were over.
	Early uint64
	// ClockOff records had their times moved to when they arrived, since the
	// exporter's clock was wrong by Skew the last time.
	ClockOff uint64
	Skew     time.Duration
	// Sampling is the coarsest 1-in-N seen; 0 when the exporter did not say.
	Sampling uint32
}

// Add adds the counts of another exporter.
func (q *Quality) Add(o *Quality) {
	q.Records += o.Records
	q.Flows += o.Flows
	q.Joined += o.Joined
	q.OneSided += o.OneSided
	q.Duplicates += o.Duplicates
	q.Early += o.Early
	q.ClockOff += o.ClockOff
	if o.Skew.Abs() > q.Skew.Abs() {
		q.Skew = o.Skew
	}
	q.Sampling = max(q.Sampling, o.Sampling)
}

// Joiner makes flows of records. Time is when records arrived, as the caller
// says. It is not safe for concurrent use.
type Joiner struct {
	config    Configuration
	emit      func(*flow.Flow)
	now       flow.Time
	held      map[key]*entry
	waiting   list // by their last record
	lingering list // by when they ended
	spare     *entry
	ended     recent
	exporters *exporters.Table[source]
	others    *source
	largest   *source // the one that holds most, of those known
	// Forget, if set, is given the Quality of an exporter that gives way to
	// another.
	Forget func(netip.Addr, *Quality)
	out    flow.Flow
}

// New returns a Joiner that hands each flow to emit; the flow is valid during
// the call.
func New(c Configuration, emit func(*flow.Flow)) *Joiner {
	j := &Joiner{config: c, emit: emit, now: flow.MinTime, held: map[key]*entry{}}
	j.exporters = exporters.NewTable(c.MaxExporters, newSource)
	j.exporters.Forget = func(from netip.Addr, s *source) {
		if j.Forget != nil {
			j.Forget(from, &s.Quality)
		}
	}
	j.others = newSource()
	j.largest = j.others
	j.waiting.init()
	j.lingering.init()
	return j
}

// Divide gives each prefix a share of the exporters that have a Quality; see
// exporters.Table. It must come before the first record.
func (j *Joiner) Divide(prefixes []netip.Prefix, of func(netip.Addr) int) {
	j.exporters.Divide(prefixes, of)
}

// key names a conversation as one exporter sees it, whichever direction a
// record is of: the lesser end is a. Sampled packets are kept apart from flows
// by a bit of proto above the protocol's number. It has no padding, so that
// hashing it is one pass over memory.
type key struct {
	a, b, exporter      [16]byte
	portA, portB, proto uint16
}

// samples is set in key.proto for sampled packets.
const samples = 1 << 8

// keyOf orders two ends; from is 0 when the source is a, else 1. ICMP messages
// that expect no answer are not paired: the source is always a.
func keyOf(r *Record) (k key, from int) {
	k = key{r.Orig.As16(), r.Resp.As16(), r.Exporter.As16(), r.OrigPort, r.RespPort, uint16(r.Proto)}
	if r.Packet {
		k.proto |= samples
	}
	if r.Proto == flow.ICMP || r.Proto == flow.ICMPv6 {
		if _, _, paired := packet.ICMPPorts(r.Proto, uint8(r.OrigPort), uint8(r.RespPort)); !paired {
			return k, 0
		}
	}
	if c := bytes.Compare(k.a[:], k.b[:]); c > 0 || c == 0 && k.portA > k.portB {
		k.a, k.b, k.portA, k.portB = k.b, k.a, k.portB, k.portA
		return k, 1
	}
	return k, 0
}

// endpoint returns the address and port of one end.
func (k *key) endpoint(side int) (netip.Addr, uint16) {
	if side == 0 {
		return netip.AddrFrom16(k.a).Unmap(), k.portA
	}
	return netip.AddrFrom16(k.b).Unmap(), k.portB
}

// entry is one conversation.
type entry struct {
	key        key
	sides      [2]side
	first      flow.Time // when its first record arrived
	due        flow.Time
	cut        bool // it may go on beyond what was read
	origin     int8 // the side that an exporter named as the originator, or undecided
	state      flow.State
	icmpError  uint16
	sampling   uint32
	known      flow.Columns
	quality    *source
	prev, next *entry
	// older and newer are its neighbours among those of its source.
	older, newer *entry
}

const undecided = -1

// side is one direction of a conversation, counted at one observation point.
type side struct {
	seen, over, egress bool
	flags              flow.TCPFlags
	domain             uint32
	isn                uint32
	start, end         flow.Time
	packets, ipBytes   uint64
	payload            uint64
}

// Add takes in a record that arrived at now.
func (j *Joiner) Add(now flow.Time, r *Record) {
	j.Advance(now)
	if !r.Orig.IsValid() || !r.Resp.IsValid() {
		return
	}
	skewed := j.correctTimes(now, r)
	k, from := keyOf(r)
	e := j.held[k]
	if e != nil && (r.Start > e.endTime()+flow.Time(j.config.Wait) || j.now-e.first > flow.Time(j.config.Longest)) {
		j.endEntry(e)
		e = nil
	}
	if e == nil {
		j.ended.cutStart(k, from, r)
		e = j.openEntry(k, r)
	}
	e.quality.Records++
	if skewed != 0 {
		e.quality.ClockOff++
		e.quality.Skew = skewed
	}
	e.quality.Sampling = max(e.quality.Sampling, r.Sampling)
	e.quality.markNewest(e)
	e.takeRecord(r, from)
	e.leaveList()
	if e.isEnded() {
		e.due = j.now + flow.Time(j.config.Linger)
		j.lingering.pushEntry(e)
		return
	}
	e.due = j.now + flow.Time(j.config.Wait)
	j.waiting.pushEntry(e)
}

// Advance moves time to now, if that is later, and reports the conversations
// that are over. A large step back restarts time, and reports all.
func (j *Joiner) Advance(now flow.Time) {
	if j.now != flow.MinTime && now < j.now-maxBackwards {
		j.Flush()
		j.now = now
	}
	j.now = max(j.now, now)
	for _, l := range []*list{&j.waiting, &j.lingering} {
		for e := l.head.next; e != &l.head && e.due <= j.now; e = l.head.next {
			j.endEntry(e)
		}
	}
}

// Flush reports all conversations.
func (j *Joiner) Flush() {
	for _, l := range []*list{&j.lingering, &j.waiting} {
		for l.head.next != &l.head {
			j.endEntry(l.head.next)
		}
	}
}

// Cut is Flush where the records go on, but are not known yet: that a side of a
// young conversation was not seen means nothing then, and its state is unknown.
func (j *Joiner) Cut() {
	for e := j.waiting.head.prev; e != &j.waiting.head; e = e.prev {
		e.cut = e.endTime() > j.now-flow.Time(j.config.Linger)
	}
	j.Flush()
}

// Held is the number of conversations held.
func (j *Joiner) Held() int { return len(j.held) }

// Qualities are those of the exporters so far; that of the exporters beyond
// Configuration.MaxExporters is under the zero Addr.
func (j *Joiner) Qualities() map[netip.Addr]Quality {
	all := map[netip.Addr]Quality{}
	for exporter, s := range j.exporters.All() {
		all[exporter] = s.Quality
	}
	if j.others.Records > 0 {
		all[netip.Addr{}] = j.others.Quality
	}
	return all
}

// Count adds to the Quality of an exporter what was counted before a restart.
func (j *Joiner) Count(now flow.Time, exporter netip.Addr, q *Quality) {
	j.now = max(j.now, now)
	j.sourceOf(exporter).Add(q)
}

// source is one exporter, with the conversations held of it, that without a record
// for longest first.
type source struct {
	Quality
	held int
	ring entry
}

func newSource() *source {
	s := new(source)
	s.ring.older, s.ring.newer = &s.ring, &s.ring
	return s
}

// markNewest makes e the newest of its source.
func (s *source) markNewest(e *entry) {
	e.leaveSource()
	e.older, e.newer = s.ring.older, &s.ring
	e.older.newer, s.ring.older = e, e
}

func (e *entry) leaveSource() { e.older.newer, e.newer.older = e.newer, e.older }

func (j *Joiner) sourceOf(exporter netip.Addr) *source {
	if s := j.exporters.Find(j.now, exporter); s != nil {
		return s
	}
	return j.others
}

// makeRoom ends a conversation: one that lingers, or else the oldest of the source
// that holds most, so that a flood from one exporter splits its own flows rather
// than those of others.
func (j *Joiner) makeRoom() {
	e := j.lingering.head.next
	if e == &j.lingering.head {
		if e = j.largest.ring.newer; e == &j.largest.ring {
			e = j.waiting.head.next
		}
		e.quality.Early++
	}
	j.endEntry(e)
}

func (j *Joiner) openEntry(k key, r *Record) *entry {
	for len(j.held) >= max(1, j.config.MaxFlows) {
		j.makeRoom()
	}
	e := j.spare
	if e == nil {
		e = new(entry)
	} else {
		j.spare = e.next
	}
	*e = entry{key: k, first: j.now, origin: undecided, quality: j.sourceOf(r.Exporter)}
	e.prev, e.next, e.older, e.newer = e, e, e, e
	if e.quality.held++; e.quality.held > j.largest.held {
		j.largest = e.quality
	}
	j.held[k] = e
	return e
}

// endEntry reports e and forgets it. Its room is kept for another.
func (j *Joiner) endEntry(e *entry) {
	delete(j.held, e.key)
	j.ended.addReported(e, max(1, j.config.MaxFlows/16))
	e.leaveList()
	e.leaveSource()
	e.quality.held--
	e.fillFlow(&j.out)
	j.emit(&j.out)
	e.next, j.spare = j.spare, e
}

// list is a ring of entries with the one due first at head.next.
type list struct{ head entry }

func (l *list) init() { l.head.prev, l.head.next = &l.head, &l.head }

func (l *list) pushEntry(e *entry) {
	e.prev, e.next = l.head.prev, &l.head
	e.prev.next, l.head.prev = e, e
}

func (e *entry) leaveList() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = e, e
}
