package lapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestFiltersThatExplode sends as many parts of scenarios as a request line holds:
// each would be looked for in every decision.
func TestFiltersThatExplode(t *testing.T) {
	b := start(t)
	for _, name := range []string{"scenarios_containing", "scenarios_not_containing", "scopes", "origins"} {
		r := httptest.NewRequest(http.MethodGet, "/v1/decisions?"+name+"="+strings.Repeat("z,", 20_000), nil)
		r.Header.Set("X-Api-Key", "key1")
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), name) {
			t.Errorf("20,000 values of %s: %d, %.100s", name, w.Code, w.Body)
		}
		r.URL.Path = "/v1/decisions/stream"
		w = httptest.NewRecorder()
		if b.server.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
			t.Errorf("20,000 values of %s in a stream: %d", name, w.Code)
		}
	}
}
