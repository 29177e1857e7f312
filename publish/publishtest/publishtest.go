// Package publishtest makes sources of entries for the tests of publish: lists
// that change, of any size.
package publishtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
)

// Start is the first batch of every source.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Source is a list that tests change. It is safe for concurrent use.
type Source struct {
	mu      sync.Mutex
	clock   time.Time
	entries map[publish.RowKey]dossier.Entry
	groups  map[string]dossier.Group
	changes []dossier.Change
}

// New is an empty source at Start.
func New() *Source {
	return &Source{clock: Start, entries: map[publish.RowKey]dossier.Entry{}, groups: map[string]dossier.Group{}}
}

// Now is the source's clock.
func (s *Source) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

// Advance moves the clock.
func (s *Source) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

// List publishes hosts in a group of the patterns, for a day; several calls
// update.
func (s *Source) List(group string, patterns []string, confidence int, hosts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := flow.FromTime(s.clock)
	s.groups[group] = dossier.Group{Version: dossier.GroupVersion, ID: group, Patterns: patterns, Hosts: len(hosts), First: now - flow.Time(time.Hour), Last: now, Sources: 2, Confidence: confidence, Updated: now}
	for _, host := range hosts {
		s.put(dossier.Entry{
			Version: dossier.EntryVersion, Host: netip.MustParseAddr(host), Group: group, First: now - flow.Time(time.Hour), Last: now,
			Sources: 2, Witnesses: 3, Confidence: confidence, Listed: now, Until: now + flow.Time(24*time.Hour),
		})
	}
}

func (s *Source) put(e dossier.Entry) {
	key := publish.RowKey{Host: e.Host, Group: e.Group}
	kind := dossier.Listed
	if was, ok := s.entries[key]; ok {
		kind, e.Listed = dossier.Updated, was.Listed
	}
	s.entries[key] = e
	s.change(kind, e)
}

func (s *Source) change(kind dossier.ChangeKind, e dossier.Entry) {
	s.changes = append(s.changes, dossier.Change{Version: dossier.ChangeVersion, Sequence: int64(len(s.changes) + 1), Time: flow.FromTime(s.clock), Kind: kind, Entry: e})
}

// Withdraw removes hosts from a group.
func (s *Source) Withdraw(group string, hosts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, host := range hosts {
		key := publish.RowKey{Host: netip.MustParseAddr(host), Group: group}
		if e, ok := s.entries[key]; ok {
			delete(s.entries, key)
			s.change(dossier.Removed, e)
		}
	}
}

// Fill lists n hosts of 198.18.0.0/15 and 2001:db8::/32 in groups of 1000, a
// tenth of them IPv6.
func (s *Source) Fill(n int) {
	for from := 0; from < n; from += 1000 {
		var hosts []string
		for i := from; i < min(n, from+1000); i++ {
			hosts = append(hosts, Host(i).String())
		}
		s.List(fmt.Sprintf("group%06d", from/1000), []string{fmt.Sprintf("in dport=%d", 1+from/1000%65535)}, 50+from/1000%50, hosts...)
	}
}

// Host is the i-th host of Fill.
func Host(i int) netip.Addr {
	if i%10 == 9 {
		a := netip.MustParseAddr("2001:db8::").As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i)+1)
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 0x20000000+uint32(i)*7)
	return netip.AddrFrom4(a)
}

// Snapshot is that of publish.Source.
func (s *Source) Snapshot(context.Context) (publish.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := publish.Snapshot{Sequence: int64(len(s.changes))}
	for _, e := range s.entries {
		if e.Until > flow.FromTime(s.clock) {
			out.Entries = append(out.Entries, e)
		}
	}
	for _, g := range s.groups {
		out.Groups = append(out.Groups, g)
	}
	return out, nil
}

// Changes is that of publish.Source.
func (s *Source) Changes(_ context.Context, after int64, since flow.Time, limit int) ([]dossier.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []dossier.Change
	for _, c := range s.changes[min(int(after), len(s.changes)):] {
		if c.Time >= since && len(out) < limit {
			out = append(out, c)
		}
	}
	return slices.Clip(out), nil
}

// Feed is a refreshed feed of the source with the plain allow list.
func (s *Source) Feed(t testing.TB) *publish.Feed {
	t.Helper()
	f, err := publish.NewFeed(publish.DefaultConfiguration(), s, flow.NewAllowList(), s.Now)
	if err == nil {
		_, err = f.Refresh(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Refresh makes the feed's next view.
func Refresh(t testing.TB, f *publish.Feed) *publish.View {
	t.Helper()
	v, err := f.Refresh(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return v
}
