package mirror

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"dragnet/publish"
)

// Lists writes all entries as JSON lines, as CSV, and as plain lists of
// addresses.
func Lists(v *publish.View, create publish.Create) error {
	out, err := create("entries.jsonl")
	if err != nil {
		return err
	}
	if err := writeLines(out, v); err != nil {
		return err
	}
	if out, err = create("entries.csv"); err != nil {
		return err
	}
	if err := writeTable(out, v); err != nil {
		return err
	}
	for _, family := range []struct {
		path string
		six  bool
	}{{"hosts4.txt", false}, {"hosts6.txt", true}} {
		if out, err = create(family.path); err != nil {
			return err
		}
		v.EachHost(v.Time, func(rows []publish.Row) bool {
			if rows[0].Host.Is6() == family.six {
				_, err = fmt.Fprintln(out, rows[0].Host)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeLines(w io.Writer, v *publish.View) error {
	var b []byte
	for i := range v.Rows {
		if r := &v.Rows[i]; r.Until > v.Time {
			b = append(r.AppendJSON(b[:0]), '\n')
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeHosts lists the hosts of groups, one a line.
func writeHosts(w io.Writer, v *publish.View, groups ...string) error {
	var b []byte
	for _, name := range groups {
		for _, i := range v.InGroup(name) {
			if r := &v.Rows[i]; r.Until > v.Time {
				b = append(r.Host.AppendTo(b[:0]), '\n')
				if _, err := w.Write(b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func writeTable(w io.Writer, v *publish.View) error {
	c := csv.NewWriter(w)
	if err := c.Write([]string{"host", "group", "first_seen", "last_seen", "sources", "witnesses", "confidence", "listed", "until", "reason"}); err != nil {
		return err
	}
	for i := range v.Rows {
		r := &v.Rows[i]
		if r.Until <= v.Time {
			continue
		}
		if err := c.Write([]string{r.Host.String(), r.Entry.Group, r.First.String(), r.Last.String(), strconv.Itoa(r.Sources), strconv.Itoa(r.Witnesses),
			strconv.Itoa(r.Confidence), r.Listed.String(), r.Until.String(), r.Reason()}); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Groups writes what is published of each group, a list of its
// hosts, and one of the hosts of each disclosed pattern with an index.
func Groups(v *publish.View, create publish.Create) error {
	out, err := create("groups.jsonl")
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	patterns, groups := map[string][]string{}, v.GroupNames()
	var order []string
	for _, name := range groups {
		g := v.Groups[name]
		if err := enc.Encode(g); err != nil {
			return err
		}
		for _, p := range g.Patterns {
			if patterns[p] == nil {
				order = append(order, p)
			}
			patterns[p] = append(patterns[p], name)
		}
	}
	for _, name := range groups {
		if out, err = create("group/" + name + ".txt"); err != nil {
			return err
		}
		if err := writeHosts(out, v, name); err != nil {
			return err
		}
	}
	return writePatterns(v, create, order, patterns)
}

func writePatterns(v *publish.View, create publish.Create, order []string, groups map[string][]string) error {
	index, err := create("patterns.csv")
	if err != nil {
		return err
	}
	c := csv.NewWriter(index)
	if err := c.Write([]string{"file", "pattern"}); err != nil {
		return err
	}
	for _, p := range order {
		if err := c.Write([]string{patternPath(p), p}); err != nil {
			return err
		}
	}
	c.Flush()
	for _, p := range order {
		out, err := create(patternPath(p))
		if err != nil {
			return err
		}
		if err := writeHosts(out, v, groups[p]...); err != nil {
			return err
		}
	}
	return c.Error()
}

// patternPath names a file by the start of the SHA-256 of the pattern's text.
func patternPath(p string) string {
	return fmt.Sprintf("pattern/%x.txt", sha256.Sum256([]byte(p)))[:len("pattern/")+16] + ".txt"
}
