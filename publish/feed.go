package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/conf"
)

// Source is where entries come from: a clearinghouse, or the decisions of a
// node.
type Source interface {
	// Snapshot reads all that is published now, as of one moment.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Changes gives at most limit changes after a sequence number that are not
	// older than since, the oldest first.
	Changes(ctx context.Context, after int64, since flow.Time, limit int) ([]dossier.Change, error)
}

// Snapshot is what a Source publishes at one moment.
type Snapshot struct {
	// Sequence is that of the last change.
	Sequence int64
	Entries  []dossier.Entry
	Groups   []dossier.Group
}

// Configuration of a Feed.
type Configuration struct {
	// History is how far back changes are kept for readers that ask for them.
	History time.Duration `yaml:"history"`
	// Changes bounds how many are kept; a reader that is further behind is given
	// everything.
	Changes int `yaml:"changes"`
}

// DefaultConfiguration keeps three days.
func DefaultConfiguration() Configuration {
	return Configuration{History: 72 * time.Hour, Changes: 500_000}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.History >= time.Minute, "history", "is %v; want at least 1m", c.History)
	p.Check(c.Changes >= 1000, "changes", "is %d; want at least 1000", c.Changes)
	return p.Join()
}

// Feed keeps the View of a Source up to date. It is safe for concurrent use.
type Feed struct {
	config Configuration
	source Source
	allow  *flow.AllowList
	now    func() time.Time

	refreshing sync.Mutex
	view       atomic.Pointer[View]
}

// NewFeed makes a feed with an empty view; now may be nil.
func NewFeed(c Configuration, source Source, allow *flow.AllowList, now func() time.Time) (*Feed, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	f := &Feed{config: c, source: source, allow: allow, now: now}
	f.view.Store(&View{Time: flow.FromTime(now()), Groups: map[string]*dossier.Group{}})
	return f, nil
}

// View is the newest one.
func (f *Feed) View() *View { return f.view.Load() }

// Now is the feed's time: what expires is measured against it.
func (f *Feed) Now() flow.Time { return flow.FromTime(f.now()) }

// Refresh reads the source and makes the next view. After an error the last one
// stays.
func (f *Feed) Refresh(ctx context.Context) (*View, error) {
	f.refreshing.Lock()
	defer f.refreshing.Unlock()
	last := f.view.Load()
	snapshot, err := f.source.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("read what is published: %w", err)
	}
	now := f.Now()
	v := &View{Number: last.Number + 1, Time: now, Sequence: max(snapshot.Sequence, last.Sequence), Groups: map[string]*dossier.Group{}, byGroup: map[string][]int32{}}
	for i := range snapshot.Groups {
		g := &snapshot.Groups[i]
		v.Groups[g.ID] = g
	}
	if err := f.readChanges(ctx, last, v); err != nil {
		return nil, fmt.Errorf("read what changed: %w", err)
	}
	f.fillRows(last, v, snapshot.Entries)
	v.compareGroups(last)
	f.view.Store(v)
	return v, nil
}

// changesPage is how many changes are read at a time.
const changesPage = 1000

// readChanges adds what came after the last view to its changes, and forgets
// what is too old or too much.
func (f *Feed) readChanges(ctx context.Context, last, v *View) error {
	since := v.Time - flow.Time(f.config.History)
	after := int64(0)
	v.Reaches = 0
	if last.Number > 0 {
		after, v.Reaches = last.Sequence, last.Reaches
		v.Changes = slices.Clone(last.Changes) // allowChanges may change them
	}
	for after < v.Sequence {
		page, err := f.source.Changes(ctx, after, since, changesPage)
		if err != nil {
			return err
		}
		for i := range page {
			c := &page[i]
			if c.Sequence > v.Sequence {
				break // of a batch after the snapshot
			}
			if last.Number == 0 && len(v.Changes) == 0 {
				v.Reaches = c.Sequence - 1
			}
			if n := len(v.Changes); n > 0 {
				// Times of batches are coarse: within one, the order makes them differ.
				c.Time = max(c.Time, v.Changes[n-1].Time+flow.Time(time.Microsecond))
			}
			v.Changes = append(v.Changes, *c)
		}
		if len(page) == 0 || page[len(page)-1].Sequence >= v.Sequence {
			break
		}
		after = page[len(page)-1].Sequence
	}
	if len(v.Changes) == 0 {
		v.Reaches = v.Sequence
	}
	keep := 0
	for keep < len(v.Changes) && (v.Changes[keep].Time < since || len(v.Changes)-keep > f.config.Changes) {
		v.Reaches = v.Changes[keep].Sequence
		keep++
	}
	v.Changes = v.Changes[keep:]
	return nil
}

// fillRows makes the rows, without those the allow list holds back. What did not
// change since the last view keeps the time of its last change.
func (f *Feed) fillRows(last, v *View, entries []dossier.Entry) {
	changed := map[RowKey]*dossier.Change{}
	for i := len(v.Changes) - 1; i >= 0 && (last.Number == 0 || v.Changes[i].Sequence > last.Sequence); i-- {
		c := &v.Changes[i]
		if key := (RowKey{c.Entry.Host, c.Entry.Group}); changed[key] == nil {
			changed[key] = c
		}
	}
	// Sorting what a source gives in order costs little.
	slices.SortFunc(entries, func(x, y dossier.Entry) int {
		return cmp.Or(x.Host.Compare(y.Host), cmp.Compare(x.Group, y.Group))
	})
	texts := make(map[string]string, len(v.Groups))
	for name, g := range v.Groups {
		texts[name] = PatternText(g)
	}
	v.Rows = make([]Row, 0, len(entries))
	before := last.Rows
	for i := range entries {
		e := entries[i]
		group := v.Groups[e.Group]
		if _, protected := f.allow.Protects(e.Host); protected || group == nil {
			v.Withheld = append(v.Withheld, e)
			continue
		}
		e.Group = group.ID
		r := Row{Entry: e, Of: group, Changed: e.Listed, text: texts[group.ID]}
		key := r.Key()
		for len(before) > 0 && before[0].Key().Compare(key) < 0 {
			before = before[1:]
		}
		if c := changed[key]; c != nil {
			r.Sequence, r.Changed = c.Sequence, c.Time
		} else if len(before) > 0 && before[0].Key() == key {
			r.Sequence, r.Changed = before[0].Sequence, before[0].Changed
		}
		v.Rows = append(v.Rows, r)
	}
	for i := range v.Rows {
		v.byGroup[v.Rows[i].Entry.Group] = append(v.byGroup[v.Rows[i].Entry.Group], int32(i))
	}
	for name := range v.Groups {
		if v.byGroup[name] == nil {
			delete(v.Groups, name)
		}
	}
	f.allowChanges(v)
}

// allowChanges turns what the allow list holds back into removals, for readers
// that were given it before the list was extended.
func (f *Feed) allowChanges(v *View) {
	for i := range v.Changes {
		if c := &v.Changes[i]; c.Kind != dossier.Removed {
			if _, protected := f.allow.Protects(c.Entry.Host); protected {
				c.Kind = dossier.Removed
			}
		}
	}
}
