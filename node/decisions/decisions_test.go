package decisions_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/api"
	"dragnet/node/centre"
	"dragnet/node/decisions"
	"dragnet/wire/enrol"
	nodev1 "dragnet/wire/node/v1"
)

// serve serves a ledger on a Unix socket and over TLS, and returns it with the
// address of the socket and a client with a certificate of name and role.
func serve(t *testing.T) (l *ledger.Ledger, socket string, member func(name, role string) *api.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "decisions") // a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if l, err = ledger.Open(t.Context(), filepath.Join(dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	authority, err := enrol.OpenAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	c := api.DefaultConfiguration()
	c.Socket, c.Listen = filepath.Join(dir, "node.sock"), "127.0.0.1:0"
	s, err := api.New(c, api.Dependencies{
		Log: slog.New(slog.DiscardHandler), TLS: func() *tls.Config { return authority.ServerTLS([]string{"127.0.0.1"}) },
		Member: func(_ context.Context, c *x509.Certificate) (string, string, error) {
			return c.Subject.CommonName, c.Subject.OrganizationalUnit[0], nil
		},
		Services: decisions.NewServer(decisions.Dependencies{
			Ledger: l, Log: slog.New(slog.DiscardHandler),
			SetAside: func(_ context.Context, name string) (string, error) {
				if name != "worm" {
					return "", centre.ErrUnknown
				}
				return "aside-worm", nil
			},
		}).Services(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	member = func(name, role string) *api.Client {
		t.Helper()
		folder := t.TempDir()
		request, err := enrol.Request(folder)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := authority.Issue(request, name, role, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := enrol.Save(folder, enrol.Member{}, certificate.Raw, authority.Certificate()); err != nil {
			t.Fatal(err)
		}
		return dial(t, "https://"+s.Address(), folder)
	}
	return l, "unix://" + s.Socket(), member
}

func dial(t *testing.T, address, folder string) *api.Client {
	t.Helper()
	c, err := api.Dial(address, folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func wantCode(t *testing.T, what string, err error, want connect.Code, text string) {
	t.Helper()
	if connect.CodeOf(err) != want || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; want %v with %q", what, err, want, text)
	}
}

// TestALifeOverTheInterface: a block is proposed, approved and undone by three
// people, each of whom is recorded by what identifies them.
func TestALifeOverTheInterface(t *testing.T) {
	l, socket, member := serve(t)
	ctx := t.Context()
	rules := decide.DefaultConfiguration()
	rules.Enforce = true
	if err := l.Configure(ctx, flow.FromTime(time.Now()), rules, "configuration"); err != nil {
		t.Fatal(err)
	}
	local, alice := dial(t, socket, ""), member("alice", "operator")
	proposed, err := local.Decisions.ProposeDecision(ctx, &nodev1.ProposeDecisionRequest{Target: "203.0.113.17", Why: "it floods"})
	if err != nil || proposed.Decision.Verdict != "proposed" {
		t.Fatal(proposed, err)
	}
	id := proposed.Decision.Id
	if _, err := alice.Decisions.ApproveDecision(ctx, &nodev1.ApproveDecisionRequest{Id: id, Who: "bob"}); err == nil {
		t.Error("alice approved as bob")
	}
	if got, err := alice.Decisions.ApproveDecision(ctx, &nodev1.ApproveDecisionRequest{Id: id}); err != nil || got.Decision.Verdict != "active" {
		t.Fatal(got, err)
	}
	if _, err := local.Decisions.UndoDecision(ctx, &nodev1.UndoDecisionRequest{Id: id, Who: "carol", Why: "a mistake"}); err != nil {
		t.Fatal(err)
	}
	got, err := alice.Decisions.GetDecision(ctx, &nodev1.GetDecisionRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	var who []string
	for _, s := range got.Decision.Steps {
		who = append(who, s.Verdict+" by "+s.Who)
	}
	if diff := cmp.Diff([]string{"proposed by " + me.Username, "active by alice", "undone by carol"}, who); diff != "" {
		t.Errorf("the record (-want +got):\n%s", diff)
	}
	_, err = alice.Decisions.ApproveDecision(ctx, &nodev1.ApproveDecisionRequest{Id: id})
	wantCode(t, "approving what is undone", err, connect.CodeFailedPrecondition, "undone")
	_, err = alice.Decisions.GetDecision(ctx, &nodev1.GetDecisionRequest{Id: "NONE"})
	wantCode(t, "a decision that is not there", err, connect.CodeNotFound, "not found")
}

func TestOnlyOperatorsMayCall(t *testing.T) {
	_, _, member := serve(t)
	guard, ctx := member("edge-1", "guard"), t.Context()
	_, err := guard.Decisions.ListDecisions(ctx, &nodev1.ListDecisionsRequest{})
	wantCode(t, "a guard lists decisions", err, connect.CodePermissionDenied, "only operators")
	_, err = guard.Decisions.StopDecisions(ctx, &nodev1.StopDecisionsRequest{})
	wantCode(t, "a guard stops decisions", err, connect.CodePermissionDenied, "only operators")
	_, err = guard.Findings.ListFindings(ctx, &nodev1.ListFindingsRequest{})
	wantCode(t, "a guard lists findings", err, connect.CodePermissionDenied, "only operators")
}

// TestAllowListOverTheInterface: an entry ends a decision at once and refuses the
// next; its removal lets it through.
func TestAllowListOverTheInterface(t *testing.T) {
	_, socket, member := serve(t)
	c, ctx := member("alice", "operator").Decisions, t.Context()
	propose := func() *nodev1.ProposeDecisionResponse {
		t.Helper()
		got, err := c.ProposeDecision(ctx, &nodev1.ProposeDecisionRequest{Target: "203.0.113.17", Why: "it floods"})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := propose()
	added, err := c.AddAllowance(ctx, &nodev1.AddAllowanceRequest{Prefix: "203.0.113.0/24", Why: "customers of ours"})
	if err != nil || len(added.Ended) != 1 || added.Ended[0].Id != first.Decision.Id || added.Ended[0].Verdict != "undone" {
		t.Fatal(added, err)
	}
	if got := propose(); !strings.Contains(got.Refused, "allow list") || got.Decision.Verdict != "refused" {
		t.Errorf("against the entry: %v", got)
	}
	list, err := dial(t, socket, "").Decisions.ListAllowances(ctx, &nodev1.ListAllowancesRequest{})
	if err != nil || len(list.Allowances) != 1 || list.Allowances[0].Who != "alice" || list.Allowances[0].Until != nil {
		t.Errorf("the list: %v, %v", list, err)
	}
	if _, err := c.RemoveAllowance(ctx, &nodev1.RemoveAllowanceRequest{Prefix: "203.0.113.0/24"}); err != nil {
		t.Fatal(err)
	}
	if got := propose(); got.Refused != "" {
		t.Errorf("after the removal: %v", got)
	}
	for what, q := range map[string]*nodev1.AddAllowanceRequest{
		"no prefix": {Prefix: "all", Why: "x"}, "no reason": {Prefix: "192.0.2.1"}, "a long reason": {Prefix: "192.0.2.1", Why: strings.Repeat("x", 2000)},
	} {
		_, err := c.AddAllowance(ctx, q)
		wantCode(t, what, err, connect.CodeInvalidArgument, "")
	}
}

// TestFindingsSurviveTheTransport: what is read is what the ledger keeps.
func TestFindingsSurviveTheTransport(t *testing.T) {
	l, socket, _ := serve(t)
	p, at := 1e-9, flow.FromTime(time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC))
	f := dossier.Finding{
		Detector: "synchrony", Kind: "group", Host: flow.Host{Addr: netip.MustParseAddr("10.0.0.5"), Scope: "site"}, First: at, Last: at + 1,
		Unverified: true, Summary: "a\nline", Evidence: dossier.Evidence{
			Counts: map[string]uint64{"intervals": 9}, Thresholds: map[string]float64{"p": 1e-6}, Service: "tcp port 22",
			Flows: []dossier.FlowEvidence{{Time: at, Orig: netip.MustParseAddr("2001:db8::1"), Resp: netip.MustParseAddr("192.0.2.1"), Port: 65535, Proto: "tcp", State: "S0"}},
			Peers: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Times: []flow.Time{at}, P: &p,
		},
	}
	f.Identify("test")
	if _, err := l.AddFindings(t.Context(), []dossier.Finding{f}); err != nil {
		t.Fatal(err)
	}
	c := dial(t, socket, "").Findings
	got, err := c.GetFinding(t.Context(), &nodev1.GetFindingRequest{Id: f.ID})
	if err != nil {
		t.Fatal(err)
	}
	read, err := decisions.ReadFinding(got.Finding)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, read, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-kept +read):\n%s", diff)
	}
	// A proposal takes its target from a finding.
	d, err := dial(t, socket, "").Decisions.ProposeDecision(t.Context(), &nodev1.ProposeDecisionRequest{Findings: []string{f.ID}, Why: "it acts in a group"})
	if err != nil || d.Decision.Target != "10.0.0.5/32" || len(d.Decision.Findings) != 1 {
		t.Errorf("%v, %v", d, err)
	}
}

// TestResetOverTheInterface: a decision about a signature names the copy that was set
// aside, and its bound.
func TestResetOverTheInterface(t *testing.T) {
	_, socket, _ := serve(t)
	c := dial(t, socket, "").Decisions
	got, err := c.ProposeDecision(t.Context(), &nodev1.ProposeDecisionRequest{Signature: "worm", Most: 2, Why: "read it"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := decisions.ReadDecision(got.Decision)
	want := dossier.Standing{Rule: dossier.RuleReset, Most: 2, Signature: "aside-worm"}
	if err != nil || d.Standing == nil || *d.Standing != want || d.Target.Bits() != 0 || len(got.Warnings) != 1 {
		t.Errorf("%+v (%+v), warnings %q, %v; want %+v", d, d.Standing, got.Warnings, err, want)
	}
	_, err = c.ProposeDecision(t.Context(), &nodev1.ProposeDecisionRequest{Signature: "none", Why: "x"})
	wantCode(t, "a signature that is not there", err, connect.CodeNotFound, "")
}

func TestWhatANodeSendsIsChecked(t *testing.T) {
	if _, err := decisions.ReadFinding(&nodev1.Finding{Host: "nobody"}); err == nil {
		t.Error("a finding without a valid host was read")
	}
	if _, err := decisions.ReadDecision(&nodev1.Decision{Target: "10.0.0.0/99"}); err == nil {
		t.Error("a decision about no prefix was read")
	}
	if _, err := decisions.ReadDecision(nil); err == nil {
		t.Error("no decision was read")
	}
	if _, err := decisions.ReadAllowance(&nodev1.Allowance{}); err == nil {
		t.Error("an entry without prefix was read")
	}
}
