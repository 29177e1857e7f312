package taxii

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"dragnet/flow"
	"dragnet/publish/stix"
)

// Bounds of a request.
const (
	// MaxPage is the most objects of a page.
	MaxPage = 1000
	// maxMatches bounds the values of one match.
	maxMatches = 100
	// maxScan bounds the items that a page looks at, maxMade the objects that are
	// made to see whether they match; a page with fewer objects than asked for says
	// that there are more.
	maxScan = 200_000
	maxMade = 20_000
)

// query is what a request asks for. The cursor holds all of it, since clients
// drop parameters or repeat them.
type query struct {
	Collection string    `json:"c"`
	After      flow.Time `json:"a"`
	IDs        []string  `json:"i,omitempty"`
	Types      []string  `json:"t,omitempty"`
	Versions   []string  `json:"v,omitempty"`
	Spec       []string  `json:"s,omitempty"`
	// Added, Item and Object are where to go on: after the items added before,
	// that many items of the same time, and objects of the next one.
	Added  flow.Time `json:"d,omitempty"`
	Item   int       `json:"n,omitempty"`
	Object int       `json:"o,omitempty"`

	limit int
	next  bool // it came from a cursor
	// times are the Versions that are times: with first, last or all among them
	// any object's is right, and there are none.
	times []flow.Time
}

// readVersions fills in times: once, not for each object.
func (q *query) readVersions() *failure {
	q.times = nil
	every := false
	for _, v := range q.Versions {
		var t flow.Time
		switch err := t.UnmarshalText([]byte(v)); {
		case v == "first" || v == "last" || v == "all":
			every = true
		case err != nil:
			return fail(http.StatusBadRequest, "match[version]: %.40q is neither first, last, all nor a time", v)
		default:
			q.times = append(q.times, t)
		}
	}
	if every {
		q.times = nil
	}
	return nil
}

func (s *Server) parseQuery(c *collection, values url.Values) (q query, f *failure) {
	q.limit = MaxPage
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, fail(http.StatusBadRequest, "limit %.30q is not a positive number", text)
		}
		q.limit = min(n, MaxPage)
	}
	limit := q.limit
	if cursor := values.Get("next"); cursor != "" {
		if err := s.cursors.Open(cursor, &q); err != nil || q.Collection != c.id {
			return q, fail(http.StatusBadRequest, "next is not one of ours; start again without it")
		}
		q.limit, q.next = limit, true
		return q, q.readVersions()
	}
	q.Collection = c.id
	q.After = -1
	if text := values.Get("added_after"); text != "" {
		if err := q.After.UnmarshalText([]byte(text)); err != nil {
			return q, fail(http.StatusBadRequest, "added_after: %v", err)
		}
	}
	for name, into := range map[string]*[]string{"match[id]": &q.IDs, "match[type]": &q.Types, "match[version]": &q.Versions, "match[spec_version]": &q.Spec} {
		if text := values.Get(name); text != "" {
			if *into = strings.Split(text, ","); len(*into) > maxMatches {
				return q, fail(http.StatusBadRequest, "%s has more than %d values", name, maxMatches)
			}
		}
	}
	return q, q.readVersions()
}

// matches reports whether the filters other than the type take an object. Each
// object has one version: the last, the first, and all.
func (q *query) matches(o *stix.Object) bool {
	if len(q.IDs) > 0 && !slices.Contains(q.IDs, o.ID) || len(q.Spec) > 0 && !slices.Contains(q.Spec, stix.SpecVersion) {
		return false
	}
	if len(q.times) == 0 {
		return true
	}
	var have flow.Time
	return have.UnmarshalText([]byte(versionOf(o))) == nil && slices.Contains(q.times, have)
}

// versionOf is the version of an object: when it was modified, or created.
func versionOf(o *stix.Object) string {
	switch {
	case o.Modified != "":
		return o.Modified
	case o.Created != "":
		return o.Created
	}
	return stix.Stamp(0) // an address never changes
}

// datedObject is an object with when it was added.
type datedObject struct {
	object *stix.Object
	added  flow.Time
}

// page collects objects from the position of a query; next is empty at the end.
func (s *Server) page(x *index, q query) (out []datedObject, next string, f *failure) {
	if len(q.IDs) > 0 && !q.next {
		return s.pageOfIDs(x, q), "", nil
	}
	var types map[string]bool
	if len(q.Types) > 0 {
		types = map[string]bool{}
		for _, t := range q.Types {
			types[t] = true
		}
	}
	i, n := x.after(q.After), 0
	if q.next {
		i, n = x.after(q.Added-1)+q.Item, q.Object
	}
	for scanned, made := 0, 0; i < len(x.items); i, n = i+1, 0 {
		for ; n < x.count(i); n++ {
			if !x.hasType(i, n, types) {
				continue
			}
			if len(out) == q.limit || scanned >= maxScan || made >= maxMade {
				next, err := s.cursors.Seal(x.stop(q, i, n))
				if err != nil {
					return nil, "", fail(http.StatusInternalServerError, "no cursor")
				}
				return out, next, nil
			}
			if o := x.object(i, n); q.matches(o) {
				out = append(out, datedObject{o, x.items[i].added})
			}
			made++
		}
		scanned++
	}
	return out, "", nil
}

// stop is the query that goes on at an object.
func (x *index) stop(q query, i, n int) query {
	q.Added = x.items[i].added
	q.Item, q.Object = i-x.after(q.Added-1), n
	return q
}

func (s *Server) pageOfIDs(x *index, q query) (out []datedObject) {
	for _, id := range q.IDs {
		i, n, ok := x.find(id)
		if !ok || x.items[i].added <= q.After {
			continue
		}
		if o := x.object(i, n); q.matches(o) && (len(q.Types) == 0 || slices.Contains(q.Types, o.Type)) && len(out) < q.limit {
			out = append(out, datedObject{o, x.items[i].added})
		}
	}
	slices.SortStableFunc(out, func(a, b datedObject) int { return int(min(max(a.added-b.added, -1), 1)) })
	return out
}

// setDates says when the first and last object of an answer were added.
func setDates(w http.ResponseWriter, all []datedObject) {
	if len(all) > 0 {
		w.Header().Set("X-TAXII-Date-Added-First", stix.Stamp(all[0].added))
		w.Header().Set("X-TAXII-Date-Added-Last", stix.Stamp(all[len(all)-1].added))
	}
}

// envelope is TAXII's (section 3.7); an empty one is {}.
type envelope struct {
	More    bool           `json:"more,omitempty"`
	Next    string         `json:"next,omitempty"`
	Objects []*stix.Object `json:"objects,omitempty"`
}

func (s *Server) answerObjects(w http.ResponseWriter, x *index, q query) (any, *failure) {
	all, next, f := s.page(x, q)
	if f != nil {
		return nil, f
	}
	setDates(w, all)
	e := envelope{More: next != "", Next: next}
	for _, o := range all {
		e.Objects = append(e.Objects, o.object)
	}
	return e, nil
}

type manifestRecord struct {
	ID        string `json:"id"`
	DateAdded string `json:"date_added"`
	Version   string `json:"version"`
	MediaType string `json:"media_type"`
}

type manifest struct {
	More    bool             `json:"more,omitempty"`
	Next    string           `json:"next,omitempty"`
	Objects []manifestRecord `json:"objects,omitempty"`
}

func (s *Server) answerManifest(w http.ResponseWriter, x *index, q query) (any, *failure) {
	all, next, f := s.page(x, q)
	if f != nil {
		return nil, f
	}
	setDates(w, all)
	m := manifest{More: next != "", Next: next}
	for _, o := range all {
		m.Objects = append(m.Objects, manifestRecord{o.object.ID, stix.Stamp(o.added), versionOf(o.object), stixMedia})
	}
	return m, nil
}

// one finds an object by name, if the other filters take it.
func (s *Server) one(w http.ResponseWriter, x *index, q query, id string) (all []datedObject, f *failure) {
	if _, _, ok := x.find(id); !ok {
		return nil, fail(http.StatusNotFound, "no such object")
	}
	q.IDs, q.next = []string{id}, false
	all = s.pageOfIDs(x, q)
	setDates(w, all)
	return all, nil
}

func (s *Server) answerObject(w http.ResponseWriter, x *index, q query, id string) (any, *failure) {
	all, f := s.one(w, x, q, id)
	if f != nil {
		return nil, f
	}
	e := envelope{}
	for _, o := range all {
		e.Objects = append(e.Objects, o.object)
	}
	return e, nil
}

func (s *Server) answerVersions(w http.ResponseWriter, x *index, q query, id string) (any, *failure) {
	all, f := s.one(w, x, q, id)
	if f != nil {
		return nil, f
	}
	versions := []string{}
	for _, o := range all {
		versions = append(versions, versionOf(o.object))
	}
	return map[string]any{"versions": versions}, nil
}
