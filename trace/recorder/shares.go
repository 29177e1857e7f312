//go:build linux

package recorder

import (
	"math/bits"
	"net/netip"
	"time"
)

// Shares of a time slice. The log holds MaxAge / slice slices, each of which has
// an equal part of its room, so that filling one takes nothing from another. Within
// a slice no user gets more than an eighth, beyond which only the first
// connections with each host are kept whole, and the rest as one bit each. They are
// counted apart by how long they lasted, in powers of two: so connections that are
// closed at once, of which a flood is made most easily, do not use up what is kept
// of those that carry a session.
const (
	slice         = 10 * time.Minute
	parts         = 8
	firstWithHost = 32
	maxFirst      = 1 << 15 // of one user with all hosts, in one slice
	maxSummaries  = 64      // of all users, in one slice
	// compression is how much smaller lines are on disk, at least.
	compression = 4
)

// shares counts what the users wrote in the present slice.
type shares struct {
	budget  int64 // octets of lines in a slice
	account func(uid uint32) uint32
	ends    time.Time
	used    map[uint32]int64
	first   map[peer]int   // connections kept whole beyond the share
	firstOf map[uint32]int // the same of each account
	rest    map[summaryKey]*summaryLine
}

type peer struct {
	account  uint32
	host     netip.Addr
	duration int // its durationClass
}

type summaryKey struct {
	uid  uint32
	host netip.Addr // the zero Addr: any
}

func newShares(limits Configuration, account func(uint32) uint32) *shares {
	slices := max(int64(limits.MaxAge/slice), 1)
	return &shares{budget: limits.MaxBytes * compression / slices, account: account}
}

// begin begins a slice if the last one has ended, and returns the summaries of
// that one.
func (s *shares) begin(now time.Time) (rest []*summaryLine) {
	if now.Before(s.ends) {
		return nil
	}
	for _, l := range s.rest {
		rest = append(rest, l)
	}
	s.ends = now.Truncate(slice).Add(slice)
	s.used, s.first, s.firstOf, s.rest = map[uint32]int64{}, map[peer]int{}, map[uint32]int{}, map[summaryKey]*summaryLine{}
	return rest
}

// allow reports whether a connection may be written whole.
func (s *shares) allow(uid uint32, e ending) bool {
	account := s.account(uid)
	if s.used[account] < s.budget/max(parts, int64(len(s.used))) {
		return true
	}
	p := peer{account, networkOf(e.Remote.Addr()), e.durationClass()}
	if s.first[p] >= firstWithHost || s.firstOf[account] >= maxFirst {
		return false
	}
	s.first[p]++
	s.firstOf[account]++
	return true
}

// durationClass is the number of bits of the duration in seconds; connections that
// are open still have their own.
func (e *ending) durationClass() int {
	if e.Ended == 0 {
		return 64
	}
	return bits.Len64(uint64(max(e.Ended-e.Started, 0)) / 1000)
}

// charge counts what was written for a user.
func (s *shares) charge(uid uint32, octets int) { s.used[s.account(uid)] += int64(octets) }

// summarize keeps one bit of a connection.
func (s *shares) summarize(uid uint32, e ending) {
	k := summaryKey{uid, e.Remote.Addr()}
	if s.rest[k] == nil && len(s.rest) >= maxSummaries {
		k.host = netip.Addr{}
	}
	l := s.rest[k]
	if l == nil {
		l = &summaryLine{UID: uid, Remote: k.host, From: e.Started, Ports: make([]byte, 1<<13)}
		s.rest[k] = l
	}
	l.Count++
	l.From, l.To = min(l.From, e.Started), max(l.To, e.Ended)
	port := e.Local.Port()
	if e.Direction == inbound {
		port = e.Remote.Port()
	}
	l.Ports[port/8] |= 1 << (port % 8)
}

// networkOf is the address, or the /64 from which one IPv6 host can draw.
func networkOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a
}
