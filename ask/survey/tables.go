package survey

import (
	"fmt"
	"strings"

	"dragnet/flow/key"
)

// Table is part of a result as people read it.
type Table struct {
	Title  string
	Header []string
	Cells  [][]string
}

// Tables lays the result out: cost and uniqueness, the distribution, and the
// protection.
func (r *Result) Tables() []Table {
	out := []Table{r.cost(), r.perKey()}
	for i := range r.Hashes {
		if len(r.Hashes[i].Candidates) > 0 {
			return append(out, r.protection())
		}
	}
	return out
}

func (r *Result) cost() Table {
	t := Table{
		Title: "Uniqueness, and what one question costs (median / 95 % / 99 % / most)",
		Header: []string{
			"hash", "keys", "unique connections", "unique keys", "answers", "bytes of testimony", "ms per million",
		},
	}
	for i := range r.Hashes {
		h := &r.Hashes[i]
		a, bytes := h.Answers, "-"
		if b := h.Bytes; b != nil && b.Questions > 0 {
			bytes = fmt.Sprintf("%.0f / %.0f / %.0f / %.0f", b.Median, b.P95, b.P99, b.Max)
			if b.TooLarge > 0 {
				bytes += fmt.Sprintf(" (%d of %d larger)", b.TooLarge, b.TooLarge+b.Questions)
			}
		}
		t.Cells = append(t.Cells, []string{
			h.Hash, fmt.Sprint(h.Keys), Percent(h.UniqueConnections), Percent(h.UniqueKeys),
			fmt.Sprintf("%.0f / %.0f / %.0f / %.0f", a.Median, a.P95, a.P99, a.Max), bytes, fmt.Sprintf("%.1f", h.Milliseconds),
		})
	}
	return t
}

func (r *Result) perKey() Table {
	t := Table{Title: "Share of keys that stand for at most that many tuples", Header: []string{"hash"}}
	for _, step := range Steps() {
		t.Header = append(t.Header, fmt.Sprint(step))
	}
	for i := range r.Hashes {
		cells := []string{r.Hashes[i].Hash}
		for _, at := range r.Hashes[i].PerKey {
			cells = append(cells, Percent(at.Keys))
		}
		t.Cells = append(t.Cells, cells)
	}
	return t
}

func (r *Result) protection() Table {
	t := Table{Title: "Candidates for a reader who saw none of the traffic (median; 5 % of questions leave no more than)", Header: []string{"hash"}}
	var knowing []string
	for _, c := range r.Hashes[0].Candidates {
		knowing = append(knowing, c.Knowing)
		t.Header = append(t.Header, "knowing "+strings.ReplaceAll(c.Knowing, "near", r.Near))
	}
	for i := range r.Hashes {
		cells := []string{r.Hashes[i].Hash}
		for _, k := range knowing {
			cell := "-"
			if c := r.Hashes[i].Knowing(k); c != nil {
				cell = fmt.Sprintf("%s; %s", Count(c.Median), Count(c.P5))
			}
			cells = append(cells, cell)
		}
		t.Cells = append(t.Cells, cells)
	}
	return t
}

// Knowing is what a reader with that knowledge faces, nil if not measured.
func (r *Row) Knowing(what string) *Candidates {
	for i := range r.Candidates {
		if r.Candidates[i].Knowing == what {
			return &r.Candidates[i]
		}
	}
	return nil
}

// Percent prints a share with three digits near both ends.
func Percent(share float64) string {
	switch p := 100 * share; {
	case p == 0 || p == 100:
		return fmt.Sprintf("%.0f %%", p)
	case p < 10 || p > 99:
		return fmt.Sprintf("%.2f %%", p)
	default:
		return fmt.Sprintf("%.1f %%", p)
	}
}

// Count prints a number of candidates: digits up to a million, then a power.
func Count(n float64) string {
	if n < 1e6 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.2g", n)
}

// Recommend is the row of linear keys of the recommended size, nil if that was
// not surveyed.
func (r *Result) Recommend() *Row {
	for i := range r.Hashes {
		if h := r.Hashes[i].Function; h.Kind == key.Linear && int(h.Bits) == r.Recommended {
			return &r.Hashes[i]
		}
	}
	return nil
}
