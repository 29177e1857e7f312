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
	line []byte
	at   int
	want [numColumns]bool
}

// parse points r at the wanted values of line. A key that comes twice counts
// as it stood last.
func (o *object) parse(line []byte, r *row) fault {
	*r = row{}
	o.line, o.at = line, 0
	if o.space(); o.at < len(line) && line[o.at] != '{' {
		return fault{why: noHeader}
	}
	// Escapes are rare, so their grammar is left to the library.
	valid := bytes.IndexByte(line, '\\') < 0 || json.Valid(line)
	if !valid || !o.members(r, columnNamed, 1) {
		return fault{why: notJSON, a: o.at + 1}
	}
	if o.space(); o.at != len(line) {
		return fault{why: notJSON, a: o.at + 1}
	}
	if path := r[colPath]; path != nil && string(path) != "conn" {
		return fault{why: badValue, col: colPath, value: path}
	}
	if r[colPath] == nil && r[colState] == nil {
		return fault{why: notConn}
	}
	return fault{}
}

// members reads an object from its brace on; named finds the column of a key.
func (o *object) members(r *row, named func([]byte) column, depth int) bool {
	if !o.token('{') {
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
		if !o.member(r, key, named, depth) {
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
	v, ok := o.value(depth)
	if col := named(key); ok && o.want[col] {
		if string(v) == "null" && o.line[o.at-1] != '"' {
			v = nil
		}
		r[col] = v
	}
	return ok
}

// value reads any value. It returns a string without quotes and anything else
// as it stands.
func (o *object) value(depth int) ([]byte, bool) {
	if o.at == len(o.line) || depth > maxDepth {
		return nil, false
	}
	start := o.at
	switch c := o.line[o.at]; c {
	case '"':
		return o.text()
	case '{':
		ok := o.members(nil, noneNamed, depth+1)
		return o.line[start:o.at], ok
	case '[':
		ok := o.elements(depth + 1)
		return o.line[start:o.at], ok
	case 't':
		return o.literal("true")
	case 'f':
		return o.literal("false")
	case 'n':
		return o.literal("null")
	}
	return o.number()
}

func noneNamed([]byte) column { return noColumn }

func (o *object) elements(depth int) bool {
	o.at++
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

// text reads a string from its quote on and returns what it means.
func (o *object) text() ([]byte, bool) {
	if !o.token('"') {
		return nil, false
	}
	start, escaped := o.at, false
	for ; o.at < len(o.line); o.at++ {
		switch c := o.line[o.at]; {
		case c == '"':
			s := o.line[start:o.at]
			o.at++
			if escaped {
				return unescape(o.line[start-1 : o.at])
			}
			return s, true
		case c == '\\':
			escaped = true
			o.at++
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

func unescape(quoted []byte) ([]byte, bool) {
	var s string
	err := json.Unmarshal(quoted, &s)
	return []byte(s), err == nil
}

func (o *object) literal(want string) ([]byte, bool) {
	rest := o.line[o.at:]
	if len(rest) < len(want) || string(rest[:len(want)]) != want {
		return nil, false
	}
	o.at += len(want)
	return rest[:len(want)], true
}

// number reads by the grammar of RFC 8259, section 6.
func (o *object) number() ([]byte, bool) {
	start := o.at
	o.token('-')
	if !o.token('0') && !o.digits() {
		return nil, false
	}
	if o.token('.') && !o.digits() {
		return nil, false
	}
	if o.token('e') || o.token('E') {
		if !o.token('+') {
			o.token('-')
		}
		if !o.digits() {
			return nil, false
		}
	}
	return o.line[start:o.at], true
}

func (o *object) digits() bool {
	start := o.at
	for o.at < len(o.line) && o.line[o.at]-'0' <= 9 {
		o.at++
	}
	return o.at > start
}

func (o *object) token(c byte) bool {
	if o.at == len(o.line) || o.line[o.at] != c {
		return false
	}
	o.at++
	return true
}

func (o *object) space() {
	for o.at < len(o.line) {
		switch o.line[o.at] {
		case ' ', '\t', '\r', '\n':
			o.at++
		default:
			return
		}
	}
}
