package taxii

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/google/uuid"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
	"dragnet/publish/stix"
)

// index is a view as TAXII sees it: objects in the order in which they were
// added. Objects are made when they are asked for; the index holds one number
// for each row, group and removal.
type index struct {
	view  *publish.View
	maker *stix.Maker
	// items are in order of added; each makes one to stix.Kinds objects.
	items []item
	// names are those of the groups, to which items refer.
	names []string

	byID sync.Once
	ids  []idItem // in order, made when an object is first asked for by name
}

// item is a row (its position), a group (^position among names), or, beyond
// rows, a removal; fixed objects come first.
type item struct {
	added flow.Time
	what  kind
	at    int32
}

type kind uint8

const (
	fixed kind = iota
	row
	group
	removal
)

type idItem struct {
	id uuid.UUID
	at int32 // among items
}

func newIndex(v *publish.View, m *stix.Maker, least int) *index {
	x := &index{view: v, maker: m, names: v.GroupNames(), items: make([]item, 0, len(v.Rows)+len(v.Groups)+2)}
	x.items = append(x.items, item{0, fixed, 0}, item{0, fixed, 1})
	for i := range v.Rows {
		if r := &v.Rows[i]; r.Confidence >= least {
			x.items = append(x.items, item{r.Changed, row, int32(i)})
		}
	}
	for i, name := range x.names {
		if g := v.Groups[name]; g.Confidence >= least {
			x.items = append(x.items, item{g.Updated, group, int32(i)})
		}
	}
	x.addRemovals(least)
	return x
}

// addRemovals adds the last removal of each entry that is no longer there.
func (x *index) addRemovals(least int) {
	last := map[publish.RowKey]int32{}
	for i := range x.view.Changes {
		c := &x.view.Changes[i]
		key := publish.RowKey{Host: c.Entry.Host, Group: c.Entry.Group}
		if c.Kind == dossier.Removed && c.Entry.Confidence >= least && !x.view.Has(key) {
			last[key] = int32(i)
		}
	}
	for _, i := range last {
		x.items = append(x.items, item{x.view.Changes[i].Time, removal, i})
	}
	slices.SortFunc(x.items, func(a, b item) int { // maps have no order
		return cmp.Or(cmp.Compare(a.added, b.added), cmp.Compare(a.what, b.what), cmp.Compare(a.at, b.at))
	})
}

// count is how many objects an item makes.
func (x *index) count(i int) int {
	if x.items[i].what == row {
		return stix.Kinds
	}
	return 1
}

// types says of which types an item's objects are, without making them.
func (x *index) hasType(i, n int, want map[string]bool) bool {
	if want == nil {
		return true
	}
	switch it := x.items[i]; it.what {
	case fixed:
		return want[[]string{"identity", "marking-definition"}[it.at]]
	case group:
		return want["grouping"]
	case removal:
		return want["indicator"]
	case row:
		switch n {
		case 0:
			if x.view.Rows[it.at].Host.Is4() {
				return want["ipv4-addr"]
			}
			return want["ipv6-addr"]
		case 1:
			return want["indicator"]
		case 2:
			return want["observed-data"]
		}
		return want["sighting"]
	}
	return false
}

// object makes the n-th object of an item.
func (x *index) object(i, n int) *stix.Object {
	switch it := x.items[i]; it.what {
	case row:
		return x.maker.RowObject(&x.view.Rows[it.at], n)
	case group:
		return x.maker.Group(x.view, x.view.Groups[x.names[it.at]])
	case removal:
		return x.maker.RevokedIndicator(&x.view.Changes[it.at])
	default:
		if it.at == 0 {
			return x.maker.Publisher()
		}
		return stix.Marking()
	}
}

// after is the first item added after a time.
func (x *index) after(t flow.Time) int {
	return sort.Search(len(x.items), func(i int) bool { return x.items[i].added > t })
}

// find returns the places of an object by its identifier.
func (x *index) find(id string) (i, n int, ok bool) {
	_, text, _ := strings.Cut(id, "--")
	want, err := uuid.Parse(text)
	if err != nil {
		return 0, 0, false
	}
	x.byID.Do(x.indexIDs)
	at := sort.Search(len(x.ids), func(i int) bool { return bytes.Compare(x.ids[i].id[:], want[:]) >= 0 })
	for ; at < len(x.ids) && x.ids[at].id == want; at++ {
		i := int(x.ids[at].at)
		for n := range x.count(i) {
			if x.object(i, n).ID == id {
				return i, n, true
			}
		}
	}
	return 0, 0, false
}

func (x *index) indexIDs() {
	add := func(id uuid.UUID, i int) { x.ids = append(x.ids, idItem{id, int32(i)}) }
	for i, it := range x.items {
		switch it.what {
		case row:
			r := &x.view.Rows[it.at]
			add(x.maker.RowID(r.Key()), i)
			add(stix.AddressID(r.Host.String()), i)
		default:
			_, text, _ := strings.Cut(x.object(i, 0).ID, "--")
			if id, err := uuid.Parse(text); err == nil {
				add(id, i)
			}
		}
	}
	slices.SortFunc(x.ids, func(a, b idItem) int { return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.at, b.at)) })
}
