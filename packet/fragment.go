package packet

import (
	"container/list"
	"errors"
	"net/netip"
	"slices"
	"time"

	"dragnet/flow"
)

// Limits of a Defragmenter.
const (
	// fragmentTimeout is how long the fragments of one datagram may take (RFC
	// 8200, section 4.5).
	fragmentTimeout = flow.Time(60 * time.Second)
	// maxFragmentBytes bounds the bytes held of all incomplete datagrams, and
	// maxDatagrams their number; the oldest are dropped first.
	maxFragmentBytes = 16 << 20
	maxDatagrams     = 8192
	// maxHoles bounds the holes in one datagram, so that fragments of 8 octets
	// in the worst order stay cheap.
	maxHoles = 128
	// maxDatagram is the largest length IP can state; IPv6 does not count its
	// header of 40 octets.
	maxDatagram = 65535
)

// Reasons why a fragment is dropped.
var (
	// ErrFragment marks fragments that extend beyond the largest datagram, are
	// truncated by the capture, or disagree about the end of the datagram.
	ErrFragment = errors.New("impossible fragment")
	// ErrOverlap marks IPv6 fragments that overlap; the datagram is dropped
	// with them (RFC 8200, section 4.5).
	ErrOverlap = errors.New("overlapping IPv6 fragments")
)

// Defragmenter joins fragments of IP datagrams within fixed bounds of memory
// and time. If IPv4 fragments overlap, the bytes that arrived first win.
type Defragmenter struct {
	datagrams map[fragmentKey]*datagram
	// order holds the same datagrams, oldest first.
	order *list.List
	bytes int
	// Lost counts datagrams dropped before they were complete.
	Lost uint64
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	// proto is part of the key for IPv4 only (RFC 791, section 3.2).
	proto flow.Proto
}

// datagram is a partly known IP datagram.
type datagram struct {
	key   fragmentKey
	began flow.Time
	// first is the piece at offset 0; its header leads the datagram.
	first  *Packet
	data   []byte
	known  []span // disjoint, ascending, not touching
	length int    // -1 until the last piece came
	place  *list.Element
}

// span is the half-open range of bytes [from, to).
type span struct{ from, to int }

// NewDefragmenter returns an empty Defragmenter.
func NewDefragmenter() *Defragmenter {
	return &Defragmenter{datagrams: make(map[fragmentKey]*datagram), order: list.New()}
}

// Add adds a fragment that arrived at ts. If it completes a datagram, p becomes
// that datagram and whole is true.
func (d *Defragmenter) Add(ts flow.Time, p *Packet) (whole bool, err error) {
	d.dropExpired(ts)
	if p.Cut() || len(p.segment) == 0 || p.unfragmentedLen()+p.fragOffset+len(p.segment) > maxDatagram {
		return false, ErrFragment
	}
	key := fragmentKey{src: p.Src, dst: p.Dst, id: p.fragID}
	if p.version == 4 {
		key.proto = p.Proto
	}
	g := d.datagrams[key]
	if g == nil {
		g = &datagram{key: key, began: ts, length: -1}
		d.datagrams[key] = g
		g.place = d.order.PushBack(g)
	}
	held := cap(g.data)
	err = g.addFragment(p)
	d.bytes += cap(g.data) - held
	if err != nil {
		d.removeDatagram(g)
		d.Lost++
		return false, err
	}
	if !g.isWhole() {
		for d.bytes > maxFragmentBytes || len(d.datagrams) > maxDatagrams {
			d.dropOldest()
		}
		return false, nil
	}
	d.removeDatagram(g)
	return true, p.setWhole(g.first, g.data[:g.length])
}

// Held is the number of bytes of incomplete datagrams.
func (d *Defragmenter) Held() int { return d.bytes }

// dropExpired drops datagrams that started too long before ts.
func (d *Defragmenter) dropExpired(ts flow.Time) {
	for d.order.Len() > 0 && d.order.Front().Value.(*datagram).began+fragmentTimeout < ts {
		d.dropOldest()
	}
}

// dropOldest drops the oldest datagram.
func (d *Defragmenter) dropOldest() {
	d.removeDatagram(d.order.Front().Value.(*datagram))
	d.Lost++
}

func (d *Defragmenter) removeDatagram(g *datagram) {
	delete(d.datagrams, g.key)
	d.order.Remove(g.place)
	d.bytes -= cap(g.data)
}

func (g *datagram) isWhole() bool {
	return g.first != nil && g.length >= 0 && len(g.known) == 1 && g.known[0] == span{0, g.length}
}

func (g *datagram) addFragment(p *Packet) error {
	s := span{p.fragOffset, p.fragOffset + len(p.segment)}
	if !p.fragMore {
		if g.length >= 0 && g.length != s.to {
			return ErrFragment
		}
		g.length = s.to
	}
	if g.length >= 0 && (s.to > g.length || len(g.known) > 0 && g.known[len(g.known)-1].to > g.length) {
		return ErrFragment
	}
	if err := g.fillSpan(s, p); err != nil {
		return err
	}
	if s.from == 0 && g.first == nil {
		first := *p
		first.header = slices.Clone(p.header)
		first.segment, first.Payload, first.Options = nil, nil, nil
		g.first = &first
	}
	return nil
}

// fillSpan copies the bytes of s that are not known yet.
func (g *datagram) fillSpan(s span, p *Packet) error {
	// i and j bound the known spans that touch s.
	i, _ := slices.BinarySearchFunc(g.known, s.from, func(k span, from int) int { return k.to - from })
	j := i
	for j < len(g.known) && g.known[j].from <= s.to {
		k := g.known[j]
		overlap := max(k.from, s.from) < min(k.to, s.to)
		if overlap && p.version == 6 && !(k.from <= s.from && s.to <= k.to && g.isDuplicate(s, p)) {
			return ErrOverlap
		}
		j++
	}
	if len(g.known)-(j-i)+1 > maxHoles {
		return ErrFragment
	}
	if len(g.data) < s.to {
		g.data = slices.Grow(g.data, s.to-len(g.data))[:s.to]
	}
	at := s.from
	joined := s
	for _, k := range g.known[i:j] {
		if k.from > at {
			copy(g.data[at:k.from], p.segment[at-s.from:])
		}
		at = max(at, k.to)
		joined.from, joined.to = min(joined.from, k.from), max(joined.to, k.to)
	}
	if at < s.to {
		copy(g.data[at:s.to], p.segment[at-s.from:])
	}
	g.known = slices.Replace(g.known, i, j, joined)
	return nil
}

// isDuplicate reports whether the bytes of s are known already and equal: a
// duplicate, which RFC 8200 lets pass.
func (g *datagram) isDuplicate(s span, p *Packet) bool {
	return string(g.data[s.from:s.to]) == string(p.segment)
}

// unfragmentedLen is the length of what precedes the data in every fragment and
// counts towards the length of the whole: IPv4's header, or IPv6's extensions
// before the fragment header of 8 octets.
func (p *Packet) unfragmentedLen() int {
	n := p.IPLen - p.segmentLen
	if p.version == 6 {
		n -= 40 + 8
	}
	return n
}

// setWhole makes p the whole datagram: the first piece's header and all the data.
func (p *Packet) setWhole(first *Packet, data []byte) error {
	*p = *first
	p.Fragment = false
	p.Reassembled = true
	p.IPLen = first.unfragmentedLen() + len(data)
	if p.version == 6 {
		p.IPLen += 40
	}
	p.segment, p.segmentLen = data, len(data)
	return p.decodeUpper(uint8(p.Proto))
}

// HidesTCPFlags reports a fragment by which the flags of a TCP segment escape who
// reads single packets: the first one with a SYN or without the flags, or one that
// starts before them (RFC 1858, section 3; RFC 3128). No host sends such: a SYN
// fits every link.
func (p *Packet) HidesTCPFlags() bool {
	const flags, syn = 13, 2 // octet of the flags, and the SYN in it (RFC 9293, section 3.1)
	switch {
	case !p.Fragment:
		return false
	case p.Proto != flow.TCP:
		// IPv6: the chain of headers goes on in another fragment (RFC 7112).
		return p.version == 6 && p.fragOffset == 0 && isExtension(uint8(p.Proto))
	case p.fragOffset == 0:
		return len(p.segment) <= flags || p.segment[flags]&syn != 0
	}
	return p.fragOffset <= flags
}
