package enforcement

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"dragnet/contain/guard"
	"dragnet/daw"
	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/node/api"
	"dragnet/wire/channel"
	"dragnet/wire/enrol"
)

// served is a response whose agents are enrolled and come over TLS.
func served(t *testing.T, r *Response) (*agents.Registry, *api.Server) {
	t.Helper()
	dir := t.TempDir()
	db, err := state.Open(t.Context(), filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := enrol.OpenAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	registry, err := agents.Open(t.Context(), db, authority, r.Handlers(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	c := api.DefaultConfiguration()
	c.Socket, c.Listen = api.NoSocket, "127.0.0.1:0"
	server, err := api.New(c, api.Dependencies{Log: quiet, TLS: authority.ServerTLS(nil), Member: registry.Member, Services: []api.Service{registry.Service()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	return registry, server
}

// An enrolled guard has its persistent scanner judged and learns of the block,
// over the agents' channel.
func TestOrdersOverTheChannel(t *testing.T) {
	r, d := office(t, func(c *Configuration, _ *decide.Configuration) { c.Socket, c.Every = "", 100*time.Millisecond })
	registry, server := served(t, r)
	r.Documents = registry
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop(context.Background()) })
	token, err := registry.Token(t.Context(), "edge-1", "guard", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := channel.DefaultConfiguration()
	c.State = filepath.Join(t.TempDir(), "agent")
	if _, err := channel.Enrol(t.Context(), c.State, "https://"+server.Address(), token, channel.Applicant{Host: "host.example", Release: "0.1"}); err != nil {
		t.Fatal(err)
	}
	station, err := guard.NewChannel(c, "0.1", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := station.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { station.Stop(context.Background()) })

	scanner := netip.MustParseAddr("10.1.0.5")
	b := bulletin("a name that only people read")
	b.Persistent = []daw.Persistent{{Offender: daw.Offender{Addr: scanner, Failures: 300, Days: 7}, Next: time.Hour}}
	var orders daw.AgentPolicy
	blocked := func(want bool) bool {
		o, err := station.Exchange(t.Context(), b)
		b.Persistent = nil // it is in the spool, and will arrive
		if err != nil {
			return false
		}
		orders = o
		targets, most := active(o)
		return (len(targets) == 1 && targets[0] == "10.1.0.5/32" && most == 2) == want
	}
	await(t, "the block", func() bool { return blocked(true) })
	if orders.Scope == nil || orders.Scope.Sources[0].String() != "10.1.0.0/16" || len(orders.Decisions) != 2 {
		t.Errorf("orders %+v", orders)
	}
	for i := range orders.Decisions {
		b.Receipts = append(b.Receipts, dossier.Receipt{Version: 1, Decision: orders.Decisions[i].ID, Point: "guard edge-1", Time: clock(), Applied: true})
	}
	await(t, "the receipts", func() bool {
		blocked(true)
		got, err := d.Receipts(t.Context(), orders.Decisions[0].ID)
		return err == nil && len(got) == 1
	})
	if err := d.Stop(t.Context(), clock(), "ada", "enough"); err != nil {
		t.Fatal(err)
	}
	await(t, "the stop", func() bool { return blocked(false) })
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
