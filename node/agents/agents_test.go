package agents

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/node/api"
	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/channel"
	"dragnet/wire/enrol"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// node is a registry that is served, whose handler of "test.number" keeps what
// it gets in a separate table.
type node struct {
	*Registry
	server *api.Server
	db     *state.DB
}

func (n *node) url() string { return "https://" + n.server.Address() }

var numbers = map[string]Handler{"test.number": {Roles: []string{"guard"}, Handle: func(_ context.Context, tx *state.Tx, from From, item *agentv1.Item) error {
	n, err := strconv.ParseInt(string(item.Body), 10, 64)
	if _, e := tx.Exec(`INSERT INTO test_number (member, n) VALUES (?, ?)`, from.Name, n); e != nil {
		return e
	}
	if err != nil {
		return Refuse(err)
	}
	return nil
}}}

func startNode(t testing.TB, dir, listen string) *node {
	t.Helper()
	n, err := newNode(dir, listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

func newNode(dir, listen string) (*node, error) {
	return newNodeOn(filepath.Join(dir, "state.db"), dir, listen)
}

var numberTable = fstest.MapFS{"0001-number.sql": {Data: []byte(`CREATE TABLE test_number (id ROWKEY, member TEXT NOT NULL, n BIGINT NOT NULL)`)}}

func newNodeOn(address, dir, listen string) (*node, error) {
	ctx := context.Background()
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "test", numberTable); err != nil {
		return nil, err
	}
	r := New(Dependencies{DB: db, Authority: filepath.Join(dir, "authority"), Log: quiet()})
	for kind, h := range numbers {
		r.Handle(kind, h)
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	c := api.DefaultConfiguration()
	c.Socket, c.Listen = api.NoSocket, listen
	server, err := api.New(c, api.Dependencies{Log: quiet(), TLS: r.ServerTLS(nil), Member: r.FindMember, Services: []api.Service{r.Service()}})
	if err != nil {
		return nil, err
	}
	return &node{r, server, db}, server.Start(ctx)
}

func (n *node) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = n.server.Stop(ctx)
	_ = n.Registry.Stop(ctx)
	_ = n.db.Close()
}

// kept are the numbers that arrived, in order of arrival.
func (n *node) kept(t testing.TB) (out []int) {
	t.Helper()
	if err := n.db.View(t.Context(), func(tx *state.Tx) error {
		out = nil
		return tx.Each(func(r *sql.Rows) error {
			var i int
			err := r.Scan(&i)
			out = append(out, i)
			return err
		}, `SELECT n FROM test_number ORDER BY id`)
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func (n *node) member(t testing.TB, name string) MemberStatus {
	t.Helper()
	all, err := n.ListMembers(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("%s is not among the members %v", name, all)
	return MemberStatus{}
}

// enrolled is the folder of a new guard.
func enrolled(t testing.TB, n *node, name string) string {
	t.Helper()
	token, err := n.NewToken(t.Context(), name, "guard", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	if _, err := channel.Enrol(t.Context(), dir, n.url(), token, channel.Applicant{Host: "host.example", Release: "0.1", Role: "guard"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// agent is a running client, and the configuration it received.
type agent struct {
	*channel.Client
	applied chan string
}

func startAgent(t testing.TB, dir string) *agent {
	t.Helper()
	a := &agent{applied: make(chan string, 100)}
	c := channel.DefaultConfiguration()
	c.State = dir
	var err error
	a.Client, err = channel.New(c, channel.Dependencies{Log: quiet(), Role: "guard", Release: "0.1", Apply: func(_ context.Context, d channel.Document) error {
		if strings.HasPrefix(string(d.Body), "bad") {
			return errors.New("there is no such setting")
		}
		a.applied <- string(d.Body)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) send(t testing.TB, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := a.Send(channel.Item{Kind: "test.number", Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func stop(t testing.TB, a *agent) {
	t.Helper()
	if err := a.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// within waits until ok, and fails the test after half a minute.
func within(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited half a minute for %s", what)
		}
	}
}

func isTold(t testing.TB, a *agent, want string) {
	t.Helper()
	select {
	case got := <-a.applied:
		if got != want {
			t.Errorf("the agent was given %q, want %q", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the agent was not given %q", want)
	}
}

func sequence(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func TestATokenIsForOnce(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	ctx := t.Context()
	token, err := n.NewToken(ctx, "edge-1", "guard", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	redeem := func(dir string) error {
		_, err := channel.Enrol(ctx, dir, n.url(), token, channel.Applicant{Host: "h\x00st", Release: "0.1"})
		return err
	}
	first := filepath.Join(t.TempDir(), "first")
	if _, err := channel.Enrol(ctx, first, n.url(), token, channel.Applicant{Role: "trap"}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("redeemed for another role: %v", err)
	}
	if err := redeem(first); err != nil {
		t.Fatal(err)
	}
	if err := redeem(filepath.Join(t.TempDir(), "second")); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("redeemed by another key: %v", err)
	}
	if err := redeem(first); err == nil || !strings.Contains(err.Error(), "holds an enrolment already") {
		t.Errorf("redeemed into the same folder: %v", err)
	}
	if m := n.member(t, "edge-1"); m.Role != "guard" || m.Host != "h st" || m.Program != "0.1" || m.Enrolled.IsZero() || m.Until.IsZero() {
		t.Errorf("%+v", m)
	}
	if _, err := n.NewToken(ctx, "edge-1", "guard", time.Hour); !errors.Is(err, ErrWrong) {
		t.Errorf("a token for a name that is taken: %v", err)
	}
	for _, c := range []struct {
		name, role string
		life       time.Duration
	}{{"Edge", "guard", time.Hour}, {"e", "king", time.Hour}, {"e", "guard", 0}, {"e", "guard", 1e6 * time.Hour}} {
		if _, err := n.NewToken(ctx, c.name, c.role, c.life); !errors.Is(err, ErrWrong) {
			t.Errorf("%v: %v", c, err)
		}
	}
	late, err := n.NewToken(ctx, "edge-2", "guard", time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := channel.Enrol(ctx, filepath.Join(t.TempDir(), "late"), n.url(), late, channel.Applicant{}); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a token that has ended: %v", err)
	}
	var made enrol.Token
	made.Pin = token.Pin
	if _, err := channel.Enrol(ctx, filepath.Join(t.TempDir(), "made"), n.url(), made, channel.Applicant{}); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a token that was never issued: %v", err)
	}
}

// TestALostAnswerCanBeAskedForAgain: the agent was killed after the node had
// enrolled it.
func TestALostAnswerCanBeAskedForAgain(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	token, err := n.NewToken(t.Context(), "edge-1", "guard", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "edge-1")
	request, err := enrol.Request(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := token.Digest()
	if _, err := n.redeemToken(t.Context(), fmt.Sprintf("%x", digest), request, applicant{}); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.Enrol(t.Context(), dir, n.url(), token, channel.Applicant{}); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, dir)
	defer stop(t, a)
	within(t, "the channel", func() bool { return a.Status().Connected })
	// Now the token is useless, even with the key.
	if _, err := n.redeemToken(t.Context(), fmt.Sprintf("%x", digest), request, applicant{}); !errors.Is(err, ErrToken) {
		t.Errorf("redeemed after it was used: %v", err)
	}
}

func TestItemsArriveOnceAndInOrder(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, dir, "127.0.0.1:0")
	address := n.server.Address()
	folder := enrolled(t, n, "edge-1")
	a := startAgent(t, folder)
	a.send(t, 0, 100)
	within(t, "100 items", func() bool { return len(n.kept(t)) == 100 })
	n.close() // the node is away
	a.send(t, 100, 200)
	stop(t, a)
	a = startAgent(t, folder)
	defer func() { stop(t, a) }()
	if s := a.Status(); s.Connected || s.Waiting == 0 {
		t.Errorf("%+v", s)
	}
	a.send(t, 200, 250)
	n = startNode(t, dir, address)
	within(t, "250 items", func() bool { return len(n.kept(t)) >= 250 })
	if diff := cmp.Diff(sequence(0, 250), n.kept(t)); diff != "" {
		t.Error(diff)
	}
	if m := n.member(t, "edge-1"); m.Received != 250 || m.Refused != 0 || m.Missed != 0 {
		t.Errorf("%+v", m)
	}
}

func TestWhatIsOfNoUseHoldsUpNothing(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { noUse(t, filepath.Join(t.TempDir(), "state.db")) })
	t.Run("postgres", func(t *testing.T) { noUse(t, testkit.Postgres(t)) })
}

// noUse sends an item that its handler refuses, one of a kind unknown here, as
// of a newer agent, and one that another role may send.
func noUse(t *testing.T, address string) {
	n, err := newNodeOn(address, t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	n.handlers["test.trap"] = Handler{Roles: []string{"trap"}}
	a := startAgent(t, enrolled(t, n, "edge-1"))
	defer stop(t, a)
	err = a.Send(
		channel.Item{Kind: "test.number", Body: []byte("1")},
		channel.Item{Kind: "test.number", Body: []byte("no number")},
		channel.Item{Kind: "test.future", Format: 7, Body: []byte("2")},
		channel.Item{Kind: "test.trap", Body: []byte("2")},
		channel.Item{Kind: "test.number", Body: []byte("3")},
	)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the last item", func() bool { return n.member(t, "edge-1").Received == 2 })
	if diff := cmp.Diff([]int{1, 3}, n.kept(t)); diff != "" {
		t.Error(diff)
	}
	if m := n.member(t, "edge-1"); m.Refused != 3 {
		t.Errorf("%+v", m)
	}
	within(t, "an empty spool", func() bool { return a.Status().Waiting == 0 })
	if err := a.Send(channel.Item{Kind: "test.number", Body: make([]byte, channel.MaxBody+1)}); err == nil {
		t.Error("an item larger than any node takes was accepted")
	}
	if _, err := n.Configure(t.Context(), "guard", "edge-1", 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	isTold(t, a, "one")
	if err := n.Revoke(t.Context(), "edge-1"); err != nil {
		t.Fatal(err)
	}
}

func TestConfiguration(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, dir, "127.0.0.1:0")
	address, ctx := n.server.Address(), t.Context()
	folder := enrolled(t, n, "edge-1")
	a := startAgent(t, folder)
	set := func(role, name, body string) string {
		t.Helper()
		v, err := n.Configure(ctx, role, name, 1, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v1 := set("guard", "", "one")
	isTold(t, a, "one")
	set("trap", "", "not for guards")
	v2 := set("guard", "edge-1", "two")
	isTold(t, a, "two")
	set("guard", "", "three") // edge-1 has its own
	bad := set("guard", "edge-1", "bad")
	within(t, "the complaint", func() bool { return n.member(t, "edge-1").Problem == bad+": there is no such setting" })
	if m := n.member(t, "edge-1"); m.Configuration != v2 || v1 == v2 {
		t.Errorf("after a bad configuration: %+v", m)
	}
	n.close()
	stop(t, a)
	a = startAgent(t, folder)
	isTold(t, a, "two") // from disk; the node is away
	if s := a.Status(); s.Version != v2 || s.Connected {
		t.Errorf("%+v", s)
	}
	n = startNode(t, dir, address)
	set("guard", "edge-1", "four")
	isTold(t, a, "four")
	// Another program sets it in the same tables.
	db, err := state.Open(ctx, filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	other := New(Dependencies{DB: db, Authority: filepath.Join(dir, "authority"), Log: quiet()})
	if _, err := other.Configure(ctx, "guard", "edge-1", 1, []byte("five")); err != nil {
		t.Fatal(err)
	}
	isTold(t, a, "five")
	stop(t, a)
	if len(a.applied) != 0 {
		t.Errorf("the agent was also given %q", <-a.applied)
	}
	for _, c := range [][2]string{{"king", ""}, {"guard", "edge-9"}, {"trap", "edge-1"}} {
		if _, err := n.Configure(ctx, c[0], c[1], 1, nil); err == nil {
			t.Errorf("set a configuration for %q", c)
		}
	}
}

func TestRevocation(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	folder := enrolled(t, n, "edge-1")
	a := startAgent(t, folder)
	defer func() { stop(t, a) }()
	within(t, "the channel", func() bool { return a.Status().Connected })
	if err := n.Revoke(t.Context(), "edge-1"); err != nil {
		t.Fatal(err)
	}
	a.send(t, 0, 10)
	n.wakeWaiters() // ends the wait for a configuration
	within(t, "refusal", func() bool { return strings.Contains(a.Status().Problem, "revoked") })
	if len(n.kept(t)) != 0 || n.member(t, "edge-1").Revoked.IsZero() {
		t.Errorf("%v of a revoked agent were kept", n.kept(t))
	}
	if err := n.Revoke(t.Context(), "edge-1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoked twice: %v", err)
	}
	// The name can be used again, and what belonged to the old agent does not
	// come back.
	b := startAgent(t, enrolled(t, n, "edge-1"))
	defer func() { stop(t, b) }()
	b.send(t, 100, 101)
	within(t, "the new agent's item", func() bool { return len(n.kept(t)) == 1 })
	if m := n.member(t, "edge-1"); m.Received != 1 || !m.Revoked.IsZero() {
		t.Errorf("%+v", m)
	}
	if err := n.Revoke(t.Context(), "nobody"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	unused, err := n.NewToken(t.Context(), "edge-3", "guard", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Revoke(t.Context(), "edge-3"); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.Enrol(t.Context(), filepath.Join(t.TempDir(), "x"), n.url(), unused, channel.Applicant{}); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a token that was revoked: %v", err)
	}
}

// TestRenewal gives out certificates that are due at once.
func TestRenewal(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	n.life = -30 * time.Minute // reaching back an hour, it ended half an hour ago
	folder := enrolled(t, n, "edge-1")
	if _, err := channel.Enrol(t.Context(), folder, n.url(), enrol.Token{}, channel.Applicant{}); err == nil {
		t.Error("enrolled twice")
	}
	n.life = 10 * time.Minute // due 23 minutes before it ends, so at once
	folder = enrolled(t, n, "edge-2")
	first, err := enrol.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	n.life = 90 * 24 * time.Hour
	a := startAgent(t, folder)
	defer stop(t, a)
	within(t, "renewal", func() bool { return time.Until(a.Status().Until) > time.Hour })
	a.send(t, 0, 10)
	within(t, "items", func() bool { return len(n.kept(t)) == 10 })
	// The first use of the new certificate has ended the old one.
	within(t, "the end of the old certificate", func() bool {
		own, err := first.ClientTLS().GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = n.FindMember(t.Context(), own.Leaf)
		return errors.Is(err, ErrRevoked)
	})
	if m := n.member(t, "edge-2"); time.Until(m.Until) < time.Hour {
		t.Errorf("%+v", m)
	}
}

func TestStartSays(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	c := channel.DefaultConfiguration()
	c.State = t.TempDir()
	a, err := channel.New(c, channel.Dependencies{Log: quiet(), Role: "guard"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); !errors.Is(err, enrol.ErrNotEnrolled) {
		t.Error(err)
	}
	c.State = enrolled(t, n, "edge-1")
	if a, err = channel.New(c, channel.Dependencies{Log: quiet(), Role: "trap"}); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "enrolled as guard") {
		t.Error(err)
	}
	for _, u := range []string{"", "node:9121", "http://node:9121", "https://u@node", "https://node/path"} {
		if err := channel.CheckNode(u); err == nil {
			t.Errorf("%q passes for a node's address", u)
		}
	}
}
