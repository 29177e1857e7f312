package flows

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

	"dragnet/flow"
)

// Tally sums up the flows of one group. Its JSON form is that of 'dragnet flow
// stat'.
type Tally struct {
	Group       string    `json:"group"`
	Flows       uint64    `json:"flows"`
	Established uint64    `json:"established"`
	Failed      uint64    `json:"failed"`
	Bytes       uint64    `json:"bytes"`
	First       flow.Time `json:"first_seen"`
	Last        flow.Time `json:"last_seen"`
}

func (t *Tally) add(f *flow.Flow) {
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

// groupings are what flows can be counted by; "" counts all together.
var groupings = map[string]func(*flow.Flow) string{
	"":      func(*flow.Flow) string { return "all" },
	"src":   func(f *flow.Flow) string { return f.Orig.String() },
	"dst":   func(f *flow.Flow) string { return f.Resp.String() },
	"dport": func(f *flow.Flow) string { return f.Proto.String() + "/" + strconv.Itoa(int(f.RespPort)) },
	"proto": func(f *flow.Flow) string { return f.Proto.String() },
	"state": func(f *flow.Flow) string { return f.State.String() },
	"hour":  func(f *flow.Flow) string { return f.Start.Time().Truncate(time.Hour).Format(time.RFC3339) },
	"day":   func(f *flow.Flow) string { return f.Start.Time().Format(time.DateOnly) },
}

// CheckGrouping reports a grouping that is none.
func CheckGrouping(by string) error {
	if groupings[by] == nil {
		return fmt.Errorf("%q: want %s", by, strings.Join(slices.Sorted(maps.Keys(groupings))[1:], " or "))
	}
	return nil
}

// maxGroups bounds what Count keeps in memory, about 200 bytes each.
const maxGroups = 1 << 20

// ErrTooMany says that a selection has more groups than are counted.
var ErrTooMany = errors.New("too many groups")

// Count sums the chosen flows up by groups, the largest first; top bounds the
// groups given, 0 gives all.
func Count(ctx context.Context, log Log, s Selection, by string, top int) ([]Tally, flow.Coverage, error) {
	if err := CheckGrouping(by); err != nil {
		return nil, flow.Coverage{}, err
	}
	group, tallies := groupings[by], map[string]*Tally{}
	cov, err := s.each(ctx, log, s.Window, func(f *flow.Flow) error {
		g := group(f)
		t := tallies[g]
		if t == nil {
			if len(tallies) == maxGroups {
				return fmt.Errorf("%w: more than %d; narrow the filter or the time", ErrTooMany, maxGroups)
			}
			t = &Tally{Group: g}
			tallies[g] = t
		}
		t.add(f)
		return nil
	})
	if err != nil {
		return nil, cov, err
	}
	out := make([]Tally, 0, len(tallies))
	for _, t := range tallies {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Tally) int { return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Group, b.Group)) })
	if top > 0 {
		out = out[:min(top, len(out))]
	}
	return out, cov, nil
}
