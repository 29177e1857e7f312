package dnsbl

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"dragnet/flow"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// limiter counts queries of networks in each second.
type limiter struct {
	mu     sync.Mutex
	second int64
	counts map[netip.Prefix]int
}

// maxNetworks bounds the networks counted in one second; a sender of forged
// addresses can have no more.
const maxNetworks = 100_000

func networkOf(a netip.Addr) netip.Prefix { return flow.NetworkOf(a, 24, 56) }

// count is how many queries a network has asked in this second.
func (l *limiter) count(a netip.Addr, now time.Time) int {
	network := networkOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second || l.counts == nil {
		l.second = s
		l.counts = make(map[netip.Prefix]int, min(len(l.counts), 4096))
	}
	if _, known := l.counts[network]; !known && len(l.counts) >= maxNetworks {
		network = netip.Prefix{} // all others share one quota
	}
	l.counts[network]++
	return l.counts[network]
}

// cookies makes server cookies (RFC 7873): a query that brings one back came
// from where it says.
type cookies struct{ key [32]byte }

func newCookies() *cookies {
	c := &cookies{}
	rand.Read(c.key[:]) // never fails
	return c
}

const (
	clientCookie = 8
	serverCookie = 16 // RFC 9018: version, three reserved bytes, time, hash
	cookieLife   = 3600
)

// make returns client and server cookie together.
func (c *cookies) make(client []byte, from netip.Addr, now time.Time) []byte {
	b := append([]byte(nil), client[:clientCookie]...)
	b = append(b, 1, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(now.Unix()))
	return append(b, c.hash(b, from)...)
}

// check reports whether a cookie is one that we made for this sender of late.
func (c *cookies) check(b []byte, from netip.Addr, now time.Time) bool {
	if len(b) != clientCookie+serverCookie || b[clientCookie] != 1 {
		return false
	}
	age := int32(uint32(now.Unix()) - binary.BigEndian.Uint32(b[clientCookie+4:]))
	return age > -300 && age < cookieLife && hmac.Equal(b[clientCookie+8:], c.hash(b[:clientCookie+8], from))
}

func (c *cookies) hash(b []byte, from netip.Addr) []byte {
	m := hmac.New(sha256.New, c.key[:])
	m.Write(b)
	a := from.As16()
	m.Write(a[:])
	return m.Sum(nil)[:8]
}
