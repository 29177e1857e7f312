// Package queryapi answers questions about what is published over HTTP: by host,
// prefix, group, pattern, time, confidence and filter, page by page, and the
// history of a host. openapi.json describes it.
package queryapi

//go:generate go tool -modfile=../../tools/go.mod oapi-codegen -generate types,client -package queryapi_test -o generated_test.go openapi.json

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
)

// Server answers queries on the newest view of a feed.
type Server struct {
	feed    *publish.Feed
	cursors *publish.Cursors
	mux     *http.ServeMux
}

// Prefix is where all paths begin.
const Prefix = "/api/v1/"

//go:embed openapi.json
var document []byte

// New makes a server.
func New(feed *publish.Feed, cursors *publish.Cursors) *Server {
	s := &Server{feed: feed, cursors: cursors, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET "+Prefix+"entries", s.answer(s.listEntries, "host", "group", "pattern", "since", "before", "min_confidence", "filter", "cursor", "limit"))
	s.mux.HandleFunc("GET "+Prefix+"groups", s.answer(s.listGroups, "cursor", "limit"))
	s.mux.HandleFunc("GET "+Prefix+"groups/{group}", s.answer(s.showGroup))
	s.mux.HandleFunc("GET "+Prefix+"hosts/{host}", s.answer(s.showHost))
	s.mux.HandleFunc("GET "+Prefix+"changes", s.answer(s.listChanges, "after", "limit"))
	s.mux.HandleFunc("GET "+Prefix+"openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// failure is an error with its status.
type failure struct {
	status int
	error
}

func bad(format string, args ...any) error {
	return failure{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// maxValue bounds each parameter in bytes.
const maxValue = 256 << 10

// answer wraps a method: it checks that the parameters are known, each given at
// most once, and writes the result or the error as JSON.
func (s *Server) answer(method func(*http.Request, url.Values) (any, error), known ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		values, err := url.ParseQuery(r.URL.RawQuery)
		var result any
		if err == nil {
			err = checkParameters(values, known)
		}
		if err == nil {
			result, err = method(r, values)
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			status := http.StatusBadRequest
			if f, ok := errors.AsType[failure](err); ok {
				status = f.status
			}
			w.WriteHeader(status)
			result = problem{err.Error()}
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(result) // the reader has gone away
	}
}

type problem struct {
	Error string `json:"error"`
}

func checkParameters(values url.Values, known []string) error {
parameters:
	for name, all := range values {
		for _, k := range known {
			if k == name && len(all) == 1 && len(all[0]) <= maxValue {
				continue parameters
			}
		}
		return bad("parameter %.60q: want each of %v at most once, of at most %d bytes", name, known, maxValue)
	}
	return nil
}

// entry is a published entry with why it is there.
type entry struct{ *publish.Row }

// MarshalJSON writes the entry's fields and the reason.
func (e entry) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

type entryPage struct {
	Entries []entry `json:"entries"`
	Next    string  `json:"next"`
	// Sequence is the last change that the page shows: go on with changes.
	Sequence int64 `json:"sequence"`
}

func (s *Server) listEntries(_ *http.Request, values url.Values) (any, error) {
	v := s.feed.View()
	q, err := parseQuery(values, s.feed.Now())
	if err != nil {
		return nil, err
	}
	limit, err := parseNumber(values, "limit", publish.MaxPage)
	if err != nil {
		return nil, err
	}
	rows, next, err := v.Page(s.cursors, q, values.Get("cursor"), int(limit))
	return entryPage{entriesOf(rows), next, v.Sequence}, err
}

func entriesOf(rows []publish.Row) []entry {
	out := make([]entry, len(rows))
	for i := range rows {
		out[i] = entry{&rows[i]}
	}
	return out
}

func parseQuery(values url.Values, now flow.Time) (q publish.Query, err error) {
	q = publish.Query{Group: values.Get("group"), Pattern: values.Get("pattern"), Filter: values.Get("filter"), Now: now}
	if host := values.Get("host"); host != "" {
		if q.Hosts, err = publish.ParseHosts(host); err != nil {
			return q, bad("host: %v", err)
		}
	}
	for name, into := range map[string]*flow.Time{"since": &q.Since, "before": &q.Before} {
		if text := values.Get(name); text != "" {
			if err := into.UnmarshalText([]byte(text)); err != nil {
				return q, bad("%s: %v", name, err)
			}
		}
	}
	confidence, err := parseNumber(values, "min_confidence", 100)
	q.MinConfidence = int(confidence)
	return q, err
}

// parseNumber reads a number of 0 to most; an absent one is 0.
func parseNumber(values url.Values, name string, most int64) (int64, error) {
	text := values.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > most {
		return 0, bad("%s %.30q: want a number from 0 to %d", name, text, most)
	}
	return n, nil
}

type groupPage struct {
	Groups []*dossier.Group `json:"groups"`
	Next   string           `json:"next"`
}

func (s *Server) listGroups(_ *http.Request, values url.Values) (any, error) {
	limit, err := parseNumber(values, "limit", publish.MaxPage)
	if err != nil {
		return nil, err
	}
	var after string
	if cursor := values.Get("cursor"); cursor != "" {
		if err := s.cursors.Open(cursor, &after); err != nil {
			return nil, err
		}
	}
	page, more := s.feed.View().GroupPage(after, int(limit))
	out := groupPage{Groups: page}
	if page == nil {
		out.Groups = []*dossier.Group{}
	}
	if more {
		out.Next, err = s.cursors.Seal(page[len(page)-1].ID)
	}
	return out, err
}

func (s *Server) showGroup(r *http.Request, _ url.Values) (any, error) {
	if g := s.feed.View().Groups[r.PathValue("group")]; g != nil {
		return g, nil
	}
	return nil, failure{http.StatusNotFound, errors.New("no group of this name is published")}
}

type hostAnswer struct {
	Host    netip.Addr `json:"host"`
	Listed  bool       `json:"listed"`
	Entries []entry    `json:"entries"`
	// History is what changed within the span that is kept.
	History []dossier.Change `json:"history"`
}

func (s *Server) showHost(r *http.Request, _ url.Values) (any, error) {
	host, err := netip.ParseAddr(r.PathValue("host"))
	if err != nil {
		return nil, bad("host %.60q is not an address", r.PathValue("host"))
	}
	host = host.Unmap().WithZone("")
	v := s.feed.View()
	rows := v.At(host, s.feed.Now())
	out := hostAnswer{host, len(rows) > 0, entriesOf(rows), v.History(host)}
	if out.History == nil {
		out.History = []dossier.Change{}
	}
	return out, nil
}

type changePage struct {
	Changes []dossier.Change `json:"changes"`
	// Sequence is what to go on after.
	Sequence int64 `json:"sequence"`
}

// ErrTooFar says that changes are no longer kept.
var ErrTooFar = errors.New("changes are not kept so far back: list the entries, and go on after the sequence that comes with them")

func (s *Server) listChanges(_ *http.Request, values url.Values) (any, error) {
	after, err := parseNumber(values, "after", 1<<62)
	if err != nil {
		return nil, err
	}
	limit, err := parseNumber(values, "limit", publish.MaxPage)
	if err != nil {
		return nil, err
	}
	page, complete := s.feed.View().ChangesAfter(after, int(limit))
	if !complete {
		return nil, failure{http.StatusGone, ErrTooFar}
	}
	out := changePage{page, after}
	if len(page) > 0 {
		out.Sequence = page[len(page)-1].Sequence
	} else {
		out.Changes = []dossier.Change{}
	}
	return out, nil
}
