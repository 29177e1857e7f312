package zeek

import (
	"cmp"
	"fmt"
	"slices"

	"dragnet/flow"
)

// fault is why a line cannot be used. Its text is formatted only when needed,
// since a hostile log may consist of nothing else.
type fault struct {
	why   reason
	col   column // badValue: which
	value []byte // badValue: nil when unset
	text  string // other: in full
	a, b  int    // wrongCount, notJSON: the numbers in the text
}

type reason uint8

const (
	fine reason = iota
	badValue
	wrongCount
	tooLong
	cutOff
	other
	noHeader
	notJSON
	notConn
)

// String is the reason in words, with a long value cut short.
func (f fault) String() string {
	switch f.why {
	case badValue:
		return f.wrongValue()
	case wrongCount:
		return fmt.Sprintf("%d values, but #fields names %d columns", f.a, f.b)
	case tooLong:
		return "longer than 1 MiB"
	case cutOff:
		return "truncated: the log ends in the middle of this line"
	case other:
		return f.text
	case noHeader:
		return "no #fields line comes before it, and it is not a JSON object"
	case notJSON:
		return fmt.Sprintf("not one whole JSON object: wrong from character %d on", f.a)
	case notConn:
		return "neither conn_state nor _path: not a line of a conn log"
	}
	return "fine"
}

func (f fault) wrongValue() string {
	const enough = 40
	name, want := columns[f.col].name, columns[f.col].want
	switch {
	case f.value == nil:
		return fmt.Sprintf("%s is not set", name)
	case len(f.value) > enough:
		return fmt.Sprintf("%s %q... is not %s", name, f.value[:enough], want)
	}
	return fmt.Sprintf("%s %q is not %s", name, f.value, want)
}

// losses counts lines that could not be used and keeps the first few by
// position, in whatever order they are found.
type losses struct {
	count uint64
	first []loss
}

type loss struct {
	file   int
	line   int64
	reason string
}

// maxLosses is the number that flow.Coverage keeps.
const maxLosses = 16

func (l *losses) addLoss(file int, line int64, f fault) {
	l.count++
	here := loss{file: file, line: line}
	i, _ := slices.BinarySearchFunc(l.first, here, loss.compareTo)
	if i == maxLosses {
		return
	}
	here.reason = f.String()
	l.first = slices.Insert(l.first, i, here)
	l.first = l.first[:min(len(l.first), maxLosses)]
}

func (a loss) compareTo(b loss) int {
	return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
}

// mergeLosses adds another worker's losses.
func (l *losses) mergeLosses(o losses) {
	l.count += o.count
	l.first = append(l.first, o.first...)
	slices.SortFunc(l.first, loss.compareTo)
	l.first = l.first[:min(len(l.first), maxLosses)]
}

// reportTo adds the losses to c; name returns the name of a file.
func (l *losses) reportTo(c *flow.Coverage, name func(file int) string) {
	for _, loss := range l.first {
		c.Skip(fmt.Sprintf("%s:%d", name(loss.file), loss.line), "%s", loss.reason)
	}
	c.Skipped += l.count - uint64(len(l.first))
}
