package mirror

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/publish"
)

// Lines writes all entries as JSON lines.
func Lines(v *publish.View, out publish.Out) error {
	w, err := out.Create("entries.jsonl")
	if err != nil {
		return err
	}
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

// Hosts writes plain lists of addresses.
func Hosts(v *publish.View, out publish.Out) error {
	var b []byte
	for _, family := range []struct {
		path string
		six  bool
	}{{"hosts4.txt", false}, {"hosts6.txt", true}} {
		w, err := out.Create(family.path)
		if err != nil {
			return err
		}
		v.EachHost(v.Time, func(rows []publish.Row) bool {
			if rows[0].Host.Is6() == family.six {
				b = append(rows[0].Host.AppendTo(b[:0]), '\n')
				_, err = w.Write(b)
			}
			return err == nil
		})
		if err != nil {
			return err
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

// Table writes all entries as CSV.
func Table(v *publish.View, out publish.Out) error {
	w, err := out.Create("entries.csv")
	if err != nil {
		return err
	}
	c := csv.NewWriter(w)
	if err := c.Write([]string{"host", "group", "first_seen", "last_seen", "sources", "witnesses", "confidence", "listed", "until", "reason"}); err != nil {
		return err
	}
	c.Flush()
	var b []byte
	for i := range v.Rows {
		if r := &v.Rows[i]; err == nil && r.Until > v.Time {
			b = appendRecord(b[:0], r)
			_, err = w.Write(b)
		}
	}
	return errors.Join(c.Error(), err)
}

// appendRecord appends what encoding/csv would write; a reason holds a comma and
// no quotation mark.
func appendRecord(b []byte, r *publish.Row) []byte {
	b = append(r.Host.AppendTo(b), ',')
	if strings.ContainsAny(r.Entry.Group, ",\"\r\n") || r.Entry.Group == "" {
		b = append(append(append(b, '"'), strings.ReplaceAll(r.Entry.Group, `"`, `""`)...), '"')
	} else {
		b = append(b, r.Entry.Group...)
	}
	b = appendTime(appendTime(b, r.First), r.Last)
	for _, n := range [...]int{r.Sources, r.Witnesses, r.Confidence} {
		b = strconv.AppendInt(append(b, ','), int64(n), 10)
	}
	b = appendTime(appendTime(b, r.Listed), r.Until)
	return append(r.AppendReason(append(b, ',', '"')), '"', '\n')
}

func appendTime(b []byte, t flow.Time) []byte {
	return t.Time().AppendFormat(append(b, ','), time.RFC3339Nano)
}

// Groups writes what is published of each group, a list of its
// hosts, and one of the hosts of each disclosed pattern with an index.
func Groups(v *publish.View, out publish.Out) error {
	w, err := out.Create("groups.jsonl")
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
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
		path := "group/" + name + ".txt"
		if out.Kept(path, v.Since(name)) {
			continue
		}
		if w, err = out.Create(path); err != nil {
			return err
		}
		if err := writeHosts(w, v, name); err != nil {
			return err
		}
	}
	return writePatterns(v, out, order, patterns)
}

func writePatterns(v *publish.View, to publish.Out, order []string, groups map[string][]string) error {
	index, err := to.Create("patterns.csv")
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
		since := v.SinceGroups()
		for _, name := range groups[p] {
			since = max(since, v.Since(name))
		}
		if to.Kept(patternPath(p), since) {
			continue
		}
		out, err := to.Create(patternPath(p))
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
