package vpcflow

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"dragnet/source/biflow"
	"dragnet/source/lines"
)

// Format is that of the text.
var Format = lines.Format{Name: "AWS VPC flow log", Is: is, Record: defaults.parse, Header: header}

// layout says what each column of a line is.
type layout []column

// defaults are the columns of a log without a line that names them: version 2.
var defaults = mustLayout("version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status")

func is(prefix []byte) bool {
	line, _, _ := bytes.Cut(prefix, []byte("\n"))
	if header(line) != nil {
		return true
	}
	f := strings.Fields(string(line))
	if len(f) != len(defaults) || f[0] != "2" {
		return false
	}
	status := f[len(f)-1]
	return status == ok || status == noData || status == skipData
}

// header reads a line that names columns, which must include the addresses.
func header(line []byte) lines.ParseRecord {
	if l := layoutOf(string(line)); l != nil {
		return l.parse
	}
	return nil
}

func layoutOf(line string) layout {
	const longest = 4096
	if len(line) > longest || !strings.Contains(line, "srcaddr") || !strings.Contains(line, "dstaddr") {
		return nil
	}
	names := strings.Fields(line)
	l := make(layout, len(names))
	for i, name := range names {
		l[i] = columnOf(name)
	}
	if !l.has(srcAddr) && !l.has(pktSrcAddr) || !l.has(dstAddr) && !l.has(pktDstAddr) || !l.has(start) {
		return nil
	}
	return l
}

func mustLayout(line string) layout {
	l := layoutOf(line)
	if l == nil {
		panic("vpcflow: bad layout")
	}
	return l
}

func (l layout) has(c column) bool {
	for _, have := range l {
		if have == c {
			return true
		}
	}
	return false
}

var errColumns = errors.New("it has fewer columns than were named")

func (l layout) parse(line []byte, r *biflow.Record) (bool, error) {
	fields := strings.Fields(string(line))
	if len(fields) != len(l) {
		return false, errColumns
	}
	var v values
	for i, c := range l {
		switch text := fields[i]; {
		case c == other || text == "-":
		case c.isText():
			v.setText(c, text)
		default:
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return false, fmt.Errorf("%s %.40q is not a number", c, text)
			}
			v.setNumber(c, n)
		}
	}
	return v.record(r)
}
