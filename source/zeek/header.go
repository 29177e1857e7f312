package zeek

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// header is the content of the lines starting with # so far, which describe the
// lines that follow. It is never changed, only replaced, so parsers of
// different parts of a file share it.
type header struct {
	separator byte
	unset     string
	empty     string
	path      string // empty: not told
	fields    string // the line #fields without its name; empty before the first
	columns   int
	at        [numColumns]int // index of each column in a line, -1 if absent
	// refused is why the lines that follow cannot be used.
	refused string
}

// newHeader holds Zeek's defaults (LogAscii::separator and so on).
func newHeader() *header { return &header{separator: '\t', unset: "-", empty: "(empty)"} }

// required are the columns a flow needs, except the protocol, for which there
// are two.
var required = [...]column{colTime, colOrigAddr, colOrigPort, colRespAddr, colRespPort}

// withLine returns the header after one more line starting with #.
func (h *header) withLine(line []byte) *header {
	name, value, found := bytes.Cut(line, []byte{h.separator})
	if v, ok := bytes.CutPrefix(line, []byte("#separator ")); ok {
		name, value, found = line[:len("#separator")], v, true
	}
	if !found {
		return h
	}
	n := *h
	switch string(name) {
	case "#separator":
		n = *newHeader() // a new header begins
		b, ok := parseSeparator(value)
		if !ok {
			n.refused = fmt.Sprintf("#separator %.40q is not one character, such as \\x09", value)
		}
		n.separator = b
	case "#unset_field":
		n.unset = string(value)
	case "#empty_field":
		n.empty = string(value)
	case "#path":
		n.path = string(value)
		n.checkFields()
	case "#fields":
		if len(value) == 0 {
			return h
		}
		n.setFields(string(value))
	default:
		return h
	}
	return &n
}

// parseSeparator reads one character of ASCII, in the hexadecimal form that
// Zeek writes or plain.
func parseSeparator(v []byte) (byte, bool) {
	if len(v) == 0 {
		return 0, false
	}
	if hex, ok := bytes.CutPrefix(v, []byte(`\x`)); ok && len(hex) == 2 {
		b, err := strconv.ParseUint(string(hex), 16, 7)
		return byte(b), err == nil && b != '\n'
	}
	return v[0], len(v) == 1 && v[0] < utf8.RuneSelf
}

// separatorText is the separator as text.
func (h *header) separatorText() string { return string([]byte{h.separator}) }

func (h *header) setFields(fields string) {
	h.fields = fields
	h.columns = 0
	for c := range h.at {
		h.at[c] = -1
	}
	for name := range strings.SplitSeq(fields, h.separatorText()) {
		if c := columnNamed([]byte(name)); c != noColumn && h.at[c] < 0 {
			h.at[c] = h.columns
		}
		h.columns++
	}
	h.checkFields()
}

// checkFields decides whether lines under h are connections. A separator that
// could not be parsed stays the reason until the next one.
func (h *header) checkFields() {
	if strings.HasPrefix(h.refused, "#separator") {
		return
	}
	h.refused = ""
	if h.path != "" && h.path != "conn" {
		h.refused = fmt.Sprintf("#path is %.40q: only conn logs hold connections", h.path)
		return
	}
	if h.fields == "" {
		return
	}
	for _, c := range required {
		if h.at[c] < 0 {
			h.refused = fmt.Sprintf("#fields has no column %s", columns[c].name)
			return
		}
	}
	if h.at[colProto] < 0 && h.at[colIPProto] < 0 {
		h.refused = "#fields has no column proto"
	}
}

// encodeText writes h as lines that withLine can read back; empty for a log
// without header lines, such as JSON.
func (h *header) encodeText() string {
	if *h == *newHeader() {
		return ""
	}
	sep := h.separatorText()
	lines := []string{
		fmt.Sprintf("#separator \\x%02x", h.separator),
		"#empty_field" + sep + h.empty,
		"#unset_field" + sep + h.unset,
	}
	if h.path != "" {
		lines = append(lines, "#path"+sep+h.path)
	}
	if h.fields != "" {
		lines = append(lines, "#fields"+sep+h.fields)
	}
	return strings.Join(lines, "\n") + "\n"
}

// parseHeader is the inverse of text.
func parseHeader(text string) *header {
	h := newHeader()
	for line := range strings.Lines(text) {
		h = h.withLine([]byte(strings.TrimSuffix(line, "\n")))
	}
	return h
}
