package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Format is a value of the flag -o.
type Format string

// The formats. JSON is one indented document; JSONL one object per line.
const (
	Table Format = "table"
	JSON  Format = "json"
	JSONL Format = "jsonl"
	CSV   Format = "csv"
)

// String, Set and Type implement pflag.Value.
func (f *Format) String() string { return string(*f) }

// Set accepts one of the formats.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Table, JSON, JSONL, CSV:
		*f = Format(s)
		return nil
	}
	return fmt.Errorf("must be one of table, json, jsonl, csv")
}

// Type names the value in help texts.
func (f *Format) Type() string { return "format" }

// OutputFlag adds -o to cmd and returns where its value will be.
func OutputFlag(cmd *cobra.Command) *Format {
	f := Table
	cmd.Flags().VarP(&f, "output", "o", "output format: table, json, jsonl or csv")
	CompleteFlag(cmd, "output", string(Table), string(JSON), string(JSONL), string(CSV))
	return &f
}

// CompleteFlag has shells complete the value of a flag of cmd, which must exist.
func CompleteFlag(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag
	}
}

// Rows is a result that is a list: WriteRows prints it in any format. T is a row as
// JSON prints it, a struct; CSV has a column for each of its fields.
type Rows[T any] struct {
	// Header holds the column names of the table for people, in lower case.
	Header []string
	// Cells holds one row of that table per item.
	Cells [][]string
	// Items are the same rows as values for JSON and CSV; nil means none.
	Items []T
	// Cursor, if not empty, is where the list goes on.
	Cursor string
	// Problems say why the list may lack something.
	Problems []string
	// Document, when not nil, is what JSON prints instead of a list.
	Document any
}

// List is how JSON prints a list. Items are added to it, never changed.
type List[T any] struct {
	Version int    `json:"version"`
	Items   []T    `json:"items"`
	Cursor  string `json:"cursor,omitempty"`
	// Problems say why the list may lack something.
	Problems []string `json:"problems,omitempty"`
}

// ListVersion is the version of a List.
const ListVersion = 1

// ReadItems reads the items of a List that WriteRows printed as JSON.
func ReadItems[T any](r io.Reader) ([]T, error) {
	var l List[T]
	if err := json.NewDecoder(r).Decode(&l); err != nil {
		return nil, fmt.Errorf("not a list that '-o json' printed: %w", err)
	}
	if l.Version != ListVersion {
		return nil, fmt.Errorf("a list of version %d; this program reads version %d", l.Version, ListVersion)
	}
	return l.Items, nil
}

// WriteRows prints r. An empty list prints as its header in a table and CSV.
func WriteRows[T any](w io.Writer, f Format, r Rows[T]) error {
	switch f {
	case JSON:
		if r.Document != nil {
			return WriteDocument(w, r.Document)
		}
		return WriteJSON(w, List[T]{ListVersion, append([]T{}, r.Items...), r.Cursor, r.Problems})
	case JSONL:
		enc := json.NewEncoder(escapeJSON{w})
		enc.SetEscapeHTML(false)
		for _, item := range r.Items {
			if err := enc.Encode(item); err != nil {
				return err
			}
		}
		return nil
	case CSV:
		return appendCSV(w, r.Items, true)
	}
	return WriteTable(w, r.Header, r.Cells)
}

// RowWriter prints rows as they come: in a table without aligned columns, and as JSON
// lines where JSON is asked for, since a list has an end.
type RowWriter[T any] struct {
	w       io.Writer
	format  Format
	header  []string
	started bool
}

// NewRowWriter makes a RowWriter; the header is printed with the first row, or at the end.
func NewRowWriter[T any](w io.Writer, f Format, header []string) *RowWriter[T] {
	return &RowWriter[T]{w: w, format: f, header: header}
}

// Write prints a row.
func (r *RowWriter[T]) Write(item T, cells []string) error {
	switch r.format {
	case JSON, JSONL:
		return WriteRows(r.w, JSONL, Rows[T]{Items: []T{item}})
	}
	if err := r.End(); err != nil {
		return err
	}
	if r.format == CSV {
		return appendCSV(r.w, []T{item}, false)
	}
	clean := make([]string, len(cells))
	for i, c := range cells {
		clean[i] = Printable(c)
	}
	_, err := fmt.Fprintln(r.w, strings.Join(clean, "  "))
	return err
}

// End prints the header if no row was printed.
func (r *RowWriter[T]) End() error {
	if r.started || r.format == JSON || r.format == JSONL {
		return nil
	}
	r.started = true
	if r.format == CSV {
		return appendCSV[T](r.w, nil, true)
	}
	_, err := fmt.Fprintln(r.w, strings.ToUpper(strings.Join(r.header, "  ")))
	return err
}

// WriteDocument writes an object as JSON, with the version that a List has as its first
// field, unless it has one.
func WriteDocument(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("%T is no object: %w", v, err)
	}
	if _, has := fields["version"]; !has {
		rest := text[1:]
		if len(fields) > 0 {
			rest = append([]byte{','}, rest...)
		}
		text = append(fmt.Appendf(nil, `{"version":%d`, ListVersion), rest...)
	}
	return WriteJSON(w, json.RawMessage(text))
}

// escapeJSON writes on the characters that Printable replaces as JSON's escapes of
// them, which mean the same. The encoder escapes control characters of ASCII.
type escapeJSON struct{ to io.Writer }

// Write implements io.Writer; p is whole JSON.
func (w escapeJSON) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.to, escape(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteJSON prints v as one indented document.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(escapeJSON{w})
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Plural is a number with its noun: "1 host", "2 hosts", "2 witnesses".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
