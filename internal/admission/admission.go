// Package admission bounds what callers may cost a server, so that a stranger
// cannot keep everybody else out: bodies are read, within bounds of time and
// memory, before a place is taken; places, memory and connections are shared out
// among callers, and callers without a name never get all of them.
package admission

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Caller is who a request is counted for.
type Caller struct {
	// Name is the organisation, for a caller that has a standing; see Address for
	// others.
	Name string
	// Known callers have places that strangers cannot take.
	Known bool
}

// Limits of a Gate.
type Limits struct {
	// Places is how many requests are served at a time; strangers get at most
	// half of them, one caller a quarter, and each at least one.
	Places int
	// Reading is how many bodies of one caller are read at a time.
	Reading int
	// Bytes bounds the bodies held at a time; strangers get at most half of
	// them, one caller a quarter.
	Bytes int64
	// Body is the size of the largest body, Time how long it may take.
	Body int64
	Time time.Duration
}

// Gate admits requests. It is safe for concurrent use.
type Gate struct {
	limits Limits
	places *Fair

	mu        sync.Mutex // guards all below
	reading   map[string]int
	bytes     map[string]int64
	total     int64
	strangers int64
}

// NewGate makes a gate.
func NewGate(l Limits) *Gate {
	return &Gate{limits: l, places: NewFair(l.Places), reading: map[string]int{}, bytes: map[string]int64{}}
}

// Errors of a gate, for its refuse function.
var (
	ErrBusy     = errors.New("busy; try again")
	ErrTooLarge = errors.New("the request is too large")
	ErrSlow     = errors.New("the request did not arrive in time")
)

// Handler serves next, which finds the body read already. Who returns the caller that a
// request is counted for; refuse writes an error.
func (g *Gate) Handler(next http.Handler, who func(*http.Request) Caller, refuse func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := who(r)
		if c.Known {
			MarkKnown(r.Context(), c.Name)
		}
		body, err := g.readBody(w, r, c)
		defer g.releaseBytes(c, int64(len(body)))
		if err != nil {
			refuse(w, r, err)
			return
		}
		if err := g.places.Acquire(r.Context(), c); err != nil {
			refuse(w, r, err)
			return
		}
		defer g.places.Release(c)
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// pieceOfBody is read at a time; memory is charged before it is used.
const pieceOfBody = 64 << 10

// readBody reads a body whose bytes are charged to the caller, also if it fails.
func (g *Gate) readBody(w http.ResponseWriter, r *http.Request, c Caller) (body []byte, err error) {
	if !g.beginReading(c) {
		return nil, ErrBusy
	}
	defer g.endReading(c)
	deadline := http.NewResponseController(w)
	// Not every connection has deadlines: a test's recorder has none.
	if err := deadline.SetReadDeadline(time.Now().Add(g.limits.Time)); err == nil {
		defer deadline.SetReadDeadline(time.Time{})
	}
	size := int64(pieceOfBody)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength+1) // most are small; one more to meet the end
	}
	piece := make([]byte, size)
	for {
		if int64(len(body)) > g.limits.Body {
			return body, ErrTooLarge
		}
		n, err := r.Body.Read(piece)
		if !g.chargeBytes(c, int64(n)) {
			return body, ErrBusy
		}
		body = append(body, piece[:n]...)
		switch {
		case err == io.EOF:
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return body, ErrSlow
		case err != nil:
			return body, err
		}
	}
}

func (g *Gate) beginReading(c Caller) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reading[c.Name] >= g.limits.Reading {
		return false
	}
	g.reading[c.Name]++
	return true
}

func (g *Gate) endReading(c Caller) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reading[c.Name]--; g.reading[c.Name] == 0 {
		delete(g.reading, c.Name)
	}
}

func (g *Gate) chargeBytes(c Caller, n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total+n > g.limits.Bytes || g.bytes[c.Name]+n > g.limits.Bytes/4 || !c.Known && g.strangers+n > g.limits.Bytes/2 {
		return false
	}
	g.total += n
	g.bytes[c.Name] += n
	if !c.Known {
		g.strangers += n
	}
	return true
}

func (g *Gate) releaseBytes(c Caller, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total -= n
	if g.bytes[c.Name] -= n; g.bytes[c.Name] == 0 {
		delete(g.bytes, c.Name)
	}
	if !c.Known {
		g.strangers -= n
	}
}

// Address is the caller of a request without a name: keys cost nothing,
// so it is the address, of IPv6 its network of 64 bits.
func Address(r *http.Request) Caller {
	return Caller{Name: "address " + networkOf(r.RemoteAddr)}
}

func networkOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
