package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dragnet/flow"
	"dragnet/store"
)

// Page asks for a part of a list.
type Page struct {
	// Limit is how many rows there may be.
	Limit int
	// Last asks for the last rows rather than the first; they too are in order
	// of time.
	Last bool
	// After is the last row of the page before, or with Last its earliest; Equal
	// counts the rows equal to it that were returned. Nil asks for the first page.
	After *ListedFlow
	Equal int
}

// MaxEqual bounds the equal rows after which a list can continue.
const MaxEqual = 100_000

// List returns a page of the selected flows, and the next page; nil if there is
// none.
func List(ctx context.Context, log store.Reader, s Selection, p Page) (rows []ListedFlow, next *Page, cov flow.Coverage, err error) {
	if p.Equal < 0 || p.Equal > MaxEqual {
		return nil, nil, cov, fmt.Errorf("more than %d equal flows in a row: narrow the filter or the time", MaxEqual)
	}
	k := keeper{page: p, most: p.Limit + p.Equal + 1}
	kept, err := log.Coverage(ctx)
	if err != nil {
		return nil, nil, cov, err
	}
	for w := range searchWindows(s.Window, kept, p) {
		if cov, err = s.scanSelected(ctx, log, w, func(f *flow.Flow) error { k.addRow(RowOf(f)); return nil }); err != nil {
			return nil, nil, cov, err
		}
		if len(k.rows) >= k.most {
			break
		}
	}
	rows = k.pageRows()
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = p.nextPage(rows)
	}
	if p.Last {
		slices.Reverse(rows)
	}
	return rows, next, cov, nil
}

// nextPage returns the page after rows, which are in the order of the paging.
func (p Page) nextPage(rows []ListedFlow) *Page {
	end := rows[len(rows)-1]
	n := Page{Limit: p.Limit, Last: p.Last, After: &end}
	for i := len(rows) - 1; i >= 0 && rows[i].Compare(end) == 0; i-- {
		n.Equal++
	}
	if n.Equal == len(rows) && p.After != nil && p.After.Compare(end) == 0 {
		n.Equal += p.Equal
	}
	return &n
}

// firstSpan is how much time is searched first. It is small compared to a segment,
// of which only the blocks within the time are read.
const firstSpan = flow.Time(time.Minute)

// searchWindows yields consecutive windows, each four times as long as the one
// before, that cover all flows in w; the page may be full long before the last.
func searchWindows(w flow.Window, cov flow.Coverage, p Page) func(func(flow.Window) bool) {
	from, to := max(w.From, cov.From), cov.To // to is included
	if w.To != 0 {
		to = min(to, w.To-1)
	}
	if p.After != nil && p.Last {
		to = min(to, p.After.Start)
	} else if p.After != nil {
		from = max(from, p.After.Start)
	}
	return func(yield func(flow.Window) bool) {
		if cov.Flows == 0 {
			return
		}
		for length := firstSpan; from <= to; length *= 4 {
			// Unsigned, since the span from 1677 to 2262 overflows.
			all := uint64(to) - uint64(from)
			part := flow.Window{From: from, To: to + 1}
			whole := all < uint64(length) || length > flow.Time(1<<60)
			if !whole && p.Last {
				part.From, to = to-length, to-length-1
			} else if !whole {
				part.To, from = from+length, from+length
			}
			if part.To == 0 || to == flow.MaxTime && whole { // 0 means no end
				part.To = 0
			}
			if !yield(part) || whole {
				return
			}
		}
	}
}

// keeper keeps the first rows in the order of the paging.
type keeper struct {
	page Page
	most int
	rows []ListedFlow
}

// compareRows compares in the order of the paging.
func (k *keeper) compareRows(a, b ListedFlow) int {
	if k.page.Last {
		return b.Compare(a)
	}
	return a.Compare(b)
}

func (k *keeper) addRow(r ListedFlow) {
	if k.page.After != nil && k.compareRows(r, *k.page.After) < 0 {
		return
	}
	if k.rows = append(k.rows, r); len(k.rows) >= 2*k.most {
		k.trimRows()
	}
}

func (k *keeper) trimRows() {
	slices.SortFunc(k.rows, k.compareRows)
	k.rows = k.rows[:min(len(k.rows), k.most)]
}

// pageRows returns the rows that the page before did not have.
func (k *keeper) pageRows() []ListedFlow {
	k.trimRows()
	given := 0
	for given < min(len(k.rows), k.page.Equal) && k.page.After != nil && k.rows[given].Compare(*k.page.After) == 0 {
		given++
	}
	return k.rows[given:]
}
