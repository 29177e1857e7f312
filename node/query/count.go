package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/store"
)

// GroupCount counts the flows of one group. Its JSON form is that of 'dragnet flow
// stat'.
type GroupCount struct {
	Group       string    `json:"group"`
	Flows       uint64    `json:"flows"`
	Established uint64    `json:"established"`
	Failed      uint64    `json:"failed"`
	Bytes       uint64    `json:"bytes"`
	First       flow.Time `json:"first_seen"`
	Last        flow.Time `json:"last_seen"`
}

func (t *GroupCount) addFlow(f *flow.Flow) {
	if t.Flows == 0 || f.Start < t.First {
		t.First = f.Start
	}
	if t.Flows == 0 || f.Start > t.Last {
		t.Last = f.Start
	}
	t.Flows++
	if f.Established() {
		t.Established++
	}
	if f.Failed() {
		t.Failed++
	}
	r := RowOf(f)
	t.Bytes += r.OrigBytes + r.RespBytes
}

// grouping is a way to group flows: its identifier for stores that count
// themselves, and the name of a flow's group.
type grouping struct {
	id   store.Grouping
	name func(*flow.Flow) string
}

// groupings are the ways to count flows; "" counts all together.
var groupings = map[string]grouping{
	"":      {store.All, func(*flow.Flow) string { return "all" }},
	"src":   {store.BySource, func(f *flow.Flow) string { return f.Orig.String() }},
	"dst":   {store.ByDestination, func(f *flow.Flow) string { return f.Resp.String() }},
	"dport": {store.ByService, func(f *flow.Flow) string { return f.Proto.String() + "/" + strconv.Itoa(int(f.RespPort)) }},
	"proto": {store.ByProto, func(f *flow.Flow) string { return f.Proto.String() }},
	"state": {store.ByState, func(f *flow.Flow) string { return f.State.String() }},
	"hour":  {store.ByHour, func(f *flow.Flow) string { return f.Start.Time().Truncate(time.Hour).Format(time.RFC3339) }},
	"day":   {store.ByDay, func(f *flow.Flow) string { return f.Start.Time().Format(time.DateOnly) }},
}

// CheckGrouping returns an error if by is not a grouping.
func CheckGrouping(by string) error {
	if _, ok := groupings[by]; !ok {
		return fmt.Errorf("%q: want %s", by, strings.Join(slices.Sorted(maps.Keys(groupings))[1:], " or "))
	}
	return nil
}

// maxGroups bounds what Count keeps in memory, about 200 bytes each.
const maxGroups = 1 << 20

// ErrTooMany means that a selection has more groups than are counted.
var ErrTooMany = errors.New("too many groups")

// counting is a store that counts flows itself.
type counting interface {
	Tally(ctx context.Context, filter *pattern.Filter, w flow.Window, by store.Grouping, fn func(store.Tally) error) (flow.Coverage, error)
}

// Count counts the selected flows by groups, the largest first. Top bounds the
// groups returned; 0 returns all.
func Count(ctx context.Context, log store.Reader, s Selection, by string, top int) ([]GroupCount, flow.Coverage, error) {
	if err := CheckGrouping(by); err != nil {
		return nil, flow.Coverage{}, err
	}
	g, tallies := groupings[by], tallies{}
	var cov flow.Coverage
	var err error
	if there, ok := log.(counting); ok {
		cov, err = there.Tally(ctx, s.Filter, s.Window, g.id, func(v store.Tally) error {
			t, err := tallies.tallyOf(g.name(&v.Flow))
			if err == nil && t.Flows > 0 {
				err = fmt.Errorf("two groups are called %q", t.Group)
			}
			if err == nil {
				*t = GroupCount{t.Group, v.Flows, v.Established, v.Failed, v.Bytes, v.First, v.Last}
			}
			return err
		})
	} else {
		cov, err = s.scanSelected(ctx, log, s.Window, func(f *flow.Flow) error {
			t, err := tallies.tallyOf(g.name(f))
			if err == nil {
				t.addFlow(f)
			}
			return err
		})
	}
	if err != nil {
		return nil, cov, err
	}
	return tallies.takeLargest(top), cov, nil
}

// tallies maps the names of groups to their tallies.
type tallies map[string]*GroupCount

func (all tallies) tallyOf(group string) (*GroupCount, error) {
	t := all[group]
	if t == nil {
		if len(all) == maxGroups {
			return nil, fmt.Errorf("%w: more than %d; narrow the filter or the time", ErrTooMany, maxGroups)
		}
		t = &GroupCount{Group: group}
		all[group] = t
	}
	return t, nil
}

func (all tallies) takeLargest(top int) []GroupCount {
	out := make([]GroupCount, 0, len(all))
	for _, t := range all {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b GroupCount) int { return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Group, b.Group)) })
	if top > 0 {
		out = out[:min(top, len(out))]
	}
	return out
}
