//go:build linux

package guard

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"dragnet/daw"
	"dragnet/internal/admin"
	"dragnet/internal/testkit"
)

// TestMetrics: counters go up by what was added since the last update, gauges are
// those of the day, and a guard that hangs is not alive.
func TestMetrics(t *testing.T) {
	a, err := admin.New(admin.Configuration{Listen: "127.0.0.1:0"}, "1", "abc", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var m metrics
	m.register(a)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) { return testkit.Get(t, "http://"+a.Address()+path) }
	m.update(&daw.EdgeReport{Limited: 3}, Stats{Packets: 10, Held: 1}, 2, 1)
	m.update(&daw.EdgeReport{Limited: 2}, Stats{Packets: 25, Held: 4}, 2, 0)
	_, text := get("/metrics")
	for _, want := range []string{
		"dragnet_guard_packets_total 25\n", "dragnet_guard_packets_missed_total 2\n", "dragnet_guard_holds_total 4\n",
		"dragnet_guard_sources_at_limit 2\n", "dragnet_guard_sources_held 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	for _, c := range []struct {
		ago  time.Duration
		want int
	}{{0, http.StatusOK}, {2 * silentWithin, http.StatusServiceUnavailable}} {
		m.ticked.Store(time.Now().Add(-c.ago).UnixNano())
		if code, text := get("/livez"); code != c.want {
			t.Errorf("%v after the last work: %d %s", c.ago, code, text)
		}
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
