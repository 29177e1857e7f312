package admin

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStatuses: what failed comes first, and makes the process not ready; what
// needs attention does not.
func TestStatuses(t *testing.T) {
	s, err := New(Configuration{Listen: "127.0.0.1:0"}, "1", "c", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.probed.every = 0
	disk := OK
	for _, f := range []func() Status{
		func() Status { return Status{Part: "agents", Level: OK, Text: "none"} },
		func() Status { return Status{Part: "decisions", Level: Attention, Text: "1 waits"} },
		func() Status { return Status{Part: "store", Level: disk, Text: "disk"} },
	} {
		s.AddStatus(func(context.Context) Status { return f() })
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	order := func() (parts []string) {
		for _, x := range s.Statuses(t.Context()) {
			parts = append(parts, x.Part)
		}
		return parts
	}
	if diff := cmp.Diff([]string{"decisions", "agents", "store"}, order()); diff != "" {
		t.Error(diff)
	}
	if code, _ := get(t, s, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz with a part that needs attention: %d", code)
	}
	disk = Failed
	if diff := cmp.Diff([]string{"store", "decisions", "agents"}, order()); diff != "" {
		t.Error(diff)
	}
	if code, text := get(t, s, "/readyz"); code != http.StatusServiceUnavailable || text != "store: disk\n" {
		t.Errorf("/readyz with a failed part: %d %q", code, text)
	}
}

// TestProbesAreCheap: however often /readyz is asked, the parts are asked every ten
// seconds, and what a caller that left made them say does not count.
func TestProbesAreCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Configuration{}, "1", "c", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		asked, level := 0, OK
		s.AddStatus(func(ctx context.Context) Status {
			asked++
			if ctx.Err() != nil {
				return Status{Part: "store", Level: Failed}
			}
			return Status{Part: "store", Level: level}
		})
		left, leave := context.WithCancel(t.Context())
		leave()
		if s.checkStatuses(left) == nil {
			t.Error("a failed part is not reported")
		}
		asked = 0
		for range 1000 {
			if err := s.checkStatuses(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if asked != 1 {
			t.Errorf("1000 probes asked %d times, want 1", asked)
		}
		level = Failed
		time.Sleep(probeEvery)
		if s.checkStatuses(t.Context()) == nil || asked != 2 {
			t.Errorf("a failure is not reported after %v; asked %d times", probeEvery, asked)
		}
	})
}
