package node

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/decide"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/node/api"
	"dragnet/node/layout"
	"dragnet/wire/identity"
	nodev1 "dragnet/wire/node/v1"
)

// start starts a node in a new data directory, and stops it with the test.
func start(t *testing.T, change func(*Configuration)) (*Node, *strings.Builder) {
	t.Helper()
	c := DefaultConfiguration()
	c.Store.Directory, c.Admin.Listen, c.API.Listen = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	if change != nil {
		change(&c)
	}
	var out strings.Builder
	log, level := logging.New(c.Logging, &out)
	n, err := New(c, run.Program{Log: log, Level: level, Release: "1", Commit: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return n, &out
}

func TestNodeServesItsParts(t *testing.T) {
	n, _ := start(t, nil)
	client, err := api.Dial("unix://"+n.api.Socket(), "")
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	for range 100 {
		r, err := http.Get("http://" + n.admin.Address() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the node is not ready")
}

// TestStatus: every part is asked, an empty store asks for attention, and a proposal
// that waits does.
func TestStatus(t *testing.T) {
	n, _ := start(t, nil)
	client, err := api.Dial("unix://"+n.api.Socket(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	levels := func() map[string]string {
		t.Helper()
		got, err := client.Status.GetStatus(t.Context(), &nodev1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Release != "1" || got.Commit != "abc" || got.Started == nil {
			t.Errorf("release %q, commit %q, started %v", got.Release, got.Commit, got.Started)
		}
		of := map[string]string{}
		for _, p := range got.Parts {
			of[p.Part] = p.Level
		}
		return of
	}
	want := map[string]string{"store": "attention", "sources": "ok", "database": "ok", "decisions": "ok", "agents": "ok"}
	if diff := cmp.Diff(want, levels()); diff != "" {
		t.Errorf("of an empty node (-want +got):\n%s", diff)
	}
	if _, err := client.Decisions.ProposeDecision(t.Context(), &nodev1.ProposeDecisionRequest{Target: "203.0.113.17", Why: "it floods"}); err != nil {
		t.Fatal(err)
	}
	want["decisions"] = "attention"
	if diff := cmp.Diff(want, levels()); diff != "" {
		t.Errorf("with a proposal (-want +got):\n%s", diff)
	}
}

// TestInertUntilStarted: New opens and creates nothing.
func TestInertUntilStarted(t *testing.T) {
	c := DefaultConfiguration()
	c.Store.Directory = filepath.Join(t.TempDir(), "data")
	if _, err := New(c, run.Program{Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if all, err := filepath.Glob(filepath.Dir(c.Store.Directory) + "/*"); err != nil || len(all) > 0 {
		t.Errorf("New created %v, %v", all, err)
	}
}

// TestReload: the allow list and the log level are applied; what is not is
// named, and an invalid configuration changes nothing.
func TestReload(t *testing.T) {
	n, out := start(t, nil)
	c := n.config
	c.Decide.Allow = []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")}
	c.Logging.Level = slog.LevelWarn
	c.Store.KeepDays = 7
	if err := n.Reload(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "need a restart") || !strings.Contains(got, `"keys":["store.keep_days"]`) {
		t.Errorf("the log does not name the key that needs a restart:\n%s", got)
	}
	allowed := func() (allow []netip.Prefix) {
		book, err := layout.OpenLedger(t.Context(), c.Store.Directory)
		if err != nil {
			t.Fatal(err)
		}
		defer book.Close()
		if err := book.Judge(t.Context(), 0, func(j *decide.Judge) error { allow = j.Allow(); return nil }); err != nil {
			t.Fatal(err)
		}
		return allow
	}
	if got := allowed(); !slices.Equal(got, c.Decide.Allow) {
		t.Errorf("allowed %v, want %v", got, c.Decide.Allow)
	}
	if n.program.Log.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the level is still INFO")
	}
	before := c.Decide.Allow
	c.Decide.Allow, c.Decide.Budget = nil, 7
	if err := n.Reload(t.Context(), c); err == nil || !slices.Equal(allowed(), before) {
		t.Errorf("an invalid configuration was applied: %v", err)
	}
}

// TestWitnessNeedsNetworks: a node answers no questions unless it says which
// networks are its own.
func TestWitnessNeedsNetworks(t *testing.T) {
	c := DefaultConfiguration()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	c.Witness.Listen, c.Witness.Roster.File, c.Witness.Roster.Signer = "127.0.0.1:0", "roster.bin", k.Public().String()
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "site.networks") {
		t.Errorf("%v", err)
	}
	c.Site.Name, c.Site.Networks = "a", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
