package cli

import (
	"bytes"
	"encoding"
	"encoding/csv"
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strings"
)

// appendCSV prints items, which are structs, with a column for each field that their JSON
// has, under the same name: a field within a field is named a.b, texts and numbers of a list
// are joined by blanks, and what is deeper is one cell of JSON. The columns follow from the
// type, so that they are the same for every list, also an empty one; the version of an
// item's JSON is none of them. The first line names them, if named.
func appendCSV[T any](w io.Writer, items []T, named bool) error {
	columns := slices.DeleteFunc(appendColumns(nil, nil, reflect.TypeFor[T]()), func(path []string) bool {
		return len(path) == 1 && path[0] == "version"
	})
	out := csv.NewWriter(w)
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = strings.Join(c, ".")
	}
	if named {
		if err := out.Write(header); err != nil {
			return err
		}
	}
	for _, item := range items {
		var text bytes.Buffer
		enc := json.NewEncoder(escapeJSON{&text})
		enc.SetEscapeHTML(false) // as in the other formats
		if err := enc.Encode(item); err != nil {
			return err
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = cellOf(bytes.TrimSpace(text.Bytes()), c)
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

var (
	marshalsJSON = reflect.TypeFor[json.Marshaler]()
	marshalsText = reflect.TypeFor[encoding.TextMarshaler]()
)

// appendColumns appends the paths of all values that the JSON of a struct type has, as
// encoding/json names and orders them. What is no struct is one value, called value.
func appendColumns(all [][]string, path []string, t reflect.Type) [][]string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	leaf := t.Kind() != reflect.Struct
	for _, m := range []reflect.Type{marshalsJSON, marshalsText} {
		leaf = leaf || t.Implements(m) || reflect.PointerTo(t).Implements(m)
	}
	if leaf {
		if len(path) == 0 {
			path = []string{"value"}
		}
		return append(all, path)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && name == "":
			all = appendColumns(all, path, f.Type)
			continue
		case name == "":
			name = f.Name
		}
		all = appendColumns(all, append(path[:len(path):len(path)], name), f.Type)
	}
	return all
}

// cellOf returns the value at a path of a JSON object as text: a string without quotes,
// nothing for null or what is absent.
func cellOf(text json.RawMessage, path []string) string {
	for _, name := range path {
		if !bytes.HasPrefix(text, []byte("{")) {
			break // a value that is no object
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(text, &fields) != nil {
			return ""
		}
		text = fields[name]
	}
	if s, ok := plainText(text); ok {
		return s
	}
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil {
		parts := make([]string, len(list))
		flat := true
		for i, v := range list {
			s, ok := plainText(v)
			parts[i], flat = s, flat && ok
		}
		if flat {
			return strings.Join(parts, " ")
		}
	}
	return string(text)
}

// plainText is a value of JSON that is neither a list nor an object.
func plainText(text json.RawMessage) (string, bool) {
	var s string
	switch {
	case len(text) == 0 || string(text) == "null":
		return "", true
	case json.Unmarshal(text, &s) == nil:
		return Printable(s), true
	}
	return string(text), text[0] != '[' && text[0] != '{'
}
