package clearinghouse

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/internal/state"
)

// EntryQuery says which entries or groups are wanted; what is zero does not narrow.
type EntryQuery struct {
	// Hosts are those within a prefix; a single host is a prefix of full
	// length.
	Hosts netip.Prefix `json:"hosts,omitzero"`
	Group string       `json:"group,omitempty"`
	// Pattern is in the pattern language. Who knows an undisclosed pattern finds
	// its group.
	Pattern string `json:"pattern,omitempty"`
	// Since and Before select by Last: seen in [Since, Before).
	Since         flow.Time `json:"since,omitzero"`
	Before        flow.Time `json:"before,omitzero"`
	MinConfidence int       `json:"min_confidence,omitempty"`
}

// MaxPage bounds the items of one page.
const MaxPage = 1000

const maxCursor = 256 << 10 // a pattern may be long

// ErrCursor says that a cursor is not one of ours.
var ErrCursor = errors.New("cursor of another clearinghouse or version; start again without one")

// cursor is a query with how far it came: clients that repeat or drop filters
// get the right next page.
type cursor struct {
	Query EntryQuery `json:"q"`
	Host  netip.Addr `json:"h,omitzero"`
	Group string     `json:"g"`
}

func (c cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s string) (c cursor, err error) {
	if len(s) > maxCursor {
		return c, ErrCursor
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &c) != nil || c.Group == "" {
		return c, ErrCursor
	}
	return c, nil
}

// cursorFor is the cursor to go on from.
func (q EntryQuery) cursorFor(at string) (cursor, error) {
	if at == "" {
		return cursor{Query: q}, nil
	}
	return parseCursor(at)
}

// conditions are the SQL of a query, on the columns of an entry; ok is false if
// nothing can match.
func (q *EntryQuery) conditions(tx *state.Tx, now flow.Time) (where []string, args []any, ok bool, err error) {
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	add("until > ?", int64(now))
	if q.Hosts.IsValid() {
		low, high := prefixRange(q.Hosts)
		add("host >= ? AND host <= ?", low[:], high[:])
	}
	if q.Group != "" {
		add("grp = ?", q.Group)
	}
	if q.Since != 0 {
		add("last >= ?", int64(q.Since))
	}
	if q.Before != 0 {
		add("last < ?", int64(q.Before))
	}
	if q.MinConfidence > 0 {
		add("confidence >= ?", q.MinConfidence)
	}
	if q.Pattern != "" {
		group, err := groupOf(tx, q.Pattern)
		if err != nil || group == "" {
			return nil, nil, false, err
		}
		add("grp = ?", group)
	}
	return where, args, true, nil
}

// ErrQuery says that a query cannot be understood.
var ErrQuery = errors.New("query")

func groupOf(tx *state.Tx, text string) (group string, err error) {
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrQuery, err)
	}
	canonical, err := p.Canonical()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrQuery, err)
	}
	id := dossier.PatternIDOf(canonical)
	err = tx.QueryRow(`SELECT grp FROM clearinghouse_group_pattern WHERE pattern = ?`, id[:]).Scan(&group)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return group, err
}

// prefixRange is the first and last address of a prefix, as 16 bytes.
func prefixRange(p netip.Prefix) (low, high [16]byte) {
	low = p.Masked().Addr().As16()
	high = low
	free := p.Addr().BitLen() - p.Bits()
	for i := 15; free > 0; i-- {
		n := min(free, 8)
		high[i] |= byte(1<<n - 1)
		free -= n
	}
	return low, high
}

const entryColumns = `host, grp, first, last, sources, witnesses, confidence, listed, until`

func scanEntry(r *sql.Rows) (dossier.Entry, error) {
	e := dossier.Entry{Version: dossier.EntryVersion}
	var host []byte
	err := r.Scan(&host, &e.Group, (*int64)(&e.First), (*int64)(&e.Last), &e.Sources, &e.Witnesses, &e.Confidence, (*int64)(&e.Listed), (*int64)(&e.Until))
	if addr, ok := netip.AddrFromSlice(host); ok {
		e.Host = addr.Unmap()
	} else if err == nil {
		err = fmt.Errorf("a stored host has %d bytes", len(host))
	}
	return e, err
}

// readEntries reads all that is published.
func readEntries(tx *state.Tx) (map[place]dossier.Entry, error) {
	out := map[place]dossier.Entry{}
	err := tx.Each(func(r *sql.Rows) error {
		e, err := scanEntry(r)
		out[place{e.Host, e.Group}] = e
		return err
	}, `SELECT `+entryColumns+` FROM clearinghouse_entry`)
	return out, err
}

// Entries gives a page of entries in order of hosts, and the cursor of the next
// page, empty on the last.
func (h *Core) Entries(ctx context.Context, q EntryQuery, at string, limit int) (page []dossier.Entry, next string, err error) {
	c, err := q.cursorFor(at)
	if err != nil {
		return nil, "", err
	}
	limit = clampLimit(limit)
	err = h.db.View(ctx, func(tx *state.Tx) error {
		page = nil
		where, args, ok, err := c.Query.conditions(tx, flow.FromTime(h.now()))
		if err != nil || !ok {
			return err
		}
		if c.Group != "" && c.Host.IsValid() {
			host := c.Host.As16()
			where, args = append(where, "(host > ? OR host = ? AND grp > ?)"), append(args, host[:], host[:], c.Group)
		}
		return tx.Each(func(r *sql.Rows) error {
			e, err := scanEntry(r)
			page = append(page, e)
			return err
		}, `SELECT `+entryColumns+` FROM clearinghouse_entry WHERE `+strings.Join(where, " AND ")+` ORDER BY host, grp LIMIT ?`, append(args, limit+1)...)
	})
	if len(page) > limit {
		page = page[:limit]
		last := page[limit-1]
		next = cursor{c.Query, last.Host, last.Group}.String()
	}
	return page, next, err
}

func clampLimit(limit int) int {
	if limit <= 0 || limit > MaxPage {
		return MaxPage
	}
	return limit
}

// readGroups reads all groups published.
func readGroups(tx *state.Tx) (map[string]dossier.Group, error) {
	out := map[string]dossier.Group{}
	err := tx.Each(func(r *sql.Rows) error {
		g, err := scanGroup(r)
		out[g.ID] = g
		return err
	}, `SELECT document FROM clearinghouse_group`)
	return out, err
}

func scanGroup(r *sql.Rows) (g dossier.Group, err error) {
	var document string
	if err = r.Scan(&document); err == nil {
		err = json.Unmarshal([]byte(document), &g)
	}
	return g, err
}

// Groups gives a page of the groups that have an entry the query selects, in
// order of their names.
func (h *Core) Groups(ctx context.Context, q EntryQuery, at string, limit int) (page []dossier.Group, next string, err error) {
	c, err := q.cursorFor(at)
	if err != nil {
		return nil, "", err
	}
	limit = clampLimit(limit)
	err = h.db.View(ctx, func(tx *state.Tx) error {
		page = nil
		where, args, ok, err := c.Query.conditions(tx, flow.FromTime(h.now()))
		if err != nil || !ok {
			return err
		}
		return tx.Each(func(r *sql.Rows) error {
			g, err := scanGroup(r)
			page = append(page, g)
			return err
		}, `SELECT document FROM clearinghouse_group WHERE name > ? AND name IN (SELECT grp FROM clearinghouse_entry WHERE `+strings.Join(where, " AND ")+`) ORDER BY name LIMIT ?`,
			append(append([]any{c.Group}, args...), limit+1)...)
	})
	if len(page) > limit {
		page = page[:limit]
		next = cursor{Query: c.Query, Group: page[limit-1].ID}.String()
	}
	return page, next, err
}

// Changes gives what was published after a change, the oldest first; of one
// host alone where that is valid: its history.
func (h *Core) Changes(ctx context.Context, host netip.Addr, after int64, limit int) (page []dossier.Change, err error) {
	where, args := "id > ?", []any{after}
	if host.IsValid() {
		a := host.As16()
		where, args = where+" AND host = ?", append(args, a[:])
	}
	err = h.db.View(ctx, func(tx *state.Tx) error {
		page = nil
		return tx.Each(func(r *sql.Rows) error {
			c, err := scanChange(r)
			page = append(page, c)
			return err
		}, `SELECT id, time, kind, entry FROM clearinghouse_change WHERE `+where+` ORDER BY id LIMIT ?`, append(args, clampLimit(limit))...)
	})
	return page, err
}
