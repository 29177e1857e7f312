package subscribe

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/node/bouncers"
	"dragnet/publish"
	"dragnet/publish/lapi"
	"dragnet/publish/mirror"
	"dragnet/publish/publishtest"
	"dragnet/wire/identity"
)

// TestFromFeedToDecisionToBouncer: what a mirror publishes becomes decisions by
// the node's rules, and the node's bouncers get those; what is withdrawn goes.
func TestFromFeedToDecisionToBouncer(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	source := publishtest.New()
	source.Advance(time.Since(publishtest.Start))
	source.List("g1", []string{"in dport=445"}, 90, "198.51.100.7", "198.51.100.8", "203.0.113.5")
	source.List("g2", nil, 40, "203.0.113.9")
	feed := source.Feed(t)
	tree, err := mirror.NewTree(mirror.Configuration{Directory: t.TempDir(), Deltas: time.Hour}, key, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	publishView := func(v *publish.View) {
		t.Helper()
		if _, err := tree.Publish(v); err != nil {
			t.Fatal(err)
		}
	}
	publishView(feed.View())
	web := httptest.NewServer(tree.Handler())
	defer web.Close()
	db := state.New(filepath.Join(t.TempDir(), "state.db"))
	l := ledger.New(db)
	rules := decide.DefaultConfiguration()
	rules.Enforce, rules.Approval, rules.Budget = true, false, 0.5
	rules.Allow = []netip.Prefix{netip.MustParsePrefix("203.0.113.5/32")}
	start(t, db)
	if err := l.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Configure(t.Context(), flow.FromTime(time.Now()), rules, "test"); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfiguration()
	c.URL, c.Publisher, c.Directory = web.URL, key.Public().String(), t.TempDir()
	s, err := New(c, Dependencies{Ledger: l, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	turn := func() {
		t.Helper()
		if err := s.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(lapi.KeyLine("one", "key1")), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bouncers.New(bouncers.Configuration{Listen: "127.0.0.1:0", Keys: keys}, bouncers.Dependencies{Ledger: l, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	start(t, b)
	// Of four, one is not sure enough, and one is on the node's allow list.
	await(t, b.Address(), "startup=true", "198.51.100.7", "198.51.100.8")
	// An operator takes one back: it is not proposed again.
	active, err := l.Decisions(t.Context(), dossier.Active, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range active {
		if !strings.Contains(d.Why, "in dport=445") || d.Steps[0].Who != "feed" {
			t.Errorf("%+v", d)
		}
		if d.Target == netip.MustParsePrefix("198.51.100.8/32") {
			if _, err := l.Undo(t.Context(), flow.FromTime(time.Now()), d.ID, "operator", "ours"); err != nil {
				t.Fatal(err)
			}
		}
	}
	publishView(publishtest.Refresh(t, feed))
	turn()
	await(t, b.Address(), "startup=true", "198.51.100.7")
	source.Withdraw("g1", "198.51.100.7")
	publishView(publishtest.Refresh(t, feed))
	turn()
	await(t, b.Address(), "startup=true")
	// Listed again, it is proposed again: only the feed had taken it back.
	source.List("g1", []string{"in dport=445"}, 90, "198.51.100.7")
	publishView(publishtest.Refresh(t, feed))
	turn()
	await(t, b.Address(), "startup=true", "198.51.100.7")
	// A source that is not the publisher changes nothing.
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mirror.NewTree(mirror.Configuration{Directory: t.TempDir(), Deltas: time.Hour}, other, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	source.List("g1", nil, 90, "192.0.2.66")
	if _, err := forged.Publish(publishtest.Refresh(t, feed)); err != nil {
		t.Fatal(err)
	}
	liar := httptest.NewServer(forged.Handler())
	defer liar.Close()
	s.copier.URL = liar.URL
	if err := s.turn(t.Context()); err == nil {
		t.Error("a forged publication was followed")
	}
	await(t, b.Address(), "startup=true", "198.51.100.7")
}

type part interface {
	Start(context.Context) error
	Stop(context.Context) error
}

func start(t *testing.T, p part) {
	t.Helper()
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// await pulls until exactly these addresses are banned.
func await(t *testing.T, address, query string, want ...string) {
	t.Helper()
	got := ""
	for range 100 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/decisions/stream?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", "key1")
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := a.Write(&b); err != nil {
			t.Fatal(err)
		}
		got = b.String()
		n := strings.Count(got, `"value":`)
		for _, w := range want {
			if !strings.Contains(got, fmt.Sprintf(`"value":%q`, w)) {
				n = -1
			}
		}
		if n == len(want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("want %v banned, got %s", want, got)
}
