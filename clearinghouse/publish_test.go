package clearinghouse_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/wire/reporting"
)

// TestPublishedTypesNameNobody: a published type is made of numbers, times,
// addresses of hosts, and these texts; none can hold who reported or saw it.
func TestPublishedTypesNameNobody(t *testing.T) {
	texts := map[string]bool{"ID": true, "Group": true, "Patterns": true, "Kind": true}
	leaves := []reflect.Type{reflect.TypeFor[netip.Addr](), reflect.TypeFor[flow.Time](), reflect.TypeFor[int](), reflect.TypeFor[int64]()}
	var walk func(t *testing.T, typ reflect.Type)
	walk = func(t *testing.T, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			switch {
			case slices.Contains(leaves, f.Type):
			case texts[f.Name] && (f.Type.Kind() == reflect.String || f.Type == reflect.TypeFor[[]string]()):
			case f.Type == reflect.TypeFor[dossier.Entry]():
				walk(t, f.Type)
			default:
				t.Errorf("%s.%s of type %s could name a source", typ, f.Name, f.Type)
			}
		}
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[dossier.Entry](), reflect.TypeFor[dossier.Group](), reflect.TypeFor[dossier.Change]()} {
		walk(t, typ)
	}
}

// TestPublicViewNamesNoSource looks at the bytes: nothing of the members shows
// in anything that is published.
func TestPublicViewNamesNoSource(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), nil)
	for _, m := range []string{"a", "b", "c"} {
		c.submitReport(m, c.report(scan, hosts(1, 2)...))
	}
	c.publish()
	entries, _, err := c.core.Entries(t.Context(), clearinghouse.EntryQuery{}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	groups, _, err := c.core.Groups(t.Context(), clearinghouse.EntryQuery{}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := c.core.Changes(t.Context(), netip.Addr{}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || len(groups) != 1 || len(changes) != 2 {
		t.Fatal(entries, groups, changes)
	}
	public, err := json.Marshal([]any{entries, groups, changes})
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range c.members {
		for _, secret := range []string{"org:" + name, k.Public().String(), k.ID().String(), `"` + name + `"`} {
			if strings.Contains(string(public), secret) {
				t.Errorf("%s is in what is published", secret)
			}
		}
	}
	if exact := c.clock.Format("15:04:05"); strings.Contains(string(public), exact) {
		t.Errorf("the exact time %s is in what is published", exact)
	}
}

// TestGroupsKeepTheirNames while patterns come, go, merge and part.
func TestGroupsKeepTheirNames(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), nil)
	name := func(pattern string) string {
		g, _, err := c.core.Groups(t.Context(), clearinghouse.EntryQuery{Pattern: pattern}, "", 0)
		if err != nil || len(g) > 1 {
			t.Fatal(g, err)
		}
		if len(g) == 0 {
			return ""
		}
		return g[0].ID
	}
	both := func(pattern string, last ...int) (ids []dossier.ReportID) {
		for _, m := range []string{"a", "b"} {
			ids = append(ids, c.submitReport(m, c.report(pattern, hosts(last...)...)))
		}
		c.publish()
		return ids
	}
	old := both(scan, 1, 2)
	first := name(scan)
	both(fetch, 8, 9)
	second := name(fetch)
	if first == "" || second == "" || first == second {
		t.Fatalf("two groups are %q and %q", first, second)
	}
	c.clock = c.clock.Add(time.Minute)
	bridge := both(fetch, 1, 2)
	if name(scan) != first || name(fetch) != first {
		t.Errorf("merged, they are %q and %q, want the older name %q", name(scan), name(fetch), first)
	}
	for _, id := range bridge {
		if _, err := c.core.Void(t.Context(), clearinghouse.ReportSelection{Report: id}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	c.publish()
	if parted := name(fetch); name(scan) != first || parted == first || parted == "" {
		t.Errorf("parted, they are %q and %q", name(scan), parted)
	}
	for _, id := range old {
		if _, err := c.core.Void(t.Context(), clearinghouse.ReportSelection{Report: id}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	c.publish()
	if name(scan) != "" {
		t.Error("a group without reports is published")
	}
}

// TestConcurrent: members report the same and different things at once while
// batches are published; each report counts once.
func TestConcurrent(t *testing.T) {
	onBoth(t, func(t *testing.T, address string) {
		c := newCommunity(t, address, nil)
		const each = 20
		fresh := make([]int, 5)
		var wg sync.WaitGroup
		for i, m := range []string{"a", "b", "c", "d", "a"} { // a twice, with the same reports
			var sealed [][]byte
			for n := range each {
				r := c.report(scan, hosts(n+1)...)
				r.Made -= flow.Time(n)
				sealed = append(sealed, c.seal(m, reporting.ReportKind, r))
			}
			wg.Go(func() {
				for _, s := range sealed {
					out, err := c.core.Submit(context.Background(), [][]byte{s, s})
					if err != nil || out[0].Status == clearinghouse.Refused || out[1].Status != clearinghouse.Known {
						t.Errorf("%v, %+v", err, out)
						return
					}
					if out[0].Status == clearinghouse.Accepted {
						fresh[i]++
					}
				}
			})
		}
		wg.Go(func() {
			for range 5 {
				if _, err := c.core.Publish(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		if got := fresh[0] + fresh[4]; got != each || fresh[1] != each || fresh[2] != each || fresh[3] != each {
			t.Errorf("accepted %v; want %d of each member", fresh, each)
		}
		if p := c.publish(); p.Reports != 4*each || p.Entries != each {
			t.Errorf("%+v", p)
		}
		for _, e := range mustEntries(t, c) {
			if e.Sources != 3 { // four, as the scale shows it
				t.Errorf("%+v", e)
			}
		}
	})
}

func mustEntries(t *testing.T, c *community) []dossier.Entry {
	t.Helper()
	all, _, err := c.core.Entries(t.Context(), clearinghouse.EntryQuery{}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPages: whatever the size of the pages, a query gives the same entries,
// each once, and the cursor alone is enough to go on.
func TestPages(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), nil)
	for _, m := range []string{"a", "b"} {
		c.submitReport(m, c.report(scan, hosts(1, 2, 3, 4, 5, 6, 7)...))
		c.submitReport(m, c.report(fetch, hosts(7, 8, 9)...))
	}
	c.publish()
	all := mustEntries(t, c)
	if len(all) != 10 {
		t.Fatalf("%d entries, want 10: host 7 is in two groups", len(all))
	}
	rapid.Check(t, func(rt *rapid.T) {
		q := clearinghouse.EntryQuery{MinConfidence: rapid.IntRange(0, 1).Draw(rt, "confidence")}
		limit := rapid.IntRange(1, 11).Draw(rt, "limit")
		var got []dossier.Entry
		page, next, err := c.core.Entries(t.Context(), q, "", limit)
		for got = append(got, page...); err == nil && next != ""; got = append(got, page...) {
			page, next, err = c.core.Entries(t.Context(), clearinghouse.EntryQuery{}, next, limit)
		}
		if diff := cmp.Diff(all, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			rt.Fatal(err, diff)
		}
	})
	for _, bad := range []string{"x", "e30", strings.Repeat("A", 1<<20)} {
		if _, _, err := c.core.Entries(t.Context(), clearinghouse.EntryQuery{}, bad, 0); !errors.Is(err, clearinghouse.ErrCursor) {
			t.Errorf("cursor %.10s: %v", bad, err)
		}
	}
	if _, _, err := c.core.Groups(t.Context(), clearinghouse.EntryQuery{Pattern: "in dst=1"}, "", 0); !errors.Is(err, clearinghouse.ErrQuery) {
		t.Errorf("a broken pattern: %v", err)
	}
}

// FuzzCursor: no cursor makes a query fail in any way but ErrCursor.
func FuzzCursor(f *testing.F) {
	c := newCommunity(f, filepath.Join(f.TempDir(), "state.db"), nil)
	for _, m := range []string{"a", "b"} {
		c.submitReport(m, c.report(scan, hosts(1, 2)...))
	}
	c.publish()
	_, next, err := c.core.Entries(f.Context(), clearinghouse.EntryQuery{Pattern: scan, Hosts: netip.MustParsePrefix("198.51.100.0/24")}, "", 1)
	if err != nil || next == "" {
		f.Fatal(next, err)
	}
	f.Add(next)
	f.Add("eyJnIjoiYSIsInEiOnsicGF0dGVybiI6ImluIGRwb3J0PTEifX0")
	f.Fuzz(func(t *testing.T, at string) {
		for _, err := range []error{second(c.core.Entries(t.Context(), clearinghouse.EntryQuery{}, at, 3)), second(c.core.Groups(t.Context(), clearinghouse.EntryQuery{}, at, 3))} {
			if err != nil && !errors.Is(err, clearinghouse.ErrCursor) && !errors.Is(err, clearinghouse.ErrQuery) {
				t.Fatal(err)
			}
		}
	})
}

func second[T any](_ []T, _ string, err error) error { return err }

// FuzzSubmit: no bytes but a member's are accepted.
func FuzzSubmit(f *testing.F) {
	c := newCommunity(f, filepath.Join(f.TempDir(), "state.db"), func(x *clearinghouse.Configuration) { x.ReportsPerDay = 1 << 30 })
	good := c.seal("a", reporting.ReportKind, c.report(scan, hosts(1)...))
	f.Add(good)
	f.Add(c.seal("w", reporting.ReportKind, c.report(scan, hosts(1)...)))
	f.Add(c.seal("a", reporting.WithdrawalKind, &dossier.Withdrawal{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := c.core.Submit(t.Context(), [][]byte{data})
		if err != nil || out[0].Status != clearinghouse.Refused && string(data) != string(good) {
			t.Fatalf("%v, %+v", err, out)
		}
		if found, err := c.core.Withdraw(t.Context(), data); err == nil && found {
			t.Fatal("withdrawn")
		}
	})
}
