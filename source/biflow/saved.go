package biflow

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"dragnet/flow"
)

// formSaved is the first byte of what Save returns.
const formSaved = 1

// ErrSaved is why Restore took nothing.
var ErrSaved = errors.New("the conversations kept for a restart are damaged, or of another version")

// Save returns all that is held, so that another Joiner can go on with it.
func (j *Joiner) Save() []byte {
	c := &codec{b: []byte{formSaved}}
	j.codeState(c)
	return c.b
}

// Restore goes on with what Save of another Joiner returned; that should be the
// first that is done with j. If it is damaged, j holds nothing.
func (j *Joiner) Restore(b []byte) error {
	if len(b) == 0 || b[0] != formSaved {
		return ErrSaved
	}
	c := &codec{b: b[1:], reading: true}
	fresh := New(j.config, func(*flow.Flow) {})
	fresh.codeState(c)
	if c.bad || len(c.b) > 0 {
		return ErrSaved
	}
	// The lists are rings through the Joiner itself, so it is filled again.
	c = &codec{b: b[1:], reading: true}
	j.codeState(c)
	return nil
}

// codeState writes or reads all of a Joiner, as c says.
func (j *Joiner) codeState(c *codec) {
	number(c, &j.now)
	exporters := j.exporters.Len()
	number(c, &exporters)
	if !c.reading {
		for from, s := range j.exporters.All() {
			c.codeAddress(from)
			s.Quality.codeState(c)
		}
	}
	for ; c.reading && !c.bad && exporters > 0; exporters-- {
		var q Quality
		from := c.codeAddress(netip.Addr{})
		q.codeState(c)
		if s := j.sourceOf(from); !c.bad {
			s.Add(&q)
		}
	}
	j.others.Quality.codeState(c)
	for _, l := range []*list{&j.lingering, &j.waiting} {
		j.walkList(c, l)
	}
	j.ended.codeState(c)
}

func (j *Joiner) walkList(c *codec, l *list) {
	count := 0
	for e := l.head.next; e != &l.head; e = e.next {
		count++
	}
	number(c, &count)
	if !c.reading {
		for e := l.head.next; e != &l.head; e = e.next {
			e.codeState(c)
		}
		return
	}
	for ; !c.bad && count > 0; count-- {
		var read entry
		read.codeState(c)
		if c.bad || j.held[read.key] != nil {
			c.bad = true
			return
		}
		r := Record{}
		r.Exporter, _ = (&key{a: read.key.exporter}).endpoint(0)
		e := j.openEntry(read.key, &r)
		e.sides, e.first, e.due, e.cut, e.origin = read.sides, read.first, read.due, read.cut, read.origin
		e.state, e.icmpError, e.sampling, e.known = read.state, read.icmpError, read.sampling, read.known
		e.quality.markNewest(e)
		l.pushEntry(e)
	}
}

func (e *entry) codeState(c *codec) {
	e.key.codeState(c)
	for i := range e.sides {
		s := &e.sides[i]
		codeFlag(c, &s.seen)
		codeFlag(c, &s.over)
		if !s.seen {
			continue
		}
		codeFlag(c, &s.egress)
		number(c, &s.flags)
		number(c, &s.domain)
		number(c, &s.isn)
		number(c, &s.start)
		number(c, &s.end)
		number(c, &s.packets)
		number(c, &s.ipBytes)
		number(c, &s.payload)
	}
	number(c, &e.first)
	number(c, &e.due)
	codeFlag(c, &e.cut)
	number(c, &e.origin)
	number(c, &e.state)
	number(c, &e.icmpError)
	number(c, &e.sampling)
	number(c, &e.known)
	if c.reading && (e.origin < undecided || e.origin > 1 || e.state > flow.OTH || e.known&^flow.AllColumns != 0) {
		c.bad = true
	}
}

func (k *key) codeState(c *codec) {
	c.codeBytes(k.a[:])
	c.codeBytes(k.b[:])
	c.codeBytes(k.exporter[:])
	number(c, &k.portA)
	number(c, &k.portB)
	number(c, &k.proto)
}

func (q *Quality) codeState(c *codec) {
	for _, n := range []*uint64{&q.Records, &q.Flows, &q.Joined, &q.OneSided, &q.Duplicates, &q.Early, &q.ClockOff} {
		number(c, n)
	}
	number(c, &q.Skew)
	number(c, &q.Sampling)
}

func (m *recent) codeState(c *codec) {
	count := len(m.ring)
	number(c, &count)
	if c.reading && count > 0 && !c.bad {
		m.ends = map[key][2]flow.Time{}
	}
	for i := 0; i < count && !c.bad; i++ {
		var k key
		var ends [2]flow.Time
		if !c.reading { // the oldest first
			k = m.ring[(m.next+i)%count]
			ends = m.ends[k]
		}
		k.codeState(c)
		number(c, &ends[0])
		number(c, &ends[1])
		if c.reading && !c.bad {
			m.ring = append(m.ring, k)
			m.ends[k] = ends
		}
	}
}

// codec writes to b or, if it is reading, takes from it. What cannot be read
// makes it bad.
type codec struct {
	b            []byte
	reading, bad bool
}

// number writes or reads an integer as a varint of its 64 bits.
func number[T ~int | ~int8 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](c *codec, p *T) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, uint64(*p))
		return
	}
	v, n := binary.Uvarint(c.b)
	*p = T(v)
	if n <= 0 || uint64(*p) != v {
		c.bad = true
		*p = 0
		return
	}
	c.b = c.b[n:]
}

func codeFlag(c *codec, p *bool) {
	var n uint8
	if *p {
		n = 1
	}
	number(c, &n)
	*p = n != 0
}

func (c *codec) codeBytes(b []byte) {
	switch {
	case !c.reading:
		c.b = append(c.b, b...)
	case len(c.b) < len(b):
		c.bad = true
	default:
		c.b = c.b[copy(b, c.b):]
	}
}

// codeAddress writes a, or reads and returns an address.
func (c *codec) codeAddress(a netip.Addr) netip.Addr {
	raw := a.As16()
	c.codeBytes(raw[:])
	return netip.AddrFrom16(raw).Unmap()
}
