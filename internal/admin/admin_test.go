package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"dragnet/internal/metric"
	"dragnet/internal/testkit"
)

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	return testkit.Get(t, "http://"+s.Address()+path)
}

func TestServer(t *testing.T) {
	s, err := New(Configuration{Listen: "127.0.0.1:0"}, "1.2.3", "abcdef", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	metric.Under(s.Metrics(), "dragnet_").Counter("questions_total", "Questions.").Add(3)
	var broken error
	s.AddLive(func(context.Context) error { return nil })
	s.AddReady(func(context.Context) error { return nil })
	s.AddReady(func(context.Context) error { return broken })
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, text := get(t, s, "/readyz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("/readyz: %d %q", code, text)
	}
	broken = errors.New("no roster")
	if code, text := get(t, s, "/readyz"); code != http.StatusServiceUnavailable || text != "no roster\n" {
		t.Errorf("/readyz of a broken part: %d %q", code, text)
	}
	if code, _ := get(t, s, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	_, text := get(t, s, "/metrics")
	for _, want := range []string{"dragnet_questions_total 3\n", `dragnet_build_info{commit="abcdef",go="go`, `release="1.2.3"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for address, ok := range map[string]bool{"": true, "127.0.0.1:9120": true, "[::1]:0": true, "0.0.0.0:1": false, "192.0.2.1:1": false, "localhost:1": false, "x": false} {
		if err := (&Configuration{Listen: address}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
