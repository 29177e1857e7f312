package taxii_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/publish"
	"dragnet/publish/publishtest"
	"dragnet/publish/taxii"
)

type server struct {
	testing.TB
	source *publishtest.Source
	feed   *publish.Feed
	taxii  *taxii.Server
	ids    []string // of the collections
}

func start(t testing.TB, hosts int) *server {
	t.Helper()
	s := &server{TB: t, source: publishtest.New()}
	s.source.Fill(hosts)
	s.source.List("sure", []string{"in dport=22"}, 99, "198.51.100.7")
	s.feed = s.source.Feed(t)
	s.taxii = taxii.New(taxii.Configuration{Title: "Example", MinConfidence: 99}, "key", "https://example.org/objections", publish.NewCursors([]byte("secret")), s.feed.Now)
	s.taxii.Update(s.feed.View())
	var all struct{ Collections []struct{ ID string } }
	s.get("collections/", 200, &all)
	for _, c := range all.Collections {
		s.ids = append(s.ids, c.ID)
	}
	return s
}

func (s *server) request(method, path string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	if header != nil {
		r.Header = header
	}
	w := httptest.NewRecorder()
	s.taxii.ServeHTTP(w, r)
	return w
}

func (s *server) get(path string, status int, into any) http.Header {
	s.Helper()
	w := s.request(http.MethodGet, taxii.Root+path, http.Header{"Accept": {taxii.MediaType}})
	if w.Code != status || w.Header().Get("Content-Type") != taxii.MediaType {
		s.Fatalf("%s gave %d of %s, want %d: %.300s", path, w.Code, w.Header().Get("Content-Type"), status, w.Body)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			s.Fatal(err)
		}
	}
	return w.Header()
}

type object struct {
	Type, ID, Modified string
	Revoked            bool
	ValidUntil         string `json:"valid_until"`
	Value              string
}

type envelope struct {
	More    bool
	Next    string
	Objects []object
}

// TestConformance follows the sections of the TAXII 2.1 specification.
func TestConformance(t *testing.T) {
	s := start(t, 30)
	objects := "collections/" + s.ids[0] + "/objects/"
	for name, c := range map[string]struct {
		method, path string
		header       http.Header
		status       int
	}{
		"4.1 discovery":                             {"GET", "/taxii2/", nil, 200},
		"4.2 api root":                              {"GET", taxii.Root, nil, 200},
		"4.3 unknown status":                        {"GET", taxii.Root + "status/2d086da7-4bdc-4f91-900e-d77486753710/", nil, 404},
		"1.6.7 without a slash":                     {"GET", "/taxii2", nil, 404},
		"1.6.8 version left off":                    {"GET", "/taxii2/", http.Header{"Accept": {"application/taxii+json"}}, 200},
		"1.6.8 any":                                 {"GET", "/taxii2/", http.Header{"Accept": {"text/html, */*;q=0.1"}}, 200},
		"1.6.8 a version that is not spoken":        {"GET", "/taxii2/", http.Header{"Accept": {"application/taxii+json;version=2.0"}}, 406},
		"1.6.8 another type":                        {"GET", "/taxii2/", http.Header{"Accept": {"text/html"}}, 406},
		"5.2 a collection that does not exist":      {"GET", taxii.Root + "collections/365fed99-08fa-fdcd-a1b3-fb247eb41d01/", nil, 404},
		"5.4 limit that is not a number":            {"GET", taxii.Root + objects + "?limit=x", nil, 400},
		"5.4 limit of zero":                         {"GET", taxii.Root + objects + "?limit=0", nil, 400},
		"5.4 added_after that is not a time":        {"GET", taxii.Root + objects + "?added_after=yesterday", nil, 400},
		"5.4 next of another server":                {"GET", taxii.Root + objects + "?next=abc", nil, 400},
		"5.4 version that is neither word nor time": {"GET", taxii.Root + objects + "?match[version]=newest", nil, 400},
		"5.5 adding without a right":                {"POST", taxii.Root + objects, http.Header{"Content-Type": {taxii.MediaType}}, 403},
		"5.5 adding another type":                   {"POST", taxii.Root + objects, http.Header{"Content-Type": {"text/plain"}}, 415},
		"5.6 an object that does not exist":         {"GET", taxii.Root + objects + "indicator--365fed99-08fa-4dcd-a1b3-fb247eb41d01/", nil, 404},
		"5.7 deleting without a right":              {"DELETE", taxii.Root + objects + "indicator--365fed99-08fa-4dcd-a1b3-fb247eb41d01/", nil, 403},
		"another method":                            {"PUT", taxii.Root + objects, nil, 405},
	} {
		w := s.request(c.method, c.path, c.header)
		if w.Code != c.status || w.Header().Get("Content-Type") != taxii.MediaType {
			t.Errorf("%s: %d of %s, want %d", name, w.Code, w.Header().Get("Content-Type"), c.status)
		}
		if c.status >= 400 {
			var e struct {
				Title  string
				Status string `json:"http_status"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Title == "" || e.Status != fmt.Sprint(c.status) {
				t.Errorf("%s: the error is %s, %v", name, w.Body, err)
			}
		}
	}
	var c struct {
		CanRead  *bool `json:"can_read"`
		CanWrite *bool `json:"can_write"`
	}
	s.get("collections/"+s.ids[0]+"/", 200, &c)
	if c.CanRead == nil || !*c.CanRead || c.CanWrite == nil || *c.CanWrite {
		t.Errorf("a collection is %+v; both are booleans, read true and write false", c)
	}
	w := s.request(http.MethodGet, taxii.Root+objects+"?match[type]=campaign", nil)
	if got := strings.TrimSpace(w.Body.String()); got != "{}" {
		t.Errorf("3.7: an empty envelope is %s", got)
	}
}

// TestPagesAreEverything reads page by page, as clients do: with next alone,
// repeating the filters, and going on by added_after.
func TestPagesAreEverything(t *testing.T) {
	s := start(t, 700)
	objects := "collections/" + s.ids[0] + "/objects/"
	const want = 2 + 701*4 + 2 // identity, marking; rows; groups
	for name, again := range map[string]string{"next alone": "", "filters repeated": "&added_after=1970-01-01T00:00:00Z", "other filters": "&match[type]=campaign"} {
		seen := map[string]int{}
		next := ""
		for pages := 0; pages == 0 || next != ""; pages++ {
			path := objects + "?limit=97"
			if next != "" {
				path = objects + "?limit=97&next=" + url.QueryEscape(next) + again
			}
			var e envelope
			s.get(path, 200, &e)
			for _, o := range e.Objects {
				seen[o.ID]++
			}
			if e.More != (e.Next != "") || pages > 100 {
				t.Fatalf("%s: page %d: more %v, next %q", name, pages, e.More, e.Next)
			}
			next = e.Next
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s: %s came %d times", name, id, n)
			}
		}
		if len(seen) != want {
			t.Errorf("%s: %d objects, want %d", name, len(seen), want)
		}
	}
	// The manifest lists the same.
	var m struct {
		More    bool
		Objects []struct {
			ID    string
			Added string `json:"date_added"`
		}
	}
	h := s.get("collections/"+s.ids[0]+"/manifest/?limit=50", 200, &m)
	if len(m.Objects) != 50 || !m.More || h.Get("X-TAXII-Date-Added-First") != m.Objects[0].Added || h.Get("X-TAXII-Date-Added-Last") != m.Objects[49].Added {
		t.Errorf("manifest of %d objects, %v", len(m.Objects), h)
	}
	if !slices.IsSortedFunc(m.Objects, func(a, b struct {
		ID    string
		Added string `json:"date_added"`
	}) int {
		return strings.Compare(a.Added, b.Added)
	}) {
		t.Error("the manifest is not in the order in which objects were added")
	}
}

func TestFollowing(t *testing.T) {
	s := start(t, 20)
	objects := "collections/" + s.ids[0] + "/objects/"
	h := s.get(objects, 200, nil)
	last := h.Get("X-TAXII-Date-Added-Last")
	var e envelope
	s.get(objects+"?added_after="+last, 200, &e)
	if len(e.Objects) != 0 {
		t.Errorf("%d objects after the last", len(e.Objects))
	}
	s.source.Advance(time.Hour)
	s.source.Withdraw("sure", "198.51.100.7")
	s.source.List("new", nil, 60, "203.0.113.9")
	s.taxii.Update(publishtest.Refresh(t, s.feed))
	s.get(objects+"?added_after="+last, 200, &e)
	got := map[string]int{}
	for _, o := range e.Objects {
		got[fmt.Sprint(o.Type, o.Revoked)]++
	}
	want := map[string]int{"indicatortrue": 1, "ipv4-addrfalse": 1, "indicatorfalse": 1, "observed-datafalse": 1, "sightingfalse": 1, "groupingfalse": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after a change: %v, want %v", got, want)
	}
	// The second collection holds only what is sure: now nothing but the fixed objects and a revocation.
	e = envelope{}
	s.get("collections/"+s.ids[1]+"/objects/?match[type]=indicator", 200, &e)
	if len(e.Objects) != 1 || !e.Objects[0].Revoked {
		t.Errorf("the second collection: %+v", e.Objects)
	}
	// One object by its name.
	id := e.Objects[0].ID
	for path, n := range map[string]int{id + "/": 1, id + "/?match[version]=" + e.Objects[0].Modified: 1, id + "/?match[version]=2001-01-01T00:00:00Z": 0, "?match[id]=" + id: 1, "?match[id]=" + id + "&match[type]=sighting": 0, "?match[spec_version]=2.0": 0} {
		var one envelope
		s.get(objects+path, 200, &one)
		if len(one.Objects) != n {
			t.Errorf("%s: %d objects, want %d", path, len(one.Objects), n)
		}
	}
	var v struct{ Versions []string }
	s.get(objects+id+"/versions/", 200, &v)
	if len(v.Versions) != 1 || v.Versions[0] != e.Objects[0].Modified {
		t.Errorf("versions %v", v.Versions)
	}
	for _, o := range e.Objects {
		if o.Type == "indicator" && o.ValidUntil == "" {
			t.Errorf("%s does not expire", o.ID)
		}
	}
}

// TestVersionsThatNothingHas: a page is short, and says so, instead of reading many
// objects for nothing; the last page ends.
func TestVersionsThatNothingHas(t *testing.T) {
	s := start(t, 12_000)
	objects, pages := "collections/"+s.ids[0]+"/objects/?match[version]=2001-01-01T00:00:00Z,2001-01-02T00:00:00Z", 0
	for next := ""; pages == 0 || next != ""; pages++ {
		var e envelope
		s.get(objects+"&next="+url.QueryEscape(next), 200, &e)
		if len(e.Objects) > 0 || pages > 10 {
			t.Fatalf("page %d has %d objects", pages, len(e.Objects))
		}
		next = e.Next
	}
	if pages < 3 {
		t.Errorf("%d pages: one request looked at most of 48,000 objects", pages)
	}
}

func FuzzQuery(f *testing.F) {
	s := start(f, 20)
	for _, q := range []string{"added_after=2026-03-01T00:00:00Z&limit=5", "match[type]=indicator,sighting&match[version]=all", "next=abc", "match[id]=%zz", "limit=-1"} {
		f.Add("objects/", q)
	}
	f.Add("manifest/", "match[spec_version]=2.1")
	f.Fuzz(func(t *testing.T, path, q string) {
		u := &url.URL{Path: taxii.Root + "collections/" + s.ids[0] + "/" + path, RawQuery: q}
		w := httptest.NewRecorder()
		s.taxii.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%q?%q gave %d: %s", path, q, w.Code, w.Body)
		}
	})
}

// BenchmarkVersions asks for a hundred versions that nothing has, among a million
// objects: what one request can cost.
func BenchmarkVersions(b *testing.B) {
	s := start(b, 250_000)
	var versions []string
	for i := range 100 {
		versions = append(versions, time.Unix(int64(i)+1, 0).UTC().Format(time.RFC3339))
	}
	for b.Loop() {
		var e envelope
		s.get("collections/"+s.ids[0]+"/objects/?match[version]="+strings.Join(versions, ","), 200, &e)
		if len(e.Objects) > 0 || !e.More {
			b.Fatalf("%d objects, more %v", len(e.Objects), e.More)
		}
	}
}

// BenchmarkPage reads pages of 1000 objects in the middle of a million.
func BenchmarkPage(b *testing.B) {
	s := start(b, 250_000)
	objects := "collections/" + s.ids[0] + "/objects/"
	next := ""
	b.ResetTimer()
	for b.Loop() {
		var e struct{ Next string }
		path := objects
		if next != "" {
			path += "?next=" + url.QueryEscape(next)
		}
		s.get(path, 200, &e)
		next = e.Next
	}
}
