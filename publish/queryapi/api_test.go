package queryapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"dragnet/publish"
	"dragnet/publish/publishtest"
	"dragnet/publish/queryapi"
)

// checked asks the server, and checks request and answer against openapi.json.
type checked struct {
	testing.TB
	source *publishtest.Source
	feed   *publish.Feed
	server *queryapi.Server
	check  func(*http.Request, *http.Response, []byte, bool)
}

func newChecked(t testing.TB) *checked {
	t.Helper()
	c := &checked{TB: t, source: publishtest.New()}
	c.source.Fill(2500)
	c.feed = c.source.Feed(t)
	c.server = queryapi.New(c.feed, publish.NewCursors([]byte("secret")))
	answer := httptest.NewRecorder()
	c.server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, queryapi.Prefix+"openapi.json", nil))
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(answer.Body.Bytes())
	if err == nil {
		err = doc.Validate(t.Context())
	}
	if err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	c.check = func(r *http.Request, a *http.Response, body []byte, valid bool) {
		route, parameters, err := router.FindRoute(r)
		if err != nil {
			t.Fatalf("%s is not in openapi.json: %v", r.URL, err)
		}
		in := &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route}
		if err := openapi3filter.ValidateRequest(t.Context(), in); valid && err != nil {
			t.Errorf("request %s: %v", r.URL, err)
		}
		err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: a.StatusCode, Header: a.Header, Body: io.NopCloser(bytes.NewReader(body))})
		if err != nil {
			t.Errorf("answer to %s: %v", r.URL, err)
		}
	}
	return c
}

func (c *checked) get(path string, status int, into any, parameters ...string) {
	c.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		values.Set(parameters[i], parameters[i+1])
	}
	r := httptest.NewRequest(http.MethodGet, "http://feed.example.org/api/v1/"+path+"?"+values.Encode(), nil)
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, r)
	if w.Code != status {
		c.Fatalf("%s gave %d, want %d: %s", r.URL, w.Code, status, w.Body)
	}
	c.check(r, w.Result(), w.Body.Bytes(), status == http.StatusOK)
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			c.Fatal(err)
		}
	}
}

type entryPage struct {
	Entries  []struct{ Host, Group, Reason string }
	Next     string
	Sequence int64
}

func TestQueries(t *testing.T) {
	c := newChecked(t)
	for want, parameters := range map[int][]string{
		1:   {"host", publishtest.Host(7).String()},
		500: {"group", "group000002"},
		999: {"pattern", "in dport=2", "limit", "999"},
		250: {"host", "2001:db8::/32", "limit", "1000"},
		0:   {"filter", "confidence<1"},
		2:   {"filter", fmt.Sprintf("host=%s or host=%s", publishtest.Host(3), publishtest.Host(4))},
	} {
		var page entryPage
		c.get("entries", 200, &page, parameters...)
		if len(page.Entries) != want {
			t.Errorf("%v: %d entries, want %d", parameters, len(page.Entries), want)
		}
	}
	seen := 0
	for cursor := ""; ; seen++ {
		var page entryPage
		parameters := []string{"limit", "100", "filter", "confidence>=50"}
		if cursor != "" {
			parameters = []string{"cursor", cursor, "limit", "100"} // a client that drops its filter
		}
		c.get("entries", 200, &page, parameters...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if seen != 24 {
		t.Errorf("%d pages before the last, want 24", seen)
	}
}

func TestHistoryAndChanges(t *testing.T) {
	c := newChecked(t)
	var page entryPage
	c.get("entries", 200, &page, "limit", "1")
	host := publishtest.Host(1).String()
	c.source.Advance(time.Hour)
	c.source.Withdraw("group000000", host)
	publishtest.Refresh(t, c.feed)
	var changes struct {
		Changes []struct {
			Kind  string
			Entry struct{ Host string }
		}
		Sequence int64
	}
	c.get("changes", 200, &changes, "after", fmt.Sprint(page.Sequence))
	if len(changes.Changes) != 1 || changes.Changes[0].Kind != "removed" || changes.Changes[0].Entry.Host != host {
		t.Errorf("changes %+v", changes)
	}
	c.get("changes", 200, &changes, "after", fmt.Sprint(changes.Sequence))
	if len(changes.Changes) != 0 {
		t.Errorf("after the last change: %+v", changes)
	}
	var answer struct {
		Listed  bool
		History []struct{ Kind string }
	}
	c.get("hosts/"+host, 200, &answer)
	if answer.Listed || len(answer.History) != 2 {
		t.Errorf("history %+v", answer)
	}
	c.get("hosts/192.0.2.1", 200, &answer)
	c.get("groups/group000001", 200, nil)
	c.get("groups/none", 404, nil)
	c.get("groups", 200, nil, "limit", "2")
	// Who comes back after the history is over begins again.
	c.source.Advance(200 * time.Hour)
	publishtest.Refresh(t, c.feed)
	c.get("changes", 410, nil, "after", "1")
}

func TestBadRequests(t *testing.T) {
	c := newChecked(t)
	for _, parameters := range [][]string{
		{"host", "example.org"}, {"colour", "red"}, {"limit", "1001"}, {"limit", "-1"}, {"limit", "x"}, {"since", "yesterday"}, {"min_confidence", "101"},
		{"cursor", "abc"}, {"filter", "confidence"}, {"pattern", "in"}, {"filter", strings.Repeat("x", 5000)},
	} {
		c.get("entries", 400, nil, parameters...)
	}
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/entries?host=1.2.3.4&host=1.2.3.5", nil))
	if w.Code != 400 {
		t.Errorf("a parameter given twice: %d", w.Code)
	}
	w = httptest.NewRecorder()
	c.server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/entries", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func FuzzRequests(f *testing.F) {
	c := newChecked(f)
	for _, s := range []string{"entries?host=198.51.100.7", "entries?filter=confidence%3E1&limit=3", "hosts/::1", "groups?cursor=x", "changes?after=5", "entries?%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI("/api/v1/" + s)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		c.server.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u, Host: "x"})
		if w.Code >= 500 {
			t.Fatalf("%q gave %d: %s", s, w.Code, w.Body)
		}
	})
}
