package publish

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
)

// Query says which rows are wanted; what is zero does not narrow.
type Query struct {
	// Hosts are those within a prefix.
	Hosts netip.Prefix `json:"h,omitzero"`
	Group string       `json:"g,omitempty"`
	// Pattern is in the pattern language; it selects groups that disclose it.
	Pattern string `json:"p,omitempty"`
	// Since and Before select by Last: seen in [Since, Before).
	Since         flow.Time `json:"s,omitzero"`
	Before        flow.Time `json:"b,omitzero"`
	MinConfidence int       `json:"c,omitempty"`
	// Filter is in the language of Filter. Now is what its relative times, and
	// the rows' lives, are measured against: that of the first page.
	Filter string    `json:"f,omitempty"`
	Now    flow.Time `json:"n"`
}

// Bounds of a page.
const (
	MaxPage = 1000
	// maxScan bounds the rows that one page looks at: a filter that selects
	// nothing yields short pages, not long work.
	maxScan = 250_000
	// maxQueryCursor bounds a cursor in bytes.
	maxQueryCursor = 256 << 10
)

// Why a query is not answered.
var (
	ErrCursor = errors.New("the cursor is not one of ours, or from before a restart; start again without one")
	ErrQuery  = errors.New("query")
)

// Cursors seals cursors, so that only those that were given out are taken.
type Cursors struct{ key [32]byte }

// NewCursors makes cursors under a secret; those of equal secrets are
// interchangeable.
func NewCursors(secret []byte) *Cursors {
	return &Cursors{sha256.Sum256(append([]byte("dragnet cursor 1"), secret...))}
}

// Seal makes an opaque text of a value.
func (c *Cursors) Seal(v any) (string, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return cursorText.EncodeToString(append(c.tag(body), body...)), nil
}

// Open reads what Seal wrote; all else is ErrCursor.
func (c *Cursors) Open(text string, v any) error {
	if len(text) > maxQueryCursor {
		return ErrCursor
	}
	b, err := cursorText.DecodeString(text)
	if err != nil || len(b) < tagSize || cursorText.EncodeToString(b) != text || !hmac.Equal(b[:tagSize], c.tag(b[tagSize:])) || json.Unmarshal(b[tagSize:], v) != nil {
		return ErrCursor
	}
	return nil
}

const tagSize = 16

var cursorText = base64.RawURLEncoding

func (c *Cursors) tag(body []byte) []byte {
	m := hmac.New(sha256.New, c.key[:])
	m.Write(body)
	return m.Sum(nil)[:tagSize]
}

// queryCursor is a query with how far it came: clients that repeat or drop
// filters get the right next page.
type queryCursor struct {
	Query Query      `json:"q"`
	Host  netip.Addr `json:"h"`
	Group string     `json:"g"`
}

// Page gives at most limit rows that a query selects, in order of hosts, and
// the cursor of the next page, empty on the last. A page may be short, even
// empty, and have a next one. A cursor carries its query, so q is ignored.
func (v *View) Page(c *Cursors, q Query, cursor string, limit int) (rows []Row, next string, err error) {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	start := RowKey{}
	if q.Hosts.IsValid() {
		start.Host = q.Hosts.Masked().Addr()
	}
	if cursor != "" {
		var at queryCursor
		if err := c.Open(cursor, &at); err != nil {
			return nil, "", err
		}
		q, start = at.Query, RowKey{at.Host, at.Group}
	}
	s, err := newSelector(v, &q)
	if err != nil {
		return nil, "", err
	}
	for i, scanned := s.first(start), 0; i < s.length(); i, scanned = i+1, scanned+1 {
		r := s.row(i)
		if q.Hosts.IsValid() && !q.Hosts.Contains(r.Host) && r.Host.Compare(start.Host) > 0 {
			break
		}
		if scanned == maxScan || len(rows) == limit {
			next, err = c.Seal(queryCursor{q, r.Host, r.Entry.Group})
			return rows, next, err
		}
		if s.selects(r) {
			rows = append(rows, *r)
		}
	}
	return rows, "", nil
}

// selector is a query made ready: over all rows, or those of one group.
type selector struct {
	view    *View
	query   *Query
	filter  *RowFilter
	within  []int32
	grouped bool
	groups  map[string]bool // that disclose the pattern; nil for all
}

func newSelector(v *View, q *Query) (*selector, error) {
	if q.Now == 0 {
		q.Now = v.Time
	}
	filter, err := ParseFilter(q.Filter, q.Now)
	if err != nil {
		return nil, err
	}
	s := &selector{view: v, query: q, filter: filter}
	if q.Group != "" {
		s.within, s.grouped = v.InGroup(q.Group), true
	}
	if q.Pattern != "" {
		if s.groups, err = v.disclosing(q.Pattern); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// disclosing finds the groups that disclose a pattern, however it is written.
func (v *View) disclosing(text string) (map[string]bool, error) {
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	canonical, err := p.Canonical()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	found := map[string]bool{}
	for name, g := range v.Groups {
		if slices.Contains(g.Patterns, canonical) {
			found[name] = true
		}
	}
	return found, nil
}

func (s *selector) length() int {
	if s.grouped {
		return len(s.within)
	}
	return len(s.view.Rows)
}

func (s *selector) row(i int) *Row {
	if s.grouped {
		return &s.view.Rows[s.within[i]]
	}
	return &s.view.Rows[i]
}

func (s *selector) first(k RowKey) int {
	if !s.grouped {
		return s.view.search(k)
	}
	i, _ := slices.BinarySearchFunc(s.within, k, func(at int32, k RowKey) int { return s.view.Rows[at].Key().Compare(k) })
	return i
}

func (s *selector) selects(r *Row) bool {
	q := s.query
	switch {
	case r.Until <= q.Now,
		q.Hosts.IsValid() && !q.Hosts.Contains(r.Host),
		q.Since != 0 && r.Last < q.Since,
		q.Before != 0 && r.Last >= q.Before,
		r.Confidence < q.MinConfidence,
		s.groups != nil && !s.groups[r.Entry.Group]:
		return false
	}
	return s.filter.Matches(r)
}

// GroupPage gives at most limit groups after one, in order of their names.
func (v *View) GroupPage(after string, limit int) (page []*dossier.Group, more bool) {
	names := v.GroupNames()
	at, found := slices.BinarySearch(names, after)
	if found {
		at++
	}
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	for _, name := range names[at:min(len(names), at+limit)] {
		page = append(page, v.Groups[name])
	}
	return page, at+limit < len(names)
}
