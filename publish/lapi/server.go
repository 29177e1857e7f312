package lapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"dragnet/flow"
)

// Server hands out what Update gave it. It is an http.Handler for the paths
// below /v1/.
type Server struct {
	keys *Keys
	now  func() flow.Time
	list atomic.Pointer[list]

	mu        sync.Mutex
	positions map[reader]position
	streams   map[string]int // that each key reads now

	// Refused counts requests without a valid key, Busy those beyond a key's
	// share.
	Refused, Busy atomic.Int64
}

// reader is a bouncer: several may share a key if their addresses differ.
type reader struct{ name, address string }

// position is the last list that a reader has, and when it got it.
type position struct {
	sequence int64
	at       flow.Time
}

const (
	// maxReaders bounds the positions kept; one forgotten costs a full list.
	maxReaders = 20_000
	// maxStreams bounds what one key reads at a time.
	maxStreams = 8
	// MaxBody bounds what a bouncer may post, in bytes.
	MaxBody = 1 << 20
)

// New makes a server with an empty list.
func New(keys *Keys, now func() flow.Time) *Server {
	s := &Server{keys: keys, now: now, positions: map[reader]position{}, streams: map[string]int{}}
	s.list.Store(&list{})
	return s
}

// Update replaces the list; gone are targets that were on it within the span
// that is remembered, for bouncers that kept running while we did not. Calls
// must not overlap.
func (s *Server) Update(bans []Ban, gone []netip.Prefix) {
	l := s.list.Load()
	n := l.nextList(bans, gone, s.now())
	if l.sequence == 0 { // no bouncer has seen a list of ours
		n.changes, n.reaches = nil, n.sequence
	}
	s.list.Store(n)
}

// Size is the number of bans in the list.
func (s *Server) Size() int { return len(s.list.Load().bans) }

// Bouncer is who sent a request, if it has a valid key.
func (s *Server) Bouncer(r *http.Request) (name string, ok bool) {
	return s.keys.Name(r.Header.Get("X-Api-Key"))
}

// ServeHTTP lets those in who have a key.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := s.Bouncer(r)
	if !ok {
		s.Refused.Add(1)
		refuseRequest(w, http.StatusForbidden, "access forbidden")
		return
	}
	if !s.takeStream(name) {
		s.Busy.Add(1)
		w.Header().Set("Retry-After", "10")
		refuseRequest(w, http.StatusTooManyRequests, "this key reads too much at a time")
		return
	}
	defer s.freeStream(name)
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuseRequest(w, http.StatusBadRequest, "the query cannot be read")
		return
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.URL.Path == "/v1/decisions/stream" && read:
		s.serveStream(w, r, values, reader{name, address})
	case r.URL.Path == "/v1/decisions" && read:
		s.serveDecisions(w, r, values)
	case r.URL.Path == "/v1/usage-metrics" && r.Method == http.MethodPost:
		takeMetrics(w, r)
	default:
		refuseRequest(w, http.StatusNotFound, "not found")
	}
}

func (s *Server) takeStream(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[name] >= maxStreams {
		return false
	}
	s.streams[name]++
	return true
}

func (s *Server) freeStream(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[name]--; s.streams[name] == 0 {
		delete(s.streams, name)
	}
}

func refuseRequest(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"message\":%q}\n", message)
}

// serveStream answers with what changed since the bouncer's last pull, or with
// everything if it starts or we do not know.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, values url.Values, who reader) {
	sel, err := parseSelection(values)
	if err != nil {
		refuseRequest(w, http.StatusBadRequest, err.Error())
		return
	}
	l, now := s.list.Load(), s.now()
	startup, _ := strconv.ParseBool(values.Get("startup"))
	var changed []netip.Prefix
	known := false
	if at, ok := s.positionOf(who); ok && !startup {
		changed, known = l.changedAfter(at, now)
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return
	}
	if known {
		err = l.writeDelta(w, &sel, changed, now)
	} else {
		err = l.writeAll(w, &sel, !startup, now)
	}
	if err == nil {
		s.setPosition(who, position{l.sequence, now})
	}
}

func (s *Server) positionOf(who reader) (position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.positions[who]
	return at, ok
}

func (s *Server) setPosition(who reader, at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.positions[who]; !known && len(s.positions) >= maxReaders {
		for other := range s.positions {
			delete(s.positions, other)
			break
		}
	}
	s.positions[who] = at
}

// writeAll writes every ban as new. A bouncer that did not ask to start has
// something from before: it is told all that may have gone.
func (l *list) writeAll(w io.Writer, s *selection, tellGone bool, now flow.Time) error {
	o := newArrays(w)
	o.beginArray("new")
	for i := range l.bans {
		if b := &l.bans[i]; b.Until > now && s.selectsBan(b) {
			o.addBan(b, now)
		}
	}
	o.beginArray("deleted")
	if tellGone {
		for _, p := range l.gone {
			if _, listed := l.findBan(p); !listed {
				o.addBan(&Ban{Target: p, Scenario: "dragnet/removed"}, now)
			}
		}
	}
	return o.endObject()
}

// writeDelta writes the bans of changed targets. None is new and deleted at a
// time: some bouncers take the new ones first.
func (l *list) writeDelta(w io.Writer, s *selection, changed []netip.Prefix, now flow.Time) error {
	o := newArrays(w)
	o.beginArray("new")
	var gone []netip.Prefix
	for _, p := range changed {
		if b, ok := l.findBan(p); ok && b.Until > now && s.selectsBan(b) {
			o.addBan(b, now)
		} else {
			gone = append(gone, p)
		}
	}
	o.beginArray("deleted")
	for _, p := range gone {
		o.addBan(&Ban{Target: p, Scenario: "dragnet/removed"}, now)
	}
	return o.endObject()
}

// maxParts bounds the values of one parameter: each is looked for in the scenario
// of every decision.
const maxParts = 32

func parseSelection(values url.Values) (s selection, err error) {
	s = selection{ips: true, ranges: true}
	list := func(name string) (out []string) {
		if strings.Count(values.Get(name), ",") >= maxParts {
			err = fmt.Errorf("%s has more than %d values", name, maxParts)
			return nil
		}
		for part := range strings.SplitSeq(values.Get(name), ",") {
			if part = strings.ToLower(strings.TrimSpace(part)); part != "" {
				out = append(out, part)
			}
		}
		return out
	}
	has := func(all []string, one string) bool { return len(all) == 0 || slices.Contains(all, one) }
	scopes := append(list("scopes"), list("scope")...)
	s.ips, s.ranges = has(scopes, "ip"), has(scopes, "range")
	s.nothing = !has(list("origins"), "dragnet") || !has(list("type"), "ban")
	s.containing, s.without = list("scenarios_containing"), list("scenarios_not_containing")
	return s, err
}

// serveDecisions answers with the bans of an address or range, or all; "null"
// for none.
func (s *Server) serveDecisions(w http.ResponseWriter, r *http.Request, values url.Values) {
	l, now := s.list.Load(), s.now()
	sel, err1 := parseSelection(values)
	match, err2 := parseTarget(values)
	if err := errors.Join(err1, err2); err != nil {
		refuseRequest(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return
	}
	o := newArrays(w)
	l.eachBan(match, func(b *Ban) {
		if b.Until > now && sel.selectsBan(b) {
			o.addBan(b, now)
		}
	})
	_ = o.endObject() // the reader has gone away
}

// parseTarget reads which target is asked for: an address, a range, or none.
func parseTarget(values url.Values) (p netip.Prefix, err error) {
	for _, name := range []string{"ip", "range", "value"} {
		text := values.Get(name)
		if text == "" {
			continue
		}
		if !strings.Contains(text, "/") {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return p, fmt.Errorf("invalid ip address '%.60s'", text)
			}
			return hostPrefix(a.Unmap().WithZone("")), nil
		}
		if p, err = netip.ParsePrefix(text); err != nil {
			return p, fmt.Errorf("invalid range '%.60s'", text)
		}
		return p.Masked(), nil
	}
	return p, nil
}

// eachBan visits the bans that hold a target, or all.
func (l *list) eachBan(p netip.Prefix, do func(*Ban)) {
	if !p.IsValid() {
		for i := range l.bans {
			do(&l.bans[i])
		}
		return
	}
	if b, ok := l.findBan(p); ok {
		do(b)
	}
	for _, i := range l.ranges {
		if b := &l.bans[i]; b.Target != p && b.Target.Bits() <= p.Bits() && b.Target.Contains(p.Addr()) {
			do(b)
		}
	}
}

// takeMetrics accepts what newer bouncers count, and keeps nothing of it.
func takeMetrics(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, MaxBody)); err != nil {
		refuseRequest(w, http.StatusRequestEntityTooLarge, "too long")
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// arrays writes arrays of bans, "null" for an empty one, as CrowdSec does.
type arrays struct {
	w     *bufio.Writer
	buf   []byte
	open  bool // an element was written
	named bool
	any   bool
	// text is the last scenario in JSON: neighbours often share it.
	scenario string
	text     []byte
}

func newArrays(w io.Writer) *arrays { return &arrays{w: bufio.NewWriterSize(w, 32<<10)} }

func (o *arrays) beginArray(name string) {
	o.closeArray()
	if o.named {
		o.w.WriteByte(',')
	} else {
		o.w.WriteByte('{')
	}
	o.named, o.any = true, true
	o.w.WriteString(`"` + name + `":`)
}

func (o *arrays) addBan(b *Ban, now flow.Time) {
	if o.open {
		o.w.WriteByte(',')
	} else {
		o.w.WriteByte('[')
	}
	o.open = true
	if o.text == nil || b.Scenario != o.scenario {
		o.scenario, o.text = b.Scenario, appendText(nil, b.Scenario)
	}
	o.buf = appendBan(o.buf[:0], b, o.text, now)
	o.w.Write(o.buf)
}

func (o *arrays) closeArray() {
	switch {
	case o.open:
		o.w.WriteByte(']')
	case o.any:
		o.w.WriteString("null")
	}
	o.open = false
}

func (o *arrays) endObject() error {
	o.any = true
	o.closeArray()
	if o.named {
		o.w.WriteByte('}')
	}
	return o.w.Flush()
}

func appendText(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil { // never: a string has a JSON form
		return append(b, `""`...)
	}
	return append(b, text...)
}
