package enforcement

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/contain/guard"
	"dragnet/daw"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/node/agents"
	"dragnet/node/api"
	"dragnet/wire/channel"
)

// start starts an enforcement whose guards are enrolled and connect over TLS.
func start(t *testing.T) (*ledger.Ledger, *agents.Registry, *api.Server) {
	t.Helper()
	dir := t.TempDir()
	db := state.New(filepath.Join(dir, "state.db"))
	registry := agents.New(agents.Dependencies{DB: db, Authority: filepath.Join(dir, "authority"), Log: quiet})
	book := ledger.New(db)
	c, rules := enforcing()
	c.Every = 100 * time.Millisecond
	e, err := New(c, Dependencies{Ledger: book, Rules: rules, Agents: registry, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	served := api.DefaultConfiguration()
	served.Socket, served.Listen = api.NoSocket, "127.0.0.1:0"
	server, err := api.New(served, api.Dependencies{Log: quiet, TLS: registry.ServerTLS(nil), Member: registry.FindMember, Services: []api.Service{registry.Service()}})
	if err != nil {
		t.Fatal(err)
	}
	parts := run.Parts{db, registry, e, server}
	if err := parts.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := parts.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return book, registry, server
}

// An enrolled guard has its persistent scanner judged and gets the block, over
// the agents' channel.
func TestPolicyOverTheChannel(t *testing.T) {
	d, registry, server := start(t)
	token, err := registry.NewToken(t.Context(), "edge-1", "guard", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := channel.DefaultConfiguration()
	c.State = filepath.Join(t.TempDir(), "agent")
	if _, err := channel.Enrol(t.Context(), c.State, "https://"+server.Address(), token, channel.Applicant{Host: "host.example", Release: "0.1"}); err != nil {
		t.Fatal(err)
	}
	admins, err := admin.New(admin.Configuration{Listen: "127.0.0.1:0"}, "0.1", "abc", quiet)
	if err != nil {
		t.Fatal(err)
	}
	station, err := guard.NewChannel(c, channel.Dependencies{Log: quiet, Admin: admins, Release: "0.1"})
	if err != nil {
		t.Fatal(err)
	}
	agent := run.Parts{station, admins}
	if err := agent.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Stop(context.Background()) })
	await(t, "a ready agent", func() bool { return strings.HasSuffix(get(t, admins, "/readyz"), "ok\n") })
	if got := get(t, admins, "/metrics"); !strings.Contains(got, "dragnet_channel_connected 1\n") {
		t.Error(got)
	}

	scanner := netip.MustParseAddr("10.1.0.5")
	b := report("a name that only people read")
	b.Persistent = []daw.Persistent{{Offender: daw.Offender{Addr: scanner, Failures: 300, Days: 7}, Next: time.Hour}}
	var policy daw.AgentPolicy
	blocked := func(want bool) bool {
		o, err := station.Exchange(t.Context(), b)
		b.Persistent = nil // it is in the spool, and will arrive
		if err != nil {
			return false
		}
		policy = o
		targets, most := active(o)
		return (len(targets) == 1 && targets[0] == "10.1.0.5/32" && most == 2) == want
	}
	await(t, "the block", func() bool { return blocked(true) })
	if policy.Scope == nil || policy.Scope.Sources[0].String() != "10.1.0.0/16" || len(policy.Decisions) != 2 {
		t.Errorf("policy %+v", policy)
	}
	for i := range policy.Decisions {
		b.Receipts = append(b.Receipts, dossier.Receipt{Version: 1, Decision: policy.Decisions[i].ID, Point: "guard edge-1", Time: currentTime(), Applied: true})
	}
	await(t, "the receipts", func() bool {
		blocked(true)
		got, err := d.Receipts(t.Context(), policy.Decisions[0].ID)
		return err == nil && len(got) == 1
	})
	if err := d.Stop(t.Context(), currentTime(), "ada", "enough"); err != nil {
		t.Fatal(err)
	}
	await(t, "the stop", func() bool { return blocked(false) })
}

// get returns what an admin server answers.
func get(t *testing.T, s *admin.Server, path string) string {
	t.Helper()
	_, text := testkit.Get(t, "http://"+s.Address()+path)
	return text
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 300 {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s did not come within 15 s", what)
}
