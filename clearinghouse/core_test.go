package clearinghouse_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/roster"
)

const (
	scan  = "in src=203.0.113.5 dport=1433"
	fetch = "out dst=198.51.100.7 dport=69 proto=udp"
)

// community is a clearinghouse with a roster and members, and a clock that is set.
type community struct {
	testing.TB
	allow   *flow.AllowList
	core    *clearinghouse.Core
	db      *state.DB
	clock   time.Time
	key     *identity.Key
	bundle  *roster.Bundle
	draft   roster.Roster
	list    *roster.Held
	members map[string]*identity.Key
}

// Current is that of clearinghouse.Roster.
func (c *community) Current(now time.Time) (*roster.Held, error) {
	if now.After(c.list.Expires) {
		return nil, roster.ErrExpired
	}
	return c.list, nil
}

func generate(t testing.TB) *identity.Key {
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var start = time.Date(2026, 3, 1, 12, 34, 56, 0, time.UTC)

// newCommunity begins a community with the allow list that everybody has.
func newCommunity(t testing.TB, address string, change func(*clearinghouse.Configuration)) *community {
	t.Helper()
	return foundWith(t, address, nil, change)
}

// foundWith begins a community of members a to e, who may report, and w, who may
// not.
func foundWith(t testing.TB, address string, allow *flow.AllowList, change func(*clearinghouse.Configuration)) *community {
	t.Helper()
	c := &community{TB: t, allow: allow, clock: start, key: generate(t), members: map[string]*identity.Key{}}
	c.draft = roster.Roster{Issued: start, Expires: start.Add(300 * 24 * time.Hour), Servers: []identity.Public{c.key.Public()}}
	for _, name := range []string{"a", "b", "c", "d", "e", "w"} {
		c.members[name] = generate(t)
		role := roster.Report
		if name == "w" {
			role = roster.Witness
		}
		c.draft.Members = append(c.draft.Members, roster.Member{Name: name, Class: "org:" + name, Roles: role, Keys: []roster.MemberKey{
			{Public: c.members[name].Public(), From: start.Add(-time.Hour), Until: start.Add(1000 * time.Hour)},
		}})
	}
	c.sign()
	c.open(address, change)
	return c
}

func (c *community) sign() {
	c.Helper()
	var err error
	if c.bundle, err = roster.Sign(c.key, &c.draft, c.bundle); err != nil {
		c.Fatal(err)
	}
	if c.list, err = c.bundle.Open(c.key.Public()); err != nil {
		c.Fatal(err)
	}
}

func (c *community) open(address string, change func(*clearinghouse.Configuration)) {
	c.Helper()
	var err error
	if c.db, err = state.Open(context.Background(), address); err != nil {
		c.Fatal(err)
	}
	config := clearinghouse.DefaultConfiguration()
	config.Shared = 2
	if change != nil {
		change(&config)
	}
	c.core, err = clearinghouse.New(config, clearinghouse.Dependencies{
		DB: c.db, Roster: c, Own: []identity.ID{c.key.ID()}, Allow: c.allow, Now: func() time.Time { return c.clock },
	})
	if err != nil {
		c.Fatal(err)
	}
	if err := c.core.Start(context.Background()); err != nil {
		c.Fatal(err)
	}
	core, db := c.core, c.db
	c.Cleanup(func() {
		if err := core.Stop(context.Background()); err != nil {
			c.Error(err)
		}
		db.Close()
	})
}

func hosts(last ...int) (out []netip.Addr) {
	for _, n := range last {
		out = append(out, netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}))
	}
	return out
}

func (c *community) report(pattern string, named ...netip.Addr) *dossier.Report {
	now := flow.FromTime(c.clock)
	r := &dossier.Report{Pattern: pattern, Disclose: true, Made: now, Until: now + flow.Time(48*time.Hour), Asked: 5}
	for _, h := range named {
		r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: h, Witnesses: 3, First: now - flow.Time(time.Hour), Last: now})
	}
	return r
}

func (c *community) seal(member string, kind string, body interface{ MarshalBinary() ([]byte, error) }) []byte {
	c.Helper()
	b, err := body.MarshalBinary()
	if err != nil {
		c.Fatal(err)
	}
	return c.wrap(c.members[member], envelope.Header{Kind: kind, To: c.key.ID(), Issued: c.clock, Expires: c.clock.Add(time.Hour)}, b)
}

func (c *community) wrap(k *identity.Key, h envelope.Header, body []byte) []byte {
	c.Helper()
	sealed, err := envelope.Seal(k, h, body)
	if err != nil {
		c.Fatal(err)
	}
	return sealed
}

// submitReport submits a report and wants it accepted.
func (c *community) submitReport(member string, r *dossier.Report) dossier.ReportID {
	c.Helper()
	out, err := c.core.Submit(context.Background(), [][]byte{c.seal(member, reporting.ReportKind, r)})
	if err != nil || out[0].Status != clearinghouse.Accepted {
		c.Fatalf("%s: %v, %+v", member, err, out)
	}
	return out[0].Report
}

func (c *community) publish() clearinghouse.Published {
	c.Helper()
	p, err := c.core.Publish(context.Background())
	if err != nil {
		c.Fatal(err)
	}
	return p
}

// listed is what is published of a query, as "host group".
func (c *community) listed(q clearinghouse.EntryQuery) (out []string) {
	c.Helper()
	at := ""
	for {
		page, next, err := c.core.Entries(context.Background(), q, at, 2)
		if err != nil {
			c.Fatal(err)
		}
		for _, e := range page {
			out = append(out, e.Host.String())
		}
		if at = next; at == "" {
			return out
		}
	}
}

func (c *community) want(q clearinghouse.EntryQuery, hosts ...string) {
	c.Helper()
	if diff := cmp.Diff(hosts, c.listed(q), cmpopts.EquateEmpty()); diff != "" {
		c.Error(diff)
	}
}

// TestUninvitedDoNotWrite: a made-up invitation is refused while another transaction
// writes.
func TestUninvitedDoNotWrite(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		c := newCommunity(t, address, nil)
		err := c.db.Update(t.Context(), func(*state.Tx) error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, _, err := c.core.Join(ctx, [16]byte{1}, c.members["w"].Public())
			return err
		})
		if !errors.Is(err, clearinghouse.ErrInvitation) {
			t.Errorf("%v", err)
		}
	})
}

// TestDamagedReportIsLeftOut: the others are published without it.
func TestDamagedReportIsLeftOut(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		c := newCommunity(t, address, nil)
		for _, member := range []string{"a", "b", "c"} {
			c.submitReport(member, c.report(scan, hosts(1, 2)...))
		}
		if err := c.db.Update(t.Context(), func(tx *state.Tx) error {
			_, err := tx.Exec(`UPDATE clearinghouse_report SET body = ? WHERE class = ?`, []byte{1, 2, 3}, "org:c")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if p := c.publish(); p.Damaged != 1 || p.Entries != 2 {
			t.Errorf("%+v", p)
		}
	})
}

func onBoth(t *testing.T, f func(t *testing.T, address string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "state.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, testkit.Postgres(t)) })
}

// TestLife of a group: reported, published, queried, withdrawn, lapsed; with a
// restart between.
func TestLife(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		c := newCommunity(t, address, nil)
		c.submitReport("a", c.report(scan, hosts(1, 2, 3)...))
		if p := c.publish(); p.Entries != 0 || p.Reports != 1 {
			t.Errorf("one source: %+v", p)
		}
		withdrawn := c.submitReport("b", c.report(scan, hosts(1, 2, 4)...))
		six := netip.MustParseAddr("2001:db8::7")
		c.submitReport("c", c.report(fetch, append(hosts(1, 2), six)...))
		hidden := c.report(fetch, append(hosts(1, 2), six)...)
		hidden.Disclose = false
		c.submitReport("d", hidden)
		if p := c.publish(); p.Listed != 3 || p.Groups != 1 {
			t.Errorf("first batch: %+v", p)
		}
		c.want(clearinghouse.EntryQuery{}, "198.51.100.1", "198.51.100.2", "2001:db8::7")
		c.want(clearinghouse.EntryQuery{Hosts: netip.MustParsePrefix("198.51.100.2/31")}, "198.51.100.2")
		c.want(clearinghouse.EntryQuery{Hosts: netip.MustParsePrefix("2001:db8::/32")}, "2001:db8::7")
		c.want(clearinghouse.EntryQuery{Hosts: netip.MustParsePrefix("203.0.113.0/24")})
		c.want(clearinghouse.EntryQuery{Pattern: "IN dport=1433 src=203.0.113.5/32"}, "198.51.100.1", "198.51.100.2", "2001:db8::7")
		c.want(clearinghouse.EntryQuery{Pattern: "in dport=9"})
		c.want(clearinghouse.EntryQuery{Before: flow.FromTime(start.Add(-time.Hour))})
		c.want(clearinghouse.EntryQuery{MinConfidence: 90}) // all have three witnesses
		groups, next, err := c.core.Groups(t.Context(), clearinghouse.EntryQuery{Hosts: netip.MustParsePrefix("198.51.100.0/24")}, "", 0)
		if err != nil || next != "" || len(groups) != 1 {
			t.Fatalf("groups %+v, %q, %v", groups, next, err)
		}
		hour := flow.FromTime(start.Truncate(time.Hour))
		want := dossier.Group{
			Version: 1, ID: groups[0].ID, Patterns: []string{scan}, Undisclosed: 1, Hosts: 3, First: hour - flow.Time(time.Hour), Last: hour,
			Sources: 3, Confidence: 85, Updated: hour,
		}
		if diff := cmp.Diff(want, groups[0]); diff != "" {
			t.Error(diff)
		}
		c.want(clearinghouse.EntryQuery{Group: groups[0].ID, Since: hour}, "198.51.100.1", "198.51.100.2", "2001:db8::7")

		c.clock = c.clock.Add(time.Hour)
		if p := c.publish(); p.Listed+p.Updated+p.Removed != 0 {
			t.Errorf("nothing new: %+v", p)
		}
		w := &dossier.Withdrawal{Report: withdrawn, Why: "was wrong"}
		if ok, err := c.core.Withdraw(t.Context(), c.seal("a", reporting.WithdrawalKind, w)); ok || err != nil {
			t.Errorf("another's report was withdrawn: %v, %v", ok, err)
		}
		if ok, err := c.core.Withdraw(t.Context(), c.seal("b", reporting.WithdrawalKind, w)); !ok || err != nil {
			t.Errorf("withdraw: %v, %v", ok, err)
		}
		c.open(address, func(x *clearinghouse.Configuration) {}) // a second program on the same tables
		if p := c.publish(); p.Updated != 2 || p.Groups != 1 {
			t.Errorf("after the withdrawal: %+v", p)
		}
		changes, err := c.core.Changes(t.Context(), hosts(1)[0], 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, x := range changes {
			kinds = append(kinds, fmt.Sprint(x.Kind, " ", x.Entry.Sources))
		}
		if diff := cmp.Diff([]string{"listed 3", "updated 2"}, kinds); diff != "" {
			t.Error(diff)
		}
		c.clock = c.clock.Add(48 * time.Hour)
		c.want(clearinghouse.EntryQuery{}) // lapsed, before any batch
		if p := c.publish(); p.Removed != 3 || p.Groups != 0 {
			t.Errorf("after all lapsed: %+v", p)
		}
		later, err := c.core.Changes(t.Context(), netip.Addr{}, changes[1].Sequence, 2)
		if err != nil || len(later) != 2 {
			t.Errorf("changes after: %+v, %v", later, err)
		}
	})
}

// TestRefused: what is not a fresh report of a member is told why, and the rest
// of the submission is taken.
func TestRefused(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), func(x *clearinghouse.Configuration) { x.ReportsPerDay = 3 })
	good := c.report(scan, hosts(1)...)
	body, err := good.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	header := envelope.Header{Kind: reporting.ReportKind, To: c.key.ID(), Issued: c.clock, Expires: c.clock.Add(time.Hour)}
	with := func(change func(*envelope.Header)) []byte {
		h := header
		change(&h)
		return c.wrap(c.members["a"], h, body)
	}
	lapsed, future := c.report(scan, hosts(1)...), c.report(scan, hosts(1)...)
	lapsed.Made, lapsed.Until = lapsed.Made-flow.Time(time.Hour), lapsed.Made-1
	future.Made = future.Made + flow.Time(time.Hour)
	forged := with(func(*envelope.Header) {})
	forged[len(forged)-1] ^= 1
	fine := with(func(*envelope.Header) {})
	tests := []struct {
		name   string
		sealed []byte
		want   string
	}{
		{"first", fine, "accepted"},
		{"the same envelope again", fine, "known"},
		{"the same report in another envelope", with(func(*envelope.Header) {}), "known"},
		{"over the day's budget", c.seal("a", reporting.ReportKind, c.report(fetch, hosts(1)...)), "used up"},
		{"half sent", fine[:len(fine)/2], "malformed"},
		{"oversized", append(fine, make([]byte, dossier.MaxReport)...), "malformed"},
		{"nothing", nil, "malformed"},
		{"forged", forged, "signature is wrong"},
		{"no member", c.wrap(generate(t), header, body), "not on the roster"},
		{"a witness only", c.seal("w", reporting.ReportKind, good), "may not do this"},
		{"to another clearinghouse", with(func(h *envelope.Header) { h.To = generate(t).ID() }), "addressed to another key"},
		{"to everybody", with(func(h *envelope.Header) { h.To = identity.ID{} }), "addressed to another key"},
		{"expired", with(func(h *envelope.Header) { h.Issued, h.Expires = start.Add(-2*time.Hour), start.Add(-time.Hour) }), "expired"},
		{"a clock that is ahead", with(func(h *envelope.Header) { h.Issued = start.Add(10 * time.Minute) }), "in the future"},
		{"too long a life", with(func(h *envelope.Header) { h.Expires = h.Issued.Add(48 * time.Hour) }), "at most 24h"},
		{"another kind", with(func(h *envelope.Header) { h.Kind = "question" }), "of another kind"},
		{"garbage inside", c.wrap(c.members["b"], header, []byte("garbage")), "version"},
		{"lapsed report", c.seal("b", reporting.ReportKind, lapsed), "lapsed"},
		{"report from the future", c.seal("b", reporting.ReportKind, future), "lapsed"},
		{"another member's own", c.seal("b", reporting.ReportKind, good), "accepted"},
	}
	var all [][]byte
	for _, x := range tests {
		all = append(all, x.sealed)
	}
	out, err := c.core.Submit(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range tests {
		if got := fmt.Sprint(out[i].Status, " ", out[i].Reason); !strings.Contains(got, x.want) {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
	}
	if _, err := c.core.Submit(t.Context(), make([][]byte, reporting.MaxSubmitted+1)); err == nil {
		t.Error("too many envelopes at once were looked at")
	}
	if p := c.publish(); p.Reports != 2 {
		t.Errorf("%d reports are stored, want 2", p.Reports)
	}
	c.clock = c.draft.Expires.Add(time.Hour)
	if out, err := c.core.Submit(t.Context(), [][]byte{fine}); err != nil || !strings.Contains(out[0].Reason, "has expired") {
		t.Errorf("under an expired roster: %+v, %v", out, err)
	}
}

// TestRevoke: what a stolen key reported is void, from the time of the theft,
// and a withdrawn report stays withdrawn when it is sent again.
// TestTheSameReportUsesUpNothing: who sends one again after a lost answer may send others
// that day.
func TestTheSameReportUsesUpNothing(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), func(x *clearinghouse.Configuration) { x.ReportsPerDay = 3 })
	first := c.report(scan, hosts(1)...)
	submit := func(r *dossier.Report) clearinghouse.Outcome {
		out, err := c.core.Submit(t.Context(), [][]byte{c.seal("a", reporting.ReportKind, r)})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	for range 10 {
		submit(first)
	}
	for n := range 3 {
		want := clearinghouse.Accepted
		if n == 2 {
			want = clearinghouse.Refused
		}
		if o := submit(c.report(fetch, hosts(n+1)...)); o.Status != want {
			t.Errorf("report %d: %+v, want %s", n, o, want)
		}
	}
}

func TestRevoke(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), nil)
	c.submitReport("a", c.report(scan, hosts(1)...))
	c.submitReport("b", c.report(scan, hosts(1)...))
	c.clock = c.clock.Add(time.Hour)
	theft := c.clock
	c.clock = c.clock.Add(time.Minute)
	c.submitReport("b", c.report(fetch, hosts(9)...))
	c.submitReport("c", c.report(fetch, hosts(9)...))
	c.publish()
	c.want(clearinghouse.EntryQuery{}, "198.51.100.1", "198.51.100.9")
	c.draft.Members[1].Keys[0].Revoked = theft
	c.sign()
	if n, err := c.core.Revoke(t.Context(), c.list); n != 1 || err != nil {
		t.Fatalf("%d reports voided, %v; want 1", n, err)
	}
	if n, err := c.core.Revoke(t.Context(), c.list); n != 0 || err != nil {
		t.Fatalf("again: %d, %v", n, err)
	}
	c.publish()
	c.want(clearinghouse.EntryQuery{}, "198.51.100.1")
	out, err := c.core.Submit(t.Context(), [][]byte{c.seal("b", reporting.ReportKind, c.report(fetch, hosts(9)...))})
	if err != nil || !strings.Contains(out[0].Reason, "revoked") {
		t.Errorf("the revoked key: %+v, %v", out, err)
	}
}

// TestVoid: the operator takes out what a selection says.
func TestVoid(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), nil)
	id := c.submitReport("a", c.report(scan, hosts(1, 2)...))
	c.submitReport("b", c.report(scan, hosts(1, 2)...))
	c.submitReport("a", c.report(fetch, hosts(8, 9)...))
	c.submitReport("b", c.report(fetch, hosts(8, 9)...))
	c.publish()
	group, _, err := c.core.Groups(t.Context(), clearinghouse.EntryQuery{Pattern: fetch}, "", 0)
	if err != nil || len(group) != 1 {
		t.Fatal(group, err)
	}
	if _, err := c.core.Void(t.Context(), clearinghouse.ReportSelection{}, "all"); !errors.Is(err, clearinghouse.ErrSelection) {
		t.Errorf("everything: %v", err)
	}
	for i, step := range []struct {
		s    clearinghouse.ReportSelection
		n    int
		left []string
	}{
		{clearinghouse.ReportSelection{Signer: c.key.ID()}, 0, []string{"198.51.100.1", "198.51.100.2", "198.51.100.8", "198.51.100.9"}},
		{clearinghouse.ReportSelection{Since: start.Add(time.Second)}, 0, []string{"198.51.100.1", "198.51.100.2", "198.51.100.8", "198.51.100.9"}},
		{clearinghouse.ReportSelection{Report: id}, 1, []string{"198.51.100.8", "198.51.100.9"}},
		{clearinghouse.ReportSelection{Host: hosts(1)[0]}, 1, []string{"198.51.100.8", "198.51.100.9"}},
		{clearinghouse.ReportSelection{Group: group[0].ID, Signer: c.members["a"].ID()}, 1, nil},
	} {
		n, err := c.core.Void(t.Context(), step.s, "test")
		if n != step.n || err != nil {
			t.Errorf("step %d: %d, %v; want %d", i, n, err, step.n)
		}
		c.publish()
		c.want(clearinghouse.EntryQuery{}, step.left...)
	}
}

func TestObjection(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), func(x *clearinghouse.Configuration) {
		x.OpenObjections, x.Never = 20, []netip.Prefix{netip.MustParsePrefix("198.51.100.3/32")}
	})
	for _, m := range []string{"a", "b"} {
		c.submitReport(m, c.report(scan, hosts(1, 2, 3)...))
	}
	c.publish()
	c.want(clearinghouse.EntryQuery{}, "198.51.100.1", "198.51.100.2")
	object := func(prefix string) (string, error) {
		return c.core.Object(t.Context(), netip.MustParsePrefix(prefix), "it is our scanner", "abuse@example.org", "192.0.2.0/24")
	}
	name, err := object("198.51.100.2/32")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := object("198.51.100.2/32"); again != name || err != nil {
		t.Errorf("again: %s, %v", again, err)
	}
	// What a stranger files about a prefix does not hide what its owner has to say.
	owner, err := c.core.Object(t.Context(), netip.MustParsePrefix("198.51.100.2/32"), "this is our mail server", "noc@example.net", "198.51.100.0/24")
	if err != nil || owner == name {
		t.Errorf("from another network: %s, %v", owner, err)
	}
	if all, err := c.core.Objections(t.Context()); err != nil || !slices.ContainsFunc(all, func(o clearinghouse.Objection) bool { return o.Name == owner && o.Contact == "noc@example.net" }) {
		t.Errorf("objections: %+v, %v", all, err)
	}
	if _, err := object("198.0.0.0/8"); !errors.Is(err, clearinghouse.ErrObjection) {
		t.Errorf("half the world: %v", err)
	}
	other, err := object("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := object("192.0.2.0/25"); !errors.Is(err, clearinghouse.ErrCrowded) {
		t.Errorf("a third of one network: %v", err)
	}
	crowded := 0
	for n := range 20 { // each from a different network
		_, err := c.core.Object(t.Context(), netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 32), "ours", "", fmt.Sprint(n))
		if errors.Is(err, clearinghouse.ErrCrowded) {
			crowded++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if crowded != 3 {
		t.Errorf("%d of 20 more were refused, want 3", crowded)
	}
	c.publish()
	c.want(clearinghouse.EntryQuery{}, "198.51.100.1", "198.51.100.2") // an open one changes nothing
	if err := c.core.Answer(t.Context(), name, c.clock.Add(time.Hour), "so it is"); err != nil {
		t.Fatal(err)
	}
	if err := c.core.Answer(t.Context(), other, time.Time{}, "not listed"); err != nil {
		t.Fatal(err)
	}
	if err := c.core.Answer(t.Context(), name, time.Time{}, "twice"); !errors.Is(err, clearinghouse.ErrNoObjection) {
		t.Errorf("answered twice: %v", err)
	}
	c.publish()
	c.want(clearinghouse.EntryQuery{}, "198.51.100.1")
	all, err := c.core.Objections(t.Context())
	open := 0
	for i := range all {
		if all[i].State == clearinghouse.Open {
			open++
		}
	}
	if err != nil || len(all) != 20 || open != 18 {
		t.Errorf("objections %+v, %v", all, err)
	}
	c.clock = c.clock.Add(2 * time.Hour)
	c.publish()
	c.want(clearinghouse.EntryQuery{}, "198.51.100.1", "198.51.100.2") // upheld for an hour
}

// TestEpochs: one name a day, the same for all who ask, tomorrow's in time.
func TestEpochs(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		c := newCommunity(t, address, nil)
		first, err := c.core.Epochs(t.Context(), 10)
		if err != nil || len(first) != 1 || !strings.HasPrefix(first[0].Name, "2026-03-01.") || len(first[0].Name) > dossier.MaxEpoch {
			t.Fatalf("%v, %v", first, err)
		}
		c.clock = time.Date(2026, 3, 1, 19, 0, 0, 0, time.UTC)
		second, err := c.core.Epochs(t.Context(), 10)
		if err != nil || len(second) != 2 || second[1] != first[0] || second[0].Day != "2026-03-02" {
			t.Errorf("in the evening: %v, %v", second, err)
		}
		c.clock = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
		if third, err := c.core.Epochs(t.Context(), 10); err != nil || !slices.Equal(third, second) {
			t.Errorf("next day: %v, %v", third, err)
		}
	})
}
