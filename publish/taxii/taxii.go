// Package taxii serves what is published as STIX objects over TAXII 2.1, to be
// read only. Objects are made from the rows of a view as they are asked for.
package taxii

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"dragnet/flow"
	"dragnet/publish"
	"dragnet/publish/stix"
)

// MediaType is that of every answer (TAXII 2.1, section 1.6.8).
const MediaType = "application/taxii+json;version=2.1"

// Paths of the server.
const (
	Discovery = "/taxii2/"
	Root      = "/taxii2/dragnet/"
)

const stixMedia = "application/stix+json;version=2.1"

// Configuration of the server.
type Configuration struct {
	// Title says whose server it is; empty serves none.
	Title string `yaml:"title"`
	// Contact is shown by the server.
	Contact string `yaml:"contact"`
	// MinConfidence is what a host needs to be in the second collection, for
	// those who block what they read.
	MinConfidence int `yaml:"min_confidence"`
}

// Server serves two collections: all entries, and those of a least confidence.
type Server struct {
	config      Configuration
	maker       *stix.Maker
	cursors     *publish.Cursors
	now         func() flow.Time
	collections []*collection
}

type collection struct {
	id, title, description string
	least                  int
	index                  atomic.Pointer[index]
}

// New makes a server without objects; publisher names the key behind it.
func New(c Configuration, publisher, objections string, cursors *publish.Cursors, now func() flow.Time) *Server {
	s := &Server{config: c, maker: stix.NewMaker(publisher, c.Title, objections), cursors: cursors, now: now}
	for _, x := range []struct {
		name, description string
		least             int
	}{{"Entries", "all hosts that are published", 0}, {"Block", fmt.Sprintf("hosts of a confidence of at least %d", c.MinConfidence), c.MinConfidence}} {
		id := uuid.NewSHA1(uuid.NameSpaceURL, []byte("dragnet "+publisher+" "+x.name))
		s.collections = append(s.collections, &collection{id: id.String(), title: x.name, description: x.description, least: x.least})
	}
	return s
}

// Update serves a view from now on.
func (s *Server) Update(v *publish.View) {
	for _, c := range s.collections {
		c.index.Store(newIndex(v, s.maker, c.least))
	}
}

// failure is an answer other than success.
type failure struct {
	status int
	title  string
}

func fail(status int, format string, args ...any) *failure {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// errorBody is the TAXII error message (section 3.6.1).
type errorBody struct {
	Title  string `json:"title"`
	Status string `json:"http_status"`
}

// ServeHTTP answers requests below /taxii2/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	result, f := s.answer(w, r)
	w.Header().Set("Content-Type", MediaType)
	if f != nil {
		w.WriteHeader(f.status)
		result = errorBody{f.title, strconv.Itoa(f.status)}
	}
	if r.Method == http.MethodHead {
		return
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(result) // the reader has gone away
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) (any, *failure) {
	path, slash := strings.CutSuffix(r.URL.Path, "/")
	if !slash {
		return nil, fail(http.StatusNotFound, "paths end with a slash")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, refuseWrite(w, r)
	}
	if !acceptable(r.Header.Values("Accept")) {
		return nil, fail(http.StatusNotAcceptable, "want Accept: %s", MediaType)
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fail(http.StatusBadRequest, "the query cannot be read")
	}
	switch {
	case path+"/" == Discovery:
		return s.discover(), nil
	case path+"/" == Root:
		return map[string]any{"title": s.config.Title, "description": "What this clearinghouse publishes", "versions": []string{MediaType}, "max_content_length": 1}, nil
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(Root, "/")+"/collections")
	if !ok {
		return nil, fail(http.StatusNotFound, "nothing is served here")
	}
	parts := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	if parts[0] == "" {
		var all []any
		for _, c := range s.collections {
			all = append(all, c.describe())
		}
		return map[string]any{"collections": all}, nil
	}
	i := slices.IndexFunc(s.collections, func(c *collection) bool { return c.id == parts[0] })
	if i < 0 {
		return nil, fail(http.StatusNotFound, "no such collection")
	}
	return s.answerCollection(w, s.collections[i], parts[1:], values)
}

// refuseWrite says why nothing can be added or deleted.
func refuseWrite(w http.ResponseWriter, r *http.Request) *failure {
	if r.Method != http.MethodPost && r.Method != http.MethodDelete {
		w.Header().Set("Allow", "GET, HEAD")
		return fail(http.StatusMethodNotAllowed, "collections are only read")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method == http.MethodPost && (err != nil || kind != "application/taxii+json") {
		return fail(http.StatusUnsupportedMediaType, "want Content-Type: %s", MediaType)
	}
	return fail(http.StatusForbidden, "collections are only read")
}

// acceptable reports whether an Accept header allows our media type (section
// 1.6.8.2: a version that is left off is the newest).
func acceptable(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, parameters, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err == nil && (kind == "*/*" || kind == "application/*" || kind == "application/taxii+json") && (parameters["version"] == "" || parameters["version"] == "2.1") {
			return true
		}
	}
	return false
}

func (s *Server) discover() any {
	d := map[string]any{"title": s.config.Title, "description": "Read-only", "default": Root, "api_roots": []string{Root}}
	if s.config.Contact != "" {
		d["contact"] = s.config.Contact
	}
	return d
}

func (c *collection) describe() any {
	return map[string]any{"id": c.id, "title": c.title, "description": c.description, "can_read": true, "can_write": false, "media_types": []string{stixMedia}}
}

func (s *Server) answerCollection(w http.ResponseWriter, c *collection, parts []string, values url.Values) (any, *failure) {
	if len(parts) == 0 {
		return c.describe(), nil
	}
	x := c.index.Load()
	if x == nil {
		return nil, fail(http.StatusServiceUnavailable, "nothing has been published yet")
	}
	q, f := s.parseQuery(c, values)
	if f != nil {
		return nil, f
	}
	switch {
	case len(parts) == 1 && parts[0] == "objects":
		return s.answerObjects(w, x, q)
	case len(parts) == 1 && parts[0] == "manifest":
		return s.answerManifest(w, x, q)
	case len(parts) == 2 && parts[0] == "objects":
		return s.answerObject(w, x, q, parts[1])
	case len(parts) == 3 && parts[0] == "objects" && parts[2] == "versions":
		return s.answerVersions(w, x, q, parts[1])
	}
	return nil, fail(http.StatusNotFound, "nothing is served here")
}
