package zeek

import (
	"bytes"
	"encoding/json"
)

// maxDepth bounds nesting; Zeek nests two deep.
const maxDepth = 32

// object reads one line of JSON: strictly as to syntax (RFC 8259), since half a
// line must not pass for a whole one, but without building anything: values of
// wanted columns are left where they stand.
type object struct {
	want [numColumns]bool

	line []byte
	at   int
	// escapes tells whether there is a backslash anywhere; then plain, which
	// otherwise is the line, ends in the strings that had to be unescaped.
	escapes bool
	plain   []byte
}

// parse points r at the wanted values of line. A key that comes twice counts
// as it stood last.
func (o *object) parse(line []byte, r *row) fault {
	r.at = [numColumns]span{}
	o.line, o.at, o.plain = line, 0, line[:len(line):len(line)]
	if o.space(); o.at < len(line) && line[o.at] != '{' {
		return fault{why: noHeader}
	}
	// Escapes are rare, so their grammar is left to the library.
	o.escapes = bytes.IndexByte(line, '\\') >= 0
	if o.escapes && !json.Valid(line) || !o.members(r, columnNamed, 1) {
		return fault{why: notJSON, a: o.at + 1}
	}
	if o.space(); o.at != len(line) {
		return fault{why: notJSON, a: o.at + 1}
	}
	r.line = o.plain
	if path := r.value(colPath); path != nil && string(path) != "conn" {
		return fault{why: badValue, col: colPath, value: path}
	}
	if !r.has(colPath) && !r.has(colState) {
		return fault{why: notConn}
	}
	return fault{}
}

// members reads an object from its brace on; named finds the column of a key.
func (o *object) members(r *row, named func([]byte) column, depth int) bool {
	if depth > maxDepth || !o.token('{') {
		return false
	}
	if o.space(); o.token('}') {
		return true
	}
	for {
		key, ok := o.text()
		if o.space(); !ok || !o.token(':') {
			return false
		}
		o.space()
		key = o.unescape(key)
		if !o.member(r, o.plain[key.from:key.past-1], named, depth) {
			return false
		}
		if o.space(); o.token('}') {
			return true
		}
		if !o.token(',') {
			return false
		}
		o.space()
	}
}

// member reads the value of one key.
func (o *object) member(r *row, key []byte, named func([]byte) column, depth int) bool {
	if depth == 1 && string(key) == "id" && o.at < len(o.line) && o.line[o.at] == '{' {
		return o.members(r, endpointNamed, depth+1)
	}
	col := named(key)
	quoted := o.at < len(o.line) && o.line[o.at] == '"'
	v, ok := o.value(depth)
	switch {
	case !ok || !o.want[col]:
		return ok
	case quoted:
		v = o.unescape(v)
	case string(o.line[v.from:v.past-1]) == "null":
		v = span{}
	}
	r.at[col] = v
	return true
}

// value reads any value: a string without its quotes, anything else as it
// stands.
func (o *object) value(depth int) (v span, ok bool) {
	if o.at == len(o.line) {
		return span{}, false
	}
	start := o.at
	switch o.line[o.at] {
	case '"':
		return o.text()
	case '{':
		ok = o.members(nil, unnamed, depth+1)
	case '[':
		ok = o.elements(depth + 1)
	case 't':
		ok = o.literal("true")
	case 'f':
		ok = o.literal("false")
	case 'n':
		ok = o.literal("null")
	default:
		ok = o.number()
	}
	return o.since(start), ok
}

// unnamed is for the keys of objects that no column is in.
func unnamed([]byte) column { return noColumn }

func (o *object) since(start int) span { return span{uint32(start), uint32(o.at) + 1} }

func (o *object) elements(depth int) bool {
	if depth > maxDepth || !o.token('[') {
		return false
	}
	if o.space(); o.token(']') {
		return true
	}
	for {
		if _, ok := o.value(depth); !ok {
			return false
		}
		if o.space(); o.token(']') {
			return true
		}
		if !o.token(',') {
			return false
		}
		o.space()
	}
}

// text reads a string from its quote on, escapes left as they are.
func (o *object) text() (v span, ok bool) {
	if !o.token('"') {
		return span{}, false
	}
	start := o.at
	for i := start; i < len(o.line); i++ {
		switch c := o.line[i]; {
		case c == '"':
			o.at = i
			v = o.since(start)
			o.at++
			return v, true
		case c == '\\':
			i++
		case c < ' ':
			o.at = i
			return span{}, false
		}
	}
	o.at = len(o.line)
	return span{}, false
}

// unescape returns where in o.plain the string v of the line stands as it is
// meant.
func (o *object) unescape(v span) span {
	if !o.escapes || bytes.IndexByte(o.line[v.from:v.past-1], '\\') < 0 {
		return v
	}
	var s string
	// The line is valid as a whole, so this part of it is.
	_ = json.Unmarshal(o.line[v.from-1:v.past], &s)
	from := uint32(len(o.plain))
	o.plain = append(o.plain, s...)
	return span{from, uint32(len(o.plain)) + 1}
}

func (o *object) literal(want string) bool {
	rest := o.line[o.at:]
	if len(rest) < len(want) || string(rest[:len(want)]) != want {
		return false
	}
	o.at += len(want)
	return true
}

// number reads by the grammar of RFC 8259, section 6.
func (o *object) number() bool {
	o.token('-')
	if !o.token('0') && !o.digits() {
		return false
	}
	if o.token('.') && !o.digits() {
		return false
	}
	if o.token('e') || o.token('E') {
		if !o.token('+') {
			o.token('-')
		}
		return o.digits()
	}
	return true
}

func (o *object) digits() bool {
	i := o.at
	for i < len(o.line) && o.line[i]-'0' <= 9 {
		i++
	}
	found := i > o.at
	o.at = i
	return found
}

func (o *object) token(c byte) bool {
	if o.at == len(o.line) || o.line[o.at] != c {
		return false
	}
	o.at++
	return true
}

func (o *object) space() {
	for o.at < len(o.line) && o.line[o.at] <= ' ' {
		switch o.line[o.at] {
		case ' ', '\t', '\r', '\n':
			o.at++
		default:
			return
		}
	}
}
