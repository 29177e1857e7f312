package zeek

import (
	"bytes"
	"encoding/json"
)

// maxDepth bounds nesting; Zeek nests two deep.
const maxDepth = 32

// object reads one line of JSON: strictly by syntax (RFC 8259), since half a
// line must not be accepted as a whole one, but without allocating: values of
// wanted columns stay in place.
type object struct {
	want [numColumns]bool

	line []byte
	at   int
	// escapes says whether the line has a backslash; then plain, which
	// otherwise is the line, ends with the unescaped strings.
	escapes bool
	plain   []byte
}

// parseLine points r at the wanted values of line. Of a repeated key the last
// value counts.
func (o *object) parseLine(line []byte, r *row) fault {
	r.at = [numColumns]span{}
	o.line, o.at, o.plain = line, 0, line[:len(line):len(line)]
	if o.skipSpace(); o.at < len(line) && line[o.at] != '{' {
		return fault{why: noHeader}
	}
	// Escapes are rare, so their grammar is left to the library.
	o.escapes = bytes.IndexByte(line, '\\') >= 0
	if o.escapes && !json.Valid(line) || !o.parseMembers(r, columnNamed, 1) {
		return fault{why: notJSON, a: o.at + 1}
	}
	if o.skipSpace(); o.at != len(line) {
		return fault{why: notJSON, a: o.at + 1}
	}
	r.line = o.plain
	if path := r.valueOf(colPath); path != nil && string(path) != "conn" {
		return fault{why: badValue, col: colPath, value: path}
	}
	if !r.hasColumn(colPath) && !r.hasColumn(colState) {
		return fault{why: notConn}
	}
	return fault{}
}

// parseMembers reads an object from its brace on; named finds the column of a key.
func (o *object) parseMembers(r *row, named func([]byte) column, depth int) bool {
	if depth > maxDepth || !o.skipToken('{') {
		return false
	}
	if o.skipSpace(); o.skipToken('}') {
		return true
	}
	for {
		key, ok := o.parseString()
		if o.skipSpace(); !ok || !o.skipToken(':') {
			return false
		}
		o.skipSpace()
		key = o.unescapeSpan(key)
		if !o.parseMember(r, o.plain[key.from:key.past-1], named, depth) {
			return false
		}
		if o.skipSpace(); o.skipToken('}') {
			return true
		}
		if !o.skipToken(',') {
			return false
		}
		o.skipSpace()
	}
}

// parseMember reads the value of one key.
func (o *object) parseMember(r *row, key []byte, named func([]byte) column, depth int) bool {
	if depth == 1 && string(key) == "id" && o.at < len(o.line) && o.line[o.at] == '{' {
		return o.parseMembers(r, endpointNamed, depth+1)
	}
	col := named(key)
	quoted := o.at < len(o.line) && o.line[o.at] == '"'
	v, ok := o.parseValue(depth)
	switch {
	case !ok || !o.want[col]:
		return ok
	case quoted:
		v = o.unescapeSpan(v)
	case string(o.line[v.from:v.past-1]) == "null":
		v = span{}
	}
	r.at[col] = v
	return true
}

// parseValue reads any value: a string without its quotes, anything else
// unchanged.
func (o *object) parseValue(depth int) (v span, ok bool) {
	if o.at == len(o.line) {
		return span{}, false
	}
	start := o.at
	switch o.line[o.at] {
	case '"':
		return o.parseString()
	case '{':
		ok = o.parseMembers(nil, noName, depth+1)
	case '[':
		ok = o.parseElements(depth + 1)
	case 't':
		ok = o.skipLiteral("true")
	case 'f':
		ok = o.skipLiteral("false")
	case 'n':
		ok = o.skipLiteral("null")
	default:
		ok = o.skipNumber()
	}
	return o.spanSince(start), ok
}

// noName is for the keys of objects without columns.
func noName([]byte) column { return noColumn }

func (o *object) spanSince(start int) span { return span{uint32(start), uint32(o.at) + 1} }

func (o *object) parseElements(depth int) bool {
	if depth > maxDepth || !o.skipToken('[') {
		return false
	}
	if o.skipSpace(); o.skipToken(']') {
		return true
	}
	for {
		if _, ok := o.parseValue(depth); !ok {
			return false
		}
		if o.skipSpace(); o.skipToken(']') {
			return true
		}
		if !o.skipToken(',') {
			return false
		}
		o.skipSpace()
	}
}

// parseString reads a string from its quote on, escapes left as they are.
func (o *object) parseString() (v span, ok bool) {
	if !o.skipToken('"') {
		return span{}, false
	}
	start := o.at
	for i := start; i < len(o.line); i++ {
		switch c := o.line[i]; {
		case c == '"':
			o.at = i
			v = o.spanSince(start)
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

// unescapeSpan returns the span in o.plain of the unescaped string v of the
// line.
func (o *object) unescapeSpan(v span) span {
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

func (o *object) skipLiteral(want string) bool {
	rest := o.line[o.at:]
	if len(rest) < len(want) || string(rest[:len(want)]) != want {
		return false
	}
	o.at += len(want)
	return true
}

// skipNumber reads by the grammar of RFC 8259, section 6.
func (o *object) skipNumber() bool {
	o.skipToken('-')
	if !o.skipToken('0') && !o.skipDigits() {
		return false
	}
	if o.skipToken('.') && !o.skipDigits() {
		return false
	}
	if o.skipToken('e') || o.skipToken('E') {
		if !o.skipToken('+') {
			o.skipToken('-')
		}
		return o.skipDigits()
	}
	return true
}

func (o *object) skipDigits() bool {
	i := o.at
	for i < len(o.line) && o.line[i]-'0' <= 9 {
		i++
	}
	found := i > o.at
	o.at = i
	return found
}

func (o *object) skipToken(c byte) bool {
	if o.at == len(o.line) || o.line[o.at] != c {
		return false
	}
	o.at++
	return true
}

func (o *object) skipSpace() {
	for o.at < len(o.line) && o.line[o.at] <= ' ' {
		switch o.line[o.at] {
		case ' ', '\t', '\r', '\n':
			o.at++
		default:
			return
		}
	}
}
