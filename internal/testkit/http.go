package testkit

import (
	"io"
	"net/http"
	"testing"
)

// Get fetches an address, and returns the status code and the body.
func Get(t testing.TB, url string) (code int, body string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}
