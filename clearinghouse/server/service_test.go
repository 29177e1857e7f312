package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/clearinghouse"
	"dragnet/clearinghouse/server"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/admin"
	"dragnet/internal/durable"
	"dragnet/internal/run"
	"dragnet/internal/testkit"
	"dragnet/wire/identity"
	client "dragnet/wire/reporting"
	reportingv1 "dragnet/wire/reporting/v1"
	"dragnet/wire/roster"
)

// community is a running clearinghouse with members a, b and w, of whom w may
// not report.
type community struct {
	testing.TB
	service *server.Service
	admin   *admin.Server
	config  server.Configuration
	key     *identity.Key
	members map[string]*identity.Key
	draft   roster.Roster
	bundle  *roster.Bundle

	publication clearinghouse.Configuration
	published   atomic.Int64 // batches handed to outputs
}

func generate(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCommunity(t testing.TB, change func(*server.Configuration)) *community {
	t.Helper()
	c := &community{TB: t, members: map[string]*identity.Key{}, config: server.DefaultConfiguration()}
	c.config.Directory, c.config.Listen = t.TempDir(), "127.0.0.1:0"
	if change != nil {
		change(&c.config)
	}
	var err error
	if c.key, err = identity.Create(c.config.KeyPath()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.draft = roster.Roster{Issued: now.Add(-time.Minute), Expires: now.Add(time.Hour), Servers: []identity.Public{c.key.Public()}}
	for _, name := range []string{"a", "b", "w"} {
		c.members[name] = generate(t)
		role := roster.Report
		if name == "w" {
			role = roster.Ask
		}
		c.draft.Members = append(c.draft.Members, roster.Member{Name: name, Class: "org:" + name, Roles: role, Keys: []roster.MemberKey{
			{Public: c.members[name].Public(), From: now.Add(-time.Hour), Until: now.Add(time.Hour)},
		}})
	}
	c.sign()
	c.publication = clearinghouse.DefaultConfiguration()
	c.publication.Batch = 200 * time.Hour // batches come when something is taken back, or when the test restarts
	log := slog.New(slog.DiscardHandler)
	if c.admin, err = admin.New(admin.Configuration{Listen: "127.0.0.1:0"}, "test", "test", log); err != nil {
		t.Fatal(err)
	}
	db := c.config.Database()
	if c.service, err = server.New(c.config, server.Dependencies{Publication: c.publication, Logger: log, DB: db, Admin: c.admin, Published: func() { c.published.Add(1) }}); err != nil {
		t.Fatal(err)
	}
	parts := run.Parts{db, c.service, c.admin}
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
	c.eventually("ready", func() bool { return c.get("/readyz") == "ok\n" })
	return c
}

// sign writes the roster's next version where the service looks.
func (c *community) sign() {
	c.Helper()
	var err error
	if c.bundle, err = roster.Sign(c.key, &c.draft, c.bundle); err != nil {
		c.Fatal(err)
	}
	data, err := c.bundle.MarshalBinary()
	if err != nil {
		c.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(c.config.Directory, "roster.bin"), data, 0o600); err != nil {
		c.Fatal(err)
	}
}

func (c *community) get(path string) string {
	c.Helper()
	_, text := testkit.Get(c, "http://"+c.admin.Address()+path)
	return text
}

func (c *community) eventually(what string, ok func() bool) {
	c.Helper()
	for range 400 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.Fatalf("not %s within 20 s", what)
}

func (c *community) dial(k *identity.Key) *client.Client {
	c.Helper()
	x, err := client.Dial("https://"+c.service.Address(), []identity.Public{c.key.Public()}, k)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(x.Close)
	return x
}

func report(pattern string, hosts ...string) *dossier.Report {
	now := flow.FromTime(time.Now())
	r := &dossier.Report{Pattern: pattern, Made: now, Until: now + flow.Time(time.Hour), Asked: 3}
	for _, h := range hosts {
		r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: netip.MustParseAddr(h), Witnesses: 2, First: now - 5, Last: now})
	}
	return r
}

func (c *community) submit(member, pattern string, hosts ...string) *reportingv1.Outcome {
	c.Helper()
	out, err := c.dial(c.members[member]).SubmitReports(c.Context(), report(pattern, hosts...))
	if err != nil || len(out) != 1 {
		c.Fatal(out, err)
	}
	return out[0]
}

func (c *community) listed() string {
	c.Helper()
	entries, _, err := c.dial(nil).ListEntries(c.Context(), nil, "", 0)
	if err != nil {
		c.Fatal(err)
	}
	var hosts []string
	for _, e := range entries {
		hosts = append(hosts, e.Host.String())
	}
	return strings.Join(hosts, " ")
}

// TestABatchOfTheOperatorReachesTheOutputs: one that another program published, such as
// when a report was voided.
func TestABatchOfTheOperatorReachesTheOutputs(t *testing.T) {
	c := newCommunity(t, nil)
	c.eventually("published", func() bool { return c.published.Load() > 0 })
	db := c.config.Database()
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	operator, err := clearinghouse.New(c.publication, clearinghouse.Dependencies{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	before := c.published.Load()
	if _, err := operator.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.eventually("handed on", func() bool { return c.published.Load() > before })
}

// TestService over TLS: who may write, what everybody may read, and what a new
// roster does while it runs.
func TestService(t *testing.T) {
	c := newCommunity(t, nil)
	if o := c.submit("a", "in dport=1433", "198.51.100.1", "2001:db8::1"); o.Status != reportingv1.Status_STATUS_ACCEPTED {
		t.Fatal(o)
	}
	theft := time.Now()
	o := c.submit("b", "in dport=1433", "198.51.100.1", "2001:db8::1")
	for name, k := range map[string]*identity.Key{"a stranger": generate(t), "a member who only asks": c.members["w"], "nobody": nil} {
		if k == nil {
			if _, err := c.dial(nil).SubmitReports(t.Context(), report("in dport=1", "198.51.100.9")); err == nil {
				t.Error("reported without a key")
			}
			continue
		}
		if _, err := c.dial(k).SubmitReports(t.Context(), report("in dport=1", "198.51.100.9")); connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	data, err := c.dial(nil).FetchRoster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k, err := roster.NewKeeper(c.key.Public(), roster.File(filepath.Join(t.TempDir(), "held")))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := k.Accept(data, time.Now()); err != nil || list.Version != 1 {
		t.Fatal(list, err)
	}
	// A key is revoked: what it reported since then goes, and a batch comes at once.
	old := c.bundle
	c.draft.Members[1].Keys[0].Revoked = theft.Add(-time.Second)
	c.sign()
	c.eventually("revoked", func() bool { return strings.Contains(c.get("/metrics"), "dragnet_clearinghouse_roster_version 2") })
	if _, err := c.dial(c.members["b"]).SubmitReports(t.Context(), report("in dport=2", "198.51.100.9")); connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("the revoked key: %v", err)
	}
	c.eventually("published without it", func() bool { return strings.Contains(c.get("/metrics"), "dragnet_clearinghouse_reports_live 1\n") })
	if err := c.dial(c.members["a"]).WithdrawReport(t.Context(), dossier.ReportID(o.Report), "not mine"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("another's report: %v", err)
	}
	// The version before is put back: nothing changes.
	rolled, err := old.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.config.Directory, "roster.bin"), rolled, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // longer than between two looks
	if !strings.Contains(c.get("/metrics"), "dragnet_clearinghouse_roster_version 2") || c.get("/readyz") != "ok\n" {
		t.Error("the roster was rolled back")
	}
	if metrics := c.get("/metrics"); strings.Contains(metrics, "127.0.0.1") || strings.Contains(metrics, "org:") {
		t.Error("metrics name a peer")
	}
	if c.listed() != "" {
		t.Errorf("listed %s", c.listed())
	}
}

// TestPublicMethods: salts, objections within bounds, and queries that make no
// sense.
func TestPublicMethods(t *testing.T) {
	c := newCommunity(t, func(x *server.Configuration) { x.ObjectionsPerMinute = 1 })
	reader := c.dial(nil)
	today := time.Now().UTC().Format(time.DateOnly)
	name, err := reader.Epoch(t.Context(), today)
	if err != nil || !strings.HasPrefix(name, today+".") {
		t.Errorf("epoch %q, %v", name, err)
	}
	if again, err := c.dial(c.members["a"]).Epoch(t.Context(), today); again != name || err != nil {
		t.Errorf("another reader gets %q, %v", again, err)
	}
	if salt := (clearinghouse.Epoch{Name: name}).Salt(key.Mask{DPort: true}); salt != key.OneShotSalt(key.Mask{DPort: true}, name) {
		t.Error("the salt does not follow from the name")
	}
	if _, err := reader.SubmitObjection(t.Context(), netip.MustParsePrefix("198.51.100.7/32"), "ours", ""); err != nil {
		t.Error(err)
	}
	crowded := 0
	for range 3 { // the minute may turn once
		if _, err := reader.SubmitObjection(t.Context(), netip.MustParsePrefix("198.51.100.8/32"), "ours", ""); connect.CodeOf(err) == connect.CodeResourceExhausted {
			crowded++
		}
	}
	if crowded < 1 {
		t.Error("objections are not bounded")
	}
	for _, s := range []*reportingv1.Selection{{Hosts: "everywhere"}, {Pattern: "in"}} {
		if _, _, err := reader.ListEntries(t.Context(), s, "", 0); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", s, err)
		}
	}
	if _, _, err := reader.ListGroups(t.Context(), nil, "cursor", 0); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("cursor: %v", err)
	}
	if _, err := client.Dial("https://"+c.service.Address(), []identity.Public{generate(t).Public()}, nil); err != nil {
		t.Fatal(err)
	}
	other, err := client.Dial("https://"+c.service.Address(), []identity.Public{generate(t).Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.FetchRoster(t.Context()); err == nil || !strings.Contains(err.Error(), "does not hold the key") {
		t.Errorf("a clearinghouse with another key: %v", err)
	}
}

// TestEmptyObjectionsBlockNobody: what is no objection uses up nothing.
func TestEmptyObjectionsBlockNobody(t *testing.T) {
	c := newCommunity(t, func(x *server.Configuration) { x.ObjectionsPerMinute = 3 })
	reader := c.dial(nil)
	for range 30 {
		if _, err := reader.SubmitObjection(t.Context(), netip.MustParsePrefix("198.51.100.7/32"), "", ""); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Fatalf("an empty objection: %v", err)
		}
	}
	if _, err := reader.SubmitObjection(t.Context(), netip.MustParsePrefix("198.51.100.7/32"), "ours", ""); err != nil {
		t.Errorf("an honest one after 30 empty ones: %v", err)
	}
}

// TestHostileRequests: too large, half sent, of the wrong kind; the service
// goes on.
func TestHostileRequests(t *testing.T) {
	c := newCommunity(t, func(x *server.Configuration) { x.Requests = 1 })
	config, err := identity.ClientTLS(c.members["a"], c.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	url := "https://" + c.service.Address() + "/dragnet.reporting.v1.ClearinghouseService/SubmitReports"
	post := func(kind string, body io.Reader) int {
		r, err := h.Post(url, kind, body)
		if err != nil {
			return 0 // cut
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	for _, x := range []struct {
		name, kind string
		body       io.Reader
		code       int
	}{
		{"nothing submitted", "application/proto", strings.NewReader(""), http.StatusOK},
		{"larger than the bound", "application/proto", bytes.NewReader(make([]byte, client.MaxRequest+4096)), http.StatusTooManyRequests},
		{"half a message", "application/proto", strings.NewReader("\x0a\xff\xff\xff\xff\x0f"), http.StatusBadRequest},
		{"text", "text/plain", strings.NewReader("hello"), http.StatusUnsupportedMediaType},
	} {
		if code := post(x.kind, x.body); code != x.code {
			t.Errorf("%s: status %d, want %d", x.name, code, x.code)
		}
	}
	// A caller that begins requests and never ends them keeps no other out.
	for range 40 {
		hold, release := io.Pipe()
		defer release.Close()
		go post("application/proto", hold)
	}
	time.Sleep(100 * time.Millisecond)
	if _, err := c.dial(nil).FetchRoster(t.Context()); err != nil {
		t.Errorf("beside requests that never end: %v", err)
	}
}

// FuzzRequests: no bytes sent to a method that anybody may call are answered
// with a failure of ours.
func FuzzRequests(f *testing.F) {
	c := newCommunity(f, nil)
	config, err := identity.ClientTLS(nil, c.key.Public())
	if err != nil {
		f.Fatal(err)
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	for _, m := range []proto.Message{
		&reportingv1.ListEntriesRequest{Selection: &reportingv1.Selection{Hosts: "198.51.100.0/24", Pattern: "in dport=1", Since: timestamppb.New(time.Unix(1, 0)), Before: timestamppb.New(time.Unix(2, 0))}, Cursor: "x", PageSize: 3},
		&reportingv1.ListSaltsRequest{Days: 3, Masks: [][]byte{{4, 32, 1}, {9}}},
		&reportingv1.ListChangesRequest{Host: "198.51.100.7", After: -1, PageSize: 1 << 31},
		&reportingv1.SubmitObjectionRequest{Prefix: "198.51.100.7/32", Reason: "x"},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, method := range []string{"ListEntries", "ListGroups", "ListChanges", "ListSalts", "SubmitObjection", "GetRoster"} {
			r, err := h.Post("https://"+c.service.Address()+"/dragnet.reporting.v1.ClearinghouseService/"+method, "application/proto", bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || r.StatusCode == http.StatusInternalServerError {
				t.Fatalf("%s: status %d, %s, %v", method, r.StatusCode, body, err)
			}
		}
	})
}

func TestConfiguration(t *testing.T) {
	for want, change := range map[string]func(*server.Configuration){
		"listen":   func(c *server.Configuration) { c.Listen = "somewhere" },
		"signer":   func(c *server.Configuration) { c.Signer = "me" },
		"requests": func(c *server.Configuration) { c.Requests = 0 },
	} {
		c := server.DefaultConfiguration()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	s, err := server.New(server.DefaultConfiguration(), server.Dependencies{Publication: clearinghouse.DefaultConfiguration()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "names no address") {
		t.Errorf("the defaults serve somebody: %v", err)
	}
}
