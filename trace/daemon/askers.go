//go:build linux

package daemon

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"dragnet/trace/protocol"
)

// rule is what one asker may ask for.
type rule struct {
	kinds  [4]bool
	remote bool
}

// ruleFor joins all entries that match an address; everyone may ask for ID.
func (c *Configuration) ruleFor(asker netip.Addr) rule {
	r := rule{kinds: [4]bool{protocol.ID: true}}
	for _, a := range c.Askers {
		if !a.Network.Contains(asker) {
			continue
		}
		r.remote = r.remote || a.Remote
		for _, word := range a.Kinds {
			if k, err := protocol.ParseKind(word); err == nil {
				r.kinds[k] = true
			}
		}
	}
	return r
}

// mayNameItself reports whether an asker that is not a gateway may name its own
// address: it then asks about a connection that was opened by its own side, which
// may have carried a session to it.
func (r rule) mayNameItself(q protocol.Request, asker netip.Addr) bool {
	return q.Remote == asker && q.Kind.Recursive() && r.kinds[q.Kind]
}

// lists reports whether an entry names an asker.
func (c *Configuration) lists(asker netip.Addr) bool {
	return slices.ContainsFunc(c.Askers, func(a Asker) bool { return a.Network.Contains(asker) })
}

// forStrangers bounds the connections of askers without an entry: a quarter is
// kept for those with one.
func (c *Configuration) forStrangers() int {
	if len(c.Askers) == 0 {
		return c.Connections
	}
	return max(c.Connections*3/4, 1)
}

// maxBuckets bounds the memory for askers; when it is reached, the askers quiet
// for longest are removed, and later start with a full budget.
const maxBuckets = 8192

// budgets is a token bucket for each asker.
type budgets struct {
	budget Budget

	mu      sync.Mutex // guards buckets
	buckets map[netip.Addr]bucket
}

type bucket struct {
	level float64
	at    time.Time
}

func newBudgets(b Budget) *budgets {
	return &budgets{budget: b, buckets: map[netip.Addr]bucket{}}
}

// takeToken reports whether an asker may ask once more, and counts it.
func (b *budgets) takeToken(asker netip.Addr, now time.Time) bool {
	key := accountOf(asker)
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.buckets[key]
	if !ok {
		if len(b.buckets) >= maxBuckets {
			b.dropQuietest(now)
		}
		k = bucket{b.budget.Burst, now}
	}
	k.level = min(b.budget.Burst, k.level+now.Sub(k.at).Minutes()*b.budget.PerMinute)
	k.at = now
	allowed := k.level >= 1
	if allowed {
		k.level--
	}
	b.buckets[key] = k
	return allowed
}

// dropQuietest drops full buckets, which carry no information, or else the
// quietest half.
func (b *budgets) dropQuietest(now time.Time) {
	refill := time.Duration(b.budget.Burst / b.budget.PerMinute * float64(time.Minute))
	for age := refill; len(b.buckets) > maxBuckets/2; age /= 2 {
		for key, k := range b.buckets {
			if now.Sub(k.at) >= age {
				delete(b.buckets, key)
			}
		}
	}
}

// accountOf is the address, or the /64 that one IPv6 host can draw from.
func accountOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a
}

// maxLoops bounds the requests that are kept, and the questions; only configured
// askers make entries.
const maxLoops = 1 << 16

// loopKey identifies a recursive request.
type loopKey struct {
	asker, remote netip.Addr
	session       uint32
	ports         protocol.Ports
}

// askedKey identifies a question to a previous host: every request of a session
// that meets the same inbound connection would ask the same.
type askedKey struct {
	session       uint32
	kind          protocol.Kind
	netns         uint32
	local, remote netip.AddrPort
}

// recent keeps requests for some time: recursive ones, to detect loops, and the
// questions to previous hosts, to ask each once in a session.
type recent[K comparable] struct {
	keep time.Duration

	mu    sync.Mutex // guards below
	seen  map[K]pastRequest
	order []K // oldest first
}

type pastRequest struct {
	at    time.Time
	token string
}

func newRecent[K comparable](keep time.Duration) *recent[K] {
	return &recent[K]{keep: keep, seen: map[K]pastRequest{}}
}

// noteRequest notes a request and its token, if it has one already. If it was seen
// before, it returns the token given then, which is empty while that request is
// still being served.
func (l *recent[K]) noteRequest(k K, token string, now time.Time) (first string, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.order) > 0 && (now.Sub(l.seen[l.order[0]].at) > l.keep || len(l.order) >= maxLoops) {
		delete(l.seen, l.order[0])
		l.order = l.order[1:]
	}
	if p, ok := l.seen[k]; ok {
		return p.token, true
	}
	l.seen[k] = pastRequest{at: now, token: token}
	l.order = append(l.order, k)
	return "", false
}

// noteToken adds the token that was given.
func (l *recent[K]) noteToken(k K, token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.seen[k]; ok {
		p.token = token
		l.seen[k] = p
	}
}
