package publish_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
	"dragnet/publish/publishtest"
)

func hostsOf(rows []publish.Row) (out []string) {
	for _, r := range rows {
		out = append(out, r.Host.String())
	}
	return out
}

// TestNoFieldNamesASource is the masking rule: what writers are given has no
// field in which a detective, witness or member could be named.
func TestNoFieldNamesASource(t *testing.T) {
	want := map[string]bool{"Version": true, "Host": true, "Group": true, "First": true, "Last": true, "Sources": true, "Witnesses": true, "Confidence": true, "Listed": true, "Until": true}
	entry := reflect.TypeFor[dossier.Entry]()
	for i := range entry.NumField() {
		f := entry.Field(i)
		if !want[f.Name] {
			t.Errorf("dossier.Entry has a field %s: does it say who reported the host?", f.Name)
		}
		if (f.Name == "Sources" || f.Name == "Witnesses") && f.Type.Kind() != reflect.Int {
			t.Errorf("%s is a %v; want a number", f.Name, f.Type)
		}
	}
}

func TestAllowListHoldsBack(t *testing.T) {
	s := publishtest.New()
	s.List("g", []string{"in dport=22"}, 90, "198.51.100.7", "8.8.8.8", "10.0.0.5")
	f := s.Feed(t)
	v := f.View()
	if got := hostsOf(v.Rows); !slices.Equal(got, []string{"198.51.100.7"}) || len(v.Withheld) != 2 {
		t.Errorf("published %v, withheld %d; want 198.51.100.7 alone, 2 withheld", got, len(v.Withheld))
	}
	for _, c := range v.Changes {
		if (c.Kind == dossier.Removed) != (c.Entry.Host.String() != "198.51.100.7") {
			t.Errorf("%s is %s", c.Entry.Host, c.Kind)
		}
	}
	s.Withdraw("g", "198.51.100.7")
	if v = publishtest.Refresh(t, f); len(v.Groups) != 0 {
		t.Errorf("a group of which nothing is published is named: %v", v.GroupNames())
	}
}

func TestChangesFollowTheSource(t *testing.T) {
	s := publishtest.New()
	s.List("g", nil, 60, "198.51.100.1", "198.51.100.2")
	f := s.Feed(t)
	at := f.View().Sequence
	s.Advance(time.Hour)
	s.List("g", nil, 70, "198.51.100.2", "198.51.100.3")
	s.Withdraw("g", "198.51.100.1")
	v := publishtest.Refresh(t, f)
	hosts, complete := v.ChangedHosts(at)
	if fmt.Sprint(hosts) != "[198.51.100.1 198.51.100.2 198.51.100.3]" || !complete {
		t.Errorf("changed: %v, %v", hosts, complete)
	}
	for i := 1; i < len(v.Changes); i++ {
		if v.Changes[i].Time <= v.Changes[i-1].Time {
			t.Errorf("changes %d and %d have the times %v and %v; they must differ", i-1, i, v.Changes[i-1].Time, v.Changes[i].Time)
		}
	}
	if h := v.History(netip.MustParseAddr("198.51.100.1")); len(h) != 2 || h[1].Kind != dossier.Removed {
		t.Errorf("history %v", h)
	}
	if _, complete := v.ChangedHosts(-1); complete {
		t.Error("the view claims to reach back before the first change")
	}
	// A feed that starts later knows the same changes.
	if again := s.Feed(t).View(); !reflect.DeepEqual(again.Changes, v.Changes) || again.Reaches != v.Reaches {
		t.Errorf("after a restart: %v, reaching %d; before: %v, %d", again.Changes, again.Reaches, v.Changes, v.Reaches)
	}
	// What is older than the history is forgotten, and the view says so.
	s.Advance(100 * time.Hour)
	v = publishtest.Refresh(t, f)
	if _, complete := v.ChangedHosts(at); complete || len(v.Changes) != 0 || len(v.Rows) != 0 {
		t.Errorf("after 100 h: complete %v, %d changes, %d rows", complete, len(v.Changes), len(v.Rows))
	}
}

func TestPagesAreTheWholeList(t *testing.T) {
	s := publishtest.New()
	s.Fill(5000)
	v := s.Feed(t).View()
	c := publish.NewCursors([]byte("secret"))
	for name, q := range map[string]publish.Query{
		"all": {}, "prefix": {Hosts: netip.MustParsePrefix("32.0.0.0/19")}, "group": {Group: "group000002"}, "confidence": {MinConfidence: 53},
		"pattern": {Pattern: "in dport=3"}, "filter": {Filter: `(pattern~"dport=2" or group=group000004) and not host=2001:db8::/32`},
		"nothing": {Filter: "confidence<1"}, "six": {Hosts: netip.MustParsePrefix("2001:db8::/32")},
	} {
		filter, err := publish.ParseFilter(q.Filter, 0)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range v.Rows { // the slow twin
			r := &v.Rows[i]
			if (!q.Hosts.IsValid() || q.Hosts.Contains(r.Host)) && (q.Group == "" || q.Group == r.Entry.Group) && r.Confidence >= q.MinConfidence &&
				(q.Pattern == "" || slices.Contains(r.Of.Patterns, q.Pattern)) && filter.Matches(r) {
				want = append(want, r.Host.String())
			}
		}
		var got []string
		for cursor, page := "", 0; ; page++ {
			rows, next, err := v.Page(c, q, cursor, 137)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, hostsOf(rows)...)
			if next == "" {
				break
			}
			if q = (publish.Query{}); page > 100 { // the filters are in the cursor
				t.Fatal("no end")
			}
			cursor = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d hosts, want %d", name, len(got), len(want))
		}
		if name != "nothing" && len(want) == 0 {
			t.Errorf("%s selects nothing, so that nothing was tested", name)
		}
	}
}

func TestCursorsCannotBeMade(t *testing.T) {
	s := publishtest.New()
	s.Fill(100)
	v, c := s.Feed(t).View(), publish.NewCursors([]byte("secret"))
	_, next, err := v.Page(c, publish.Query{}, "", 10)
	if err != nil || next == "" {
		t.Fatal(next, err)
	}
	for i := range next {
		b := []byte(next)
		b[i] ^= 4
		if _, _, err := v.Page(c, publish.Query{}, string(b), 10); !errors.Is(err, publish.ErrCursor) {
			t.Fatalf("a cursor changed at %d gave %v", i, err)
		}
	}
	for _, bad := range []string{"x", strings.Repeat("A", 1<<20), "e30"} {
		if _, _, err := v.Page(c, publish.Query{}, bad, 10); !errors.Is(err, publish.ErrCursor) {
			t.Errorf("%.10q gave %v", bad, err)
		}
	}
	if _, _, err := v.Page(publish.NewCursors([]byte("other")), publish.Query{}, next, 10); !errors.Is(err, publish.ErrCursor) {
		t.Errorf("a cursor of another secret gave %v", err)
	}
}

func TestFilterErrorsSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		"confidence>=": "want a field", "colour=red": "unknown field", "confidence~5": "compared by one of", "host=example.org": "neither an address",
		"(confidence>1": "closing parenthesis", `pattern~"x`: "not closed", "confidence>1 confidence>2": "unexpected", "last>yesterday": "RFC 3339",
		strings.Repeat("(", 40) + "confidence>1": "nested", strings.Repeat("confidence>1 or ", 40) + "confidence>1": "more than 32", strings.Repeat("not ", 40) + "confidence>1": "nested",
		strings.Repeat(" ", 5000): "longer than",
	} {
		if _, err := publish.ParseFilter(text, 0); !errors.Is(err, publish.ErrFilter) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q gave %v; want %q", text, err, want)
		}
	}
}

func TestReasonNeedsNoEscaping(t *testing.T) {
	for _, patterns := range [][]string{nil, {"in dport=445"}, {"a\"b\tc\\d\né"}, {strings.Repeat("x", 9999), "y"}} {
		r := publish.Row{Entry: dossier.Entry{Sources: 3, First: flow.FromTime(publishtest.Start)}, Of: &dossier.Group{Patterns: patterns, Undisclosed: 1}}
		got := r.Reason()
		if strings.ContainsAny(got, "\"\\\t\n") || len(got) > 255 || !strings.Contains(got, "at least 3 independent organisations since 2026-03-01T12:00:00Z") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{`confidence>=80 and (host=198.51.100.0/24 or pattern~"dport=445") and not group=abc`, "last>-24h", "host=::1", "not(", `"`} {
		f.Add(s)
	}
	row := &publish.Row{Entry: dossier.Entry{Host: netip.MustParseAddr("198.51.100.7")}, Of: &dossier.Group{Patterns: []string{"in dport=445"}}}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := publish.ParseFilter(text, 1)
		if err != nil {
			if !errors.Is(err, publish.ErrFilter) {
				t.Fatalf("%q gave %v", text, err)
			}
			return
		}
		one := filter.Matches(row)
		if text != "" {
			negated, err := publish.ParseFilter("not ("+text+")", 1)
			if err == nil && strings.TrimSpace(text) != "" && negated.Matches(row) == one {
				t.Fatalf("%q and its negation agree", text)
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	c := publish.NewCursors([]byte("secret"))
	text, err := c.Seal(map[string]int{"a": 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		var v map[string]int
		if c.Open(s, &v) == nil && s != text {
			t.Fatalf("%q was taken", s)
		}
	})
}

// TestRowsAsJSON compares with encoding/json.
func TestRowsAsJSON(t *testing.T) {
	for _, p := range []string{"in dport=445", "a<b&c", "é\t"} {
		r := publish.Row{Entry: dossier.Entry{Version: 1, Host: netip.MustParseAddr("2001:db8::7"), Group: "g<1", First: 1e18, Last: 1e18 + 5, Sources: 2, Witnesses: 3, Confidence: 4, Listed: 7, Until: 1 << 60},
			Of: &dossier.Group{Patterns: []string{p}}}
		want, err := json.Marshal(struct {
			dossier.Entry
			Reason string `json:"reason"`
		}{r.Entry, r.Reason()})
		if got := string(r.AppendJSON(nil)); err != nil || got != string(want) {
			t.Errorf("%s\nwant %s, %v", got, want, err)
		}
	}
}
