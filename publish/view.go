package publish

import (
	"net/netip"
	"reflect"
	"slices"
	"sort"

	"dragnet/dossier"
	"dragnet/flow"
)

// View is what is published at one moment. It is never changed, so that any
// number of readers share it.
type View struct {
	// Number counts the views of a Feed.
	Number int64
	// Time is when it was made, Sequence the last change in it.
	Time     flow.Time
	Sequence int64
	// Rows are in order of their keys.
	Rows []Row
	// Groups are by name.
	Groups map[string]*dossier.Group
	// Withheld are the entries that the allow list holds back.
	Withheld []dossier.Entry
	// Changes are those kept, the oldest first; the ones after Reaches are
	// complete.
	Changes []dossier.Change
	Reaches int64

	byGroup map[string][]int32
	// since are the numbers of the views from which on each group is shown as it
	// is now, and sinceGroups that of the names and patterns of all groups.
	since       map[string]int64
	sinceGroups int64
}

// At returns the rows of a host that live at a time.
func (v *View) At(host netip.Addr, now flow.Time) []Row {
	from := v.search(RowKey{Host: host})
	to := from
	for to < len(v.Rows) && v.Rows[to].Host == host {
		to++
	}
	return live(v.Rows[from:to], now)
}

// search is the position of the first row at or after a key.
func (v *View) search(k RowKey) int {
	return sort.Search(len(v.Rows), func(i int) bool { return v.Rows[i].Key().Compare(k) >= 0 })
}

// Has reports whether there is a row, expired or not.
func (v *View) Has(k RowKey) bool {
	i := v.search(k)
	return i < len(v.Rows) && v.Rows[i].Key() == k
}

// live leaves out the rows that have expired; it copies only if there are any.
func live(rows []Row, now flow.Time) []Row {
	if !slices.ContainsFunc(rows, func(r Row) bool { return r.Until <= now }) {
		return rows
	}
	var out []Row
	for i := range rows {
		if rows[i].Until > now {
			out = append(out, rows[i])
		}
	}
	return out
}

// EachHost calls do with the living rows of each host, in order, until it
// returns false.
func (v *View) EachHost(now flow.Time, do func(rows []Row) bool) {
	for i := 0; i < len(v.Rows); {
		end := i + 1
		for end < len(v.Rows) && v.Rows[end].Host == v.Rows[i].Host {
			end++
		}
		if rows := live(v.Rows[i:end], now); len(rows) > 0 && !do(rows) {
			return
		}
		i = end
	}
}

// EachFrom calls do with the rows from a host on, expired ones too, until it
// returns false.
func (v *View) EachFrom(host netip.Addr, do func(*Row) bool) {
	for i := v.search(RowKey{Host: host}); i < len(v.Rows) && do(&v.Rows[i]); i++ {
	}
}

// Best is the row of highest confidence, the one that lives longest among
// equals. Rows is not empty.
func Best(rows []Row) *Row {
	best := &rows[0]
	for i := range rows {
		r := &rows[i]
		if r.Confidence > best.Confidence || r.Confidence == best.Confidence && r.Until > best.Until {
			best = r
		}
	}
	return best
}

// Until is when the last of the rows expires.
func Until(rows []Row) (t flow.Time) {
	for i := range rows {
		t = max(t, rows[i].Until)
	}
	return t
}

// ChangesAfter returns at most limit changes after a sequence number, the oldest
// first; complete is false if the view does not reach back so far.
func (v *View) ChangesAfter(after int64, limit int) (page []dossier.Change, complete bool) {
	if after < v.Reaches {
		return nil, false
	}
	from := sort.Search(len(v.Changes), func(i int) bool { return v.Changes[i].Sequence > after })
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	return v.Changes[from:min(len(v.Changes), from+limit)], true
}

// ChangedHosts returns the hosts of which anything changed after a sequence
// number, in order; complete is false if the view does not reach back so far.
func (v *View) ChangedHosts(after int64) (hosts []netip.Addr, complete bool) {
	if after < v.Reaches {
		return nil, false
	}
	from := sort.Search(len(v.Changes), func(i int) bool { return v.Changes[i].Sequence > after })
	for i := range v.Changes[from:] {
		hosts = append(hosts, v.Changes[from+i].Entry.Host)
	}
	slices.SortFunc(hosts, netip.Addr.Compare)
	return slices.Compact(hosts), true
}

// History returns the changes of one host that the view keeps, the oldest
// first.
func (v *View) History(host netip.Addr) (all []dossier.Change) {
	for i := range v.Changes {
		if v.Changes[i].Entry.Host == host {
			all = append(all, v.Changes[i])
		}
	}
	return all
}

// GroupNames are the names of the groups, sorted.
func (v *View) GroupNames() []string {
	names := make([]string, 0, len(v.Groups))
	for name := range v.Groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Since is the Number of the first view that shows a group, its rows and which of
// them have expired, as this one does.
func (v *View) Since(group string) int64 { return v.since[group] }

// SinceGroups is the Number of the first view with the same groups under the same
// patterns.
func (v *View) SinceGroups() int64 { return v.sinceGroups }

// compareGroups finds out since when each group is shown as it is.
func (v *View) compareGroups(last *View) {
	v.since, v.sinceGroups = make(map[string]int64, len(v.Groups)), v.Number
	samePatterns := len(v.Groups) == len(last.Groups)
	for name, g := range v.Groups {
		was := last.Groups[name]
		samePatterns = samePatterns && was != nil && slices.Equal(was.Patterns, g.Patterns)
		v.since[name] = v.Number
		if was != nil && sameGroup(was, g) && v.sameRows(last, name) {
			v.since[name] = last.since[name]
		}
	}
	if samePatterns {
		v.sinceGroups = last.sinceGroups
	}
}

func sameGroup(a, b *dossier.Group) bool {
	x, y := *a, *b
	x.Patterns, y.Patterns = nil, nil
	return slices.Equal(a.Patterns, b.Patterns) && reflect.DeepEqual(x, y)
}

// sameRows reports whether a group has the same rows in both views, and the same
// of them live.
func (v *View) sameRows(last *View, group string) bool {
	now, before := v.byGroup[group], last.byGroup[group]
	if len(now) != len(before) {
		return false
	}
	for i := range now {
		r, was := &v.Rows[now[i]], &last.Rows[before[i]]
		if r.Entry != was.Entry || r.Changed != was.Changed || r.text != was.text || r.Until <= v.Time && r.Until > last.Time {
			return false
		}
	}
	return true
}

// InGroup returns the positions of a group's rows.
func (v *View) InGroup(name string) []int32 { return v.byGroup[name] }
