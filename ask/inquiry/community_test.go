package inquiry_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/ask/relay"
	"dragnet/ask/witness/endpoint"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/lab/incident"
	"dragnet/node/ingest"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// community is a clearinghouse's roster with two detectives, in a directory.
type community struct {
	testing.TB
	dir, roster           string
	clearing, ours, other *identity.Key
	book                  *inquiry.Book
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCommunity(t testing.TB) *community {
	c := &community{TB: t, dir: t.TempDir(), clearing: newKey(t), ours: newKey(t), other: newKey(t), book: &inquiry.Book{}}
	c.roster = filepath.Join(c.dir, "roster")
	r := &roster.Roster{Issued: time.Now(), Expires: time.Now().Add(time.Hour), Servers: []identity.Public{c.clearing.Public()}}
	for i, k := range []*identity.Key{c.ours, c.other} {
		r.Members = append(r.Members, roster.Member{
			Name: fmt.Sprintf("detective-%d", i), Class: fmt.Sprintf("org:%d", i), Roles: roster.Ask,
			Keys: []roster.MemberKey{{Public: k.Public(), From: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}},
		})
	}
	b, err := roster.Sign(c.clearing, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := b.MarshalBinary()
	if err == nil {
		err = os.WriteFile(c.rosterFile(), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// moveTo puts what witnesses keep into another directory; the roster stays.
func (c *community) moveTo(dir string) { c.dir = dir }

func (c *community) rosterFile() string { return c.roster }

var silence = slog.New(slog.NewTextHandler(io.Discard, nil))

// witness starts one; change may adjust its configuration.
func (c *community) witness(name string, log flow.Log, networks []netip.Prefix, change func(*endpoint.Configuration)) *endpoint.Service {
	c.Helper()
	dir := filepath.Join(c.dir, name)
	conf := endpoint.DefaultConfiguration()
	conf.Listen, conf.Key = "127.0.0.1:0", filepath.Join(dir, "key")
	conf.Roster = endpoint.RosterConfiguration{File: c.rosterFile(), Signer: c.clearing.Public().String()}
	conf.Policy.TooCommon, conf.Policy.EpochDays = 0, 36500
	conf.Policy.Independent, conf.Policy.Masks = 1, nil // one detective asks, about ports too
	if change != nil {
		change(&conf)
	}
	db := state.New(filepath.Join(dir, "state.db"))
	s, err := endpoint.New(conf, endpoint.Dependencies{
		Site: flow.Site{Name: name, Networks: networks}, Log: func() flow.Log { return log }, DB: db, Held: filepath.Join(dir, "roster.held"), Logger: silence,
	})
	parts := run.Parts{db, s}
	if err == nil {
		err = parts.Start(context.Background())
	}
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := parts.Stop(ctx); err != nil {
			c.Error(err)
		}
	})
	contact := inquiry.Contact{Name: name, Key: s.Key(), Organisation: name, Networks: networks}
	if a := s.Address(); a != "" {
		contact.URL = "https://" + a
	}
	c.book.Witnesses = append(c.book.Witnesses, contact)
	return s
}

// incident starts the four witnesses of the demo's incident.
func (c *community) incident(change func(*endpoint.Configuration)) incident.Truth {
	c.Helper()
	truth, err := incident.ReadTruth(incident.Captures())
	if err != nil {
		c.Fatal(err)
	}
	paths := c.unpacked()
	for _, o := range truth.Organisations {
		log, err := ingest.Open(paths[o.Name])
		if err != nil {
			c.Fatal(err)
		}
		c.witness(o.Name, log, o.Networks, change)
	}
	return truth
}

// unpacked are the incident's captures by organisation.
func (c *community) unpacked() map[string]string {
	c.Helper()
	paths, err := incident.Unpack(c.dir)
	if err != nil {
		c.Fatal(err)
	}
	return paths
}

// asks is the configuration of a detective that asks everybody.
func (c *community) asks(truth incident.Truth) (inquiry.Configuration, *pattern.Pattern) {
	c.Helper()
	p, err := pattern.Parse(truth.Pattern(), pattern.NoFiles)
	if err == nil {
		err = c.book.Validate()
	}
	if err != nil {
		c.Fatal(err)
	}
	conf := inquiry.DefaultConfiguration()
	conf.Key, conf.Book, conf.Selection = c.ours, c.book, inquiry.WitnessSelection{All: true}
	conf.Detective = detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 3}, Style: detective.Hybrid, Window: flow.AllTime,
		Epoch: truth.Recorded.UTC().Format(time.DateOnly), Quorum: 2, OwnWord: true,
	}
	return conf, p
}

// relay starts a relay on an address and returns its endpoint and how to stop
// it.
func (c *community) relay(address, file string, k *identity.Key) (exchange.Endpoint, func()) {
	c.Helper()
	db, err := state.Open(context.Background(), file)
	if err != nil {
		c.Fatal(err)
	}
	b, err := relay.NewMailboxes(db, relay.DefaultConfiguration())
	if err != nil {
		c.Fatal(err)
	}
	if err := b.Migrate(context.Background()); err != nil {
		c.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(relay.NewService(b, relay.Dependencies{Member: func(p identity.Public) (relay.Membership, bool) {
		return relay.Membership{Organisation: p.String(), Ask: true}, p == c.ours.Public() || p == c.other.Public()
	}, Log: silence}).Handler())
	s, err := exchange.Listen(address, k, mux, silence)
	if err != nil {
		c.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	stop := func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
		if err := <-served; err != nil {
			c.Error(err)
		}
		db.Close()
	}
	return exchange.Endpoint{URL: "https://" + s.Address(), Key: k.Public()}, stop
}
