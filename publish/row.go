// Package publish hands out what a clearinghouse knows, or what a node decided,
// in the forms that operators already consume. Its folders are one outside
// format each. All of them read the same View, which holds Entries, and an Entry
// has no field for who reported or saw a host.
package publish

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// Row is an entry with what is published of its group.
type Row struct {
	dossier.Entry
	// Of is the group; never nil.
	Of *dossier.Group
	// Sequence and Changed are the last change of the entry and the time of its
	// batch; Changed differs between any two changes.
	Sequence int64
	Changed  flow.Time

	text string // PatternText of the group, once for many rows
}

// RowKey is what makes a row the same row.
type RowKey struct {
	Host  netip.Addr
	Group string
}

// Key is the row's own.
func (r *Row) Key() RowKey { return RowKey{r.Host, r.Entry.Group} }

// Compare orders by host, then group.
func (k RowKey) Compare(o RowKey) int {
	return cmp.Or(k.Host.Compare(o.Host), cmp.Compare(k.Group, o.Group))
}

// maxReason bounds the pattern within a reason, in bytes.
const maxReason = 120

// Reason says why the host is listed: under which pattern, how many independent
// organisations reported it at least, since when. It is printable ASCII
// without quotation marks, tabs and backslashes, so that no format needs to
// escape it.
func (r *Row) Reason() string { return string(r.AppendReason(nil)) }

// AppendReason appends Reason.
func (r *Row) AppendReason(b []byte) []byte {
	text := r.text
	if text == "" {
		text = PatternText(r.Of)
	}
	b = append(b, text...)
	b = append(b, ", reported by at least "...)
	b = strconv.AppendInt(b, int64(r.Sources), 10)
	b = append(b, " independent organisations since "...)
	return r.First.Time().AppendFormat(b, time.RFC3339)
}

// AppendJSON appends the row's entry and its reason as one JSON object. It is
// what encoding/json would write, at a tenth of its time: a publication has many
// rows, in several files.
func (r *Row) AppendJSON(b []byte) []byte {
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, int64(r.Version), 10)
	b = append(b, `,"host":"`...)
	b = r.Host.AppendTo(b)
	b = append(b, `","group":`...)
	b = appendString(b, r.Entry.Group)
	for _, f := range []struct {
		name string
		time flow.Time
	}{{"first_seen", r.First}, {"last_seen", r.Last}} {
		b = appendTime(b, f.name, f.time)
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"sources", r.Sources}, {"witnesses", r.Witnesses}, {"confidence", r.Confidence}} {
		b = append(append(append(b, `,"`...), f.name...), `":`...)
		b = strconv.AppendInt(b, int64(f.value), 10)
	}
	b = appendTime(appendTime(b, "listed", r.Listed), "until", r.Until)
	b = append(b, `,"reason":"`...)
	at := len(b)
	b = r.AppendReason(b)
	if bytes.ContainsAny(b[at:], "<>&") { // as json.Marshal escapes them
		return append(appendString(b[:at-1], string(b[at:])), '}')
	}
	return append(b, `"}`...)
}

func appendTime(b []byte, name string, t flow.Time) []byte {
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(t.Time().AppendFormat(b, time.RFC3339Nano), '"')
}

func appendString(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil { // never: a string has a JSON form
		return append(b, `""`...)
	}
	return append(b, text...)
}

// PatternText names the patterns of a group in a few words.
func PatternText(g *dossier.Group) string {
	n := len(g.Patterns)
	if n == 0 {
		return "an undisclosed pattern"
	}
	text := clean(g.Patterns[0])
	if len(text) > maxReason {
		text = text[:maxReason] + "..."
	}
	if more := n - 1 + g.Undisclosed; more > 0 {
		return fmt.Sprintf("pattern %s and %d more", text, more)
	}
	return "pattern " + text
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// Files writes files of one format: it calls Create for each, writes to what
// that returns until the next call, and closes nothing. Paths are relative,
// with slashes.
type Files func(v *View, out Out) error

// Out takes the files of one format.
type Out struct {
	// Create begins a file.
	Create func(path string) (io.Writer, error)
	// Keep takes over a file of the last publication, if there is one that was
	// written by this process from the view of that number or a later one.
	// Nil keeps none.
	Keep func(path string, number int64) bool
}

// Kept takes over a file whose content is the same since the view of a number;
// if it reports false, the file is to be created.
func (o *Out) Kept(path string, number int64) bool { return o.Keep != nil && o.Keep(path, number) }
