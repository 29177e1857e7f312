package clearinghouse

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"dragnet/clearinghouse/merge"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
)

// Published says what a batch changed.
type Published struct {
	Time                     flow.Time
	Groups, Entries, Reports int
	Listed, Updated, Removed int
	// Damaged are stored reports that could not be read, and were left out.
	Damaged int
}

// errMoved says that another process published meanwhile, from newer reports
// perhaps.
var errMoved = errors.New("another batch was published meanwhile")

// LastBatch is the number of the newest batch; 0 before the first.
func (h *Core) LastBatch(ctx context.Context) (number int64, err error) {
	err = h.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT COALESCE(MAX(number), 0) FROM clearinghouse_batch`).Scan(&number)
	})
	return number, err
}

// Publish makes what is published follow from the reports that live now, in one
// transaction. Reports go on being taken meanwhile.
func (h *Core) Publish(ctx context.Context) (Published, error) {
	for attempt := 0; ; attempt++ {
		p, err := h.publish(ctx)
		if !errors.Is(err, errMoved) || attempt == 10 {
			return p, errors.Join(err, h.measureShares(ctx))
		}
	}
}

func (h *Core) publish(ctx context.Context) (Published, error) {
	now := flow.FromTime(h.now())
	b := &batch{core: h, now: now, time: roundTime(now, h.config.Grain), patterns: map[dossier.PatternID]*known{}, byRow: map[int]*known{}, merger: merge.New(h.config.rules())}
	if err := h.db.View(ctx, b.readReports); err != nil {
		return Published{}, fmt.Errorf("publish: %w", err)
	}
	b.decideEntries()
	err := h.db.Update(ctx, b.write)
	if errors.Is(err, errMoved) {
		return Published{}, errMoved
	}
	if err != nil {
		return Published{}, fmt.Errorf("publish: %w", err)
	}
	return b.done, nil
}

// batch is one publication under way: read, decide, write.
type batch struct {
	core      *Core
	now, time flow.Time

	number   int64
	patterns map[dossier.PatternID]*known
	byRow    map[int]*known
	merger   *merge.Merger
	never    []netip.Prefix
	was      map[place]dossier.Entry
	wasGroup map[string]dossier.Group

	is      map[place]dossier.Entry
	isGroup map[string]dossier.Group
	inGroup map[dossier.PatternID]string
	done    Published
}

// known is a stored pattern.
type known struct {
	row    int
	id     dossier.PatternID
	text   string
	hidden bool   // one of its reporters does not want it published
	group  string // in which it is published now, if any
	bytes  int64  // of its live reports
}

// place is what makes an entry the same entry.
type place struct {
	host  netip.Addr
	group string
}

func (b *batch) readReports(tx *state.Tx) error {
	if err := tx.QueryRow(`SELECT COALESCE(MAX(number), 0) FROM clearinghouse_batch`).Scan(&b.number); err != nil {
		return err
	}
	if err := b.readPatterns(tx); err != nil {
		return err
	}
	for _, row := range slices.Sorted(maps.Keys(b.byRow)) {
		if err := b.mergePattern(tx, b.byRow[row]); err != nil {
			return err
		}
	}
	var err error
	if b.never, err = b.core.exemptPrefixes(tx, b.now); err != nil {
		return err
	}
	if b.was, err = readEntries(tx); err != nil {
		return err
	}
	b.wasGroup, err = readGroups(tx)
	return err
}

// readPatterns reads those patterns that enough classes reported for a host to be
// agreed on. The others publish nothing, whatever is in their reports.
func (b *batch) readPatterns(tx *state.Tx) error {
	if err := tx.QueryRow(`SELECT COUNT(*) FROM clearinghouse_report WHERE voided = 0 AND until > ?`, int64(b.now)).Scan(&b.done.Reports); err != nil {
		return err
	}
	return tx.Each(func(r *sql.Rows) error {
		var k known
		var digest []byte
		err := r.Scan(&k.row, &digest, &k.text, &k.group, &k.bytes)
		if err == nil && len(digest) != len(k.id) {
			err = fmt.Errorf("the pattern of a stored report is damaged: %x", digest)
		}
		if err != nil {
			return err
		}
		k.id = dossier.PatternID(digest)
		b.patterns[k.id], b.byRow[k.row] = &k, &k
		return nil
	}, `SELECT p.id, p.digest, p.text, COALESCE(g.grp, ''), r.bytes
		FROM (SELECT pattern, SUM(LENGTH(body)) AS bytes FROM clearinghouse_report
			WHERE voided = 0 AND until > ? GROUP BY pattern HAVING COUNT(DISTINCT class) >= ?) r
		JOIN clearinghouse_pattern p ON p.digest = r.pattern
		LEFT JOIN clearinghouse_group_pattern g ON g.pattern = p.digest`, int64(b.now), b.core.config.Floor)
}

const (
	// hostBytes is how much a host takes in a report, at least.
	hostBytes = 23
	// atOnce bounds the hosts that are counted at a time, about 180 bytes each: a
	// pattern with more is read several times, each time for a part of its hosts.
	atOnce = 1 << 19
)

// mergePattern adds the reports of one pattern, one at a time.
func (b *batch) mergePattern(tx *state.Tx, k *known) error {
	parts := int(k.bytes/hostBytes/atOnce) + 1
	for i := range parts {
		err := tx.Each(func(r *sql.Rows) error {
			var class string
			var body []byte
			if err := r.Scan(&class, &body); err != nil {
				return err
			}
			var report dossier.Report
			if err := report.UnmarshalBinary(body); err != nil {
				// The others must not wait for its repair. Whether it disclosed the pattern is not known.
				k.hidden = true
				if i == 0 {
					b.done.Damaged++
				}
				return nil
			}
			k.hidden = k.hidden || !report.Disclose
			b.merger.AddPart(merge.LiveReport{Pattern: k.row, Class: class, Report: &report}, merge.HostShare{Index: i, Of: parts})
			return nil
		}, `SELECT class, body FROM clearinghouse_report WHERE pattern = ? AND voided = 0 AND until > ?`, k.id[:], int64(b.now))
		if err != nil {
			return err
		}
		b.merger.Settle()
	}
	return nil
}

// decideEntries computes what is to be published.
func (b *batch) decideEntries() {
	b.is, b.isGroup, b.inGroup = map[place]dossier.Entry{}, map[string]dossier.Group{}, map[dossier.PatternID]string{}
	for _, g := range b.merger.Groups() {
		name := b.nameGroup(&g)
		out := dossier.Group{Version: dossier.GroupVersion, ID: name, Patterns: []string{}, Updated: b.time}
		for i := range g.Hosts {
			host := &g.Hosts[i]
			if _, protected := b.core.allow.Protects(host.Addr); protected || flow.Within(b.never, host.Addr) {
				continue
			}
			e := b.core.newEntry(name, host, b.time)
			at := place{e.Host, name}
			if was, ok := b.was[at]; ok {
				e.Listed = was.Listed
			}
			b.is[at] = e
			if out.Hosts++; out.Hosts == 1 {
				out.First, out.Last = e.First, e.Last
			}
			out.First, out.Last = min(out.First, e.First), max(out.Last, e.Last)
			out.Sources, out.Confidence = max(out.Sources, e.Sources), max(out.Confidence, e.Confidence)
		}
		if out.Hosts == 0 {
			continue
		}
		for _, row := range g.Patterns {
			k := b.byRow[row]
			b.inGroup[k.id] = name
			if k.hidden {
				out.Undisclosed++
			} else {
				out.Patterns = append(out.Patterns, k.text)
			}
		}
		slices.Sort(out.Patterns)
		b.keepIfSame(&out)
		b.isGroup[name] = out
	}
	b.done.Groups, b.done.Entries, b.done.Time = len(b.isGroup), len(b.is), b.time
}

// nameGroup is the one that the group's oldest published pattern bore, unless an
// older group of this batch bears it, or a new one.
func (b *batch) nameGroup(g *merge.PatternGroup) string {
	for _, row := range g.Patterns {
		name := b.byRow[row].group
		if _, taken := b.isGroup[name]; name != "" && !taken {
			return name
		}
	}
	return randomName()
}

// keepIfSame leaves the time of a group that did not change.
func (b *batch) keepIfSame(g *dossier.Group) {
	was, ok := b.wasGroup[g.ID]
	if !ok {
		return
	}
	now, err1 := json.Marshal(*g)
	was.Updated = g.Updated
	old, err2 := json.Marshal(was)
	if err1 == nil && err2 == nil && string(now) == string(old) {
		g.Updated = b.wasGroup[g.ID].Updated
	}
}

func (b *batch) write(tx *state.Tx) error {
	var number int64
	if err := tx.QueryRow(`SELECT COALESCE(MAX(number), 0) FROM clearinghouse_batch`).Scan(&number); err != nil {
		return err
	}
	if number != b.number {
		return errMoved
	}
	if _, err := tx.Exec(`INSERT INTO clearinghouse_batch (number, time) VALUES (?, ?)`, number+1, int64(b.time)); err != nil {
		return err
	}
	b.done.Listed, b.done.Updated, b.done.Removed = 0, 0, 0
	if err := b.writeEntries(tx); err != nil {
		return err
	}
	if err := b.writeGroups(tx); err != nil {
		return err
	}
	return b.deleteExpired(tx)
}

// writeEntries writes the differences, each with its change, in the order of
// hosts: an order of arrival would tell more.
func (b *batch) writeEntries(tx *state.Tx) error {
	places := map[place]bool{}
	for at := range b.was {
		places[at] = true
	}
	for at := range b.is {
		places[at] = true
	}
	for _, at := range sortedPlaces(places) {
		was, had := b.was[at]
		is, has := b.is[at]
		kind := dossier.Updated
		switch {
		case had && has && was == is:
			continue
		case !has:
			kind, is = dossier.Removed, was
			b.done.Removed++
		case !had:
			kind = dossier.Listed
			b.done.Listed++
		default:
			b.done.Updated++
		}
		if err := writeEntry(tx, kind, is, b.time); err != nil {
			return err
		}
	}
	return nil
}

func sortedPlaces(all map[place]bool) []place {
	out := make([]place, 0, len(all))
	for at := range all {
		out = append(out, at)
	}
	slices.SortFunc(out, func(x, y place) int {
		if c := x.host.Compare(y.host); c != 0 {
			return c
		}
		if x.group < y.group {
			return -1
		}
		return 1
	})
	return out
}

func writeEntry(tx *state.Tx, kind dossier.ChangeKind, e dossier.Entry, at flow.Time) error {
	host := e.Host.As16()
	_, err := tx.Exec(`DELETE FROM clearinghouse_entry WHERE host = ? AND grp = ?`, host[:], e.Group)
	if err == nil && kind != dossier.Removed {
		_, err = tx.Exec(`INSERT INTO clearinghouse_entry (host, grp, first, last, sources, witnesses, confidence, listed, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			host[:], e.Group, int64(e.First), int64(e.Last), e.Sources, e.Witnesses, e.Confidence, int64(e.Listed), int64(e.Until))
	}
	if err != nil {
		return err
	}
	document, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO clearinghouse_change (time, host, kind, entry) VALUES (?, ?, ?, ?)`, int64(at), host[:], string(kind), string(document))
	return err
}

func (b *batch) writeGroups(tx *state.Tx) error {
	for _, table := range []string{"clearinghouse_group", "clearinghouse_group_pattern"} {
		if _, err := tx.Exec(`DELETE FROM ` + table); err != nil {
			return err
		}
	}
	for name, g := range b.isGroup {
		document, err := json.Marshal(g)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO clearinghouse_group (name, document) VALUES (?, ?)`, name, string(document)); err != nil {
			return err
		}
	}
	for id, name := range b.inGroup {
		if _, err := tx.Exec(`INSERT INTO clearinghouse_group_pattern (pattern, grp) VALUES (?, ?)`, id[:], name); err != nil {
			return err
		}
	}
	return nil
}

// deleteExpired drops what need not be kept any longer.
func (b *batch) deleteExpired(tx *state.Tx) error {
	before := func(d time.Duration) int64 { return int64(b.now) - int64(d) }
	retain := before(b.core.config.Retain)
	for _, s := range []struct {
		statement string
		args      []any
	}{
		{`DELETE FROM clearinghouse_report WHERE until < ?`, []any{retain}},
		{`DELETE FROM clearinghouse_report WHERE voided > 0 AND voided < ?`, []any{retain}},
		{`DELETE FROM clearinghouse_pattern WHERE digest NOT IN (SELECT pattern FROM clearinghouse_report)`, nil},
		{`DELETE FROM clearinghouse_change WHERE time < ?`, []any{before(b.core.config.History)}},
		{`DELETE FROM clearinghouse_batch WHERE number < ?`, []any{b.number - 1000}},
		{`DELETE FROM clearinghouse_objection WHERE state <> 'open' AND until < ? AND received < ?`, []any{retain, retain}},
	} {
		if _, err := tx.Exec(s.statement, s.args...); err != nil {
			return err
		}
	}
	return nil
}
