// Package pattern is the language in which a detective describes what to look
// for, the same on the command line, in URLs and in the console.
//
//	clue    = ("in" | "out") { field "=" value | measure ( ">=" | "<=" ) number | count ">=" number }
//	fields  = src dst sport dport proto state
//	measure = bytes sent received duration
//	count   = flows peers ports
//	value   = literal { "," literal } | @file
//	literal = name | number | address | prefix | port "-" port
//	pattern = term { ("and" | "or" | "then" ["[" duration "]"]) term }
//	term    = clue | "(" pattern ")" | "not" term | number "of" "(" clue { "or" clue } ")"
//
// A clue fixes some components of a flow and leaves one host X open: "in"
// means X is the flow's responder, "out" its originator. Src names the other
// host of an "in" clue, dst that of an "out" clue. State is established,
// failed, or a conn_state of Zeek. Bytes and duration are those of a flow, sent and
// received its bytes by and to X. Flows, peers and ports count, of all flows of one
// X that match the clue, those, the different other hosts, and the different
// responder ports: the clue is matched from the flow on that reaches the number.
// Where a clue lists values, each combination counts by itself. All these travel in
// clear, and so take round numbers only (Steps). Several values of a field mean any of them. "icmp" beside addresses
// that are all of IPv6 is icmp6. "then[1h]" means later, within an hour, at the same X; the default
// is 24h. "then" binds tighter than "and", "and" tighter than "or", and
// parentheses group.
//
// "A and not B" is an X that fits A and has no flow that fits B; "A then[1h] not B"
// one that has none within an hour after A, "not B then[1h] A" none within an hour
// before. "2 of (A or B or C)" is an X that fits at least two, where each value of a
// list counts. The host X itself may be named too (dst of an "in" clue, src of an
// "out" clue): that is never sent.
//
//	in src=203.0.113.5 proto=tcp dport=1433 then[1h] out dst=198.51.100.7 proto=udp dport=69
package pattern

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/flow/key"
)

// Bounds of a pattern.
const (
	MaxLength = 64 << 10 // bytes of text
	MaxClues  = 16
	MaxDepth  = 64        // nested parentheses
	MaxValues = 4096      // values of one field
	MaxTuples = 1 << 16   // tuples of one clue: the product over its fields
	MaxWithin = 366 * day // of "then"
	// MaxAtLeast is the largest count of "N of": an answer has a place for each value,
	// and counts the places of a host in a byte (dossier.Statement).
	MaxAtLeast = 128
	day        = 24 * time.Hour
)

// DefaultWithin is the span of a "then" without one.
const DefaultWithin = day

// Pattern is a parsed pattern.
type Pattern struct {
	Clues []Clue
	Root  *Node
}

// Op is how a node of a pattern combines its children.
type Op uint8

// The operators; a Leaf is one clue. Not negates its left side, a clue or
// alternatives of clues, and needs something else beside it: right of And, or on a side
// of Then. AtLeast requires Count of the values of the clues on its left side.
const (
	Leaf Op = iota
	And
	Or
	Then
	Not
	AtLeast
)

// String is the language's word.
func (o Op) String() string {
	switch o {
	case Leaf:
		return "clue"
	case And:
		return "and"
	case Or:
		return "or"
	case Then:
		return "then"
	case Not:
		return "not"
	case AtLeast:
		return "of"
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// Node is a node of the expression tree.
type Node struct {
	Op Op
	// Clue is an index into Pattern.Clues, for a Leaf.
	Clue int
	// Within bounds a Then: all of Right happens after all of Left, and no
	// later than this after Left's last event.
	Within      time.Duration
	Left, Right *Node
	// Count is how many different values an AtLeast requires, at least 2.
	Count int
}

// Clue fixes some components and leaves X open. An empty slice leaves a
// component open; several values mean any of them.
type Clue struct {
	End          key.End
	Other        []netip.Prefix // src of an "in" clue, dst of an "out" clue
	SPort, DPort []uint16
	Proto        []flow.Proto
	State        StateFilter
	Bounds       Bounds
	// X restricts the host that is open, if not empty. It is not part of a question:
	// the detective leaves out other hosts of the answer.
	X []netip.Prefix
	// Text is the clue as written.
	Text string
}

// Tuples lists every combination of the clue's values. Prefixes of different
// length or family give tuples of different masks.
func (c *Clue) Tuples() []key.Tuple {
	base := key.Mask{SPort: len(c.SPort) > 0, DPort: len(c.DPort) > 0, Proto: len(c.Proto) > 0}
	out := []key.Tuple{{Mask: base}}
	out = crossTuples(out, c.Other, func(t *key.Tuple, p netip.Prefix) {
		t.Mask.Family, t.Mask.Prefix = key.IPv4, uint8(p.Bits())
		if p.Addr().Is6() {
			t.Mask.Family = key.IPv6
		}
		t.Addr = p.Masked().Addr()
	})
	out = crossTuples(out, c.SPort, func(t *key.Tuple, v uint16) { t.SPort = v })
	out = crossTuples(out, c.DPort, func(t *key.Tuple, v uint16) { t.DPort = v })
	return crossTuples(out, c.Proto, func(t *key.Tuple, v flow.Proto) { t.Proto = v })
}

func crossTuples[T any](tuples []key.Tuple, values []T, set func(*key.Tuple, T)) []key.Tuple {
	if len(values) == 0 {
		return tuples
	}
	out := make([]key.Tuple, 0, len(tuples)*len(values))
	for _, t := range tuples {
		for _, v := range values {
			set(&t, v)
			out = append(out, t)
		}
	}
	return out
}

// Matches reports whether f matches the clue, for some X. It does not look at
// bounds of counts, which are about all flows of an X.
func (c *Clue) Matches(f *flow.Flow) bool {
	return anyOf(c.SPort, f.OrigPort) && anyOf(c.DPort, f.RespPort) && anyOf(c.Proto, f.Proto) &&
		(len(c.Other) == 0 || flow.Within(c.Other, c.End.Other(f))) && c.State.Accepts(f) && c.Bounds.Accept(f, c.End) && c.AcceptsX(c.End.X(f))
}

// AcceptsX reports whether the clue can be about x.
func (c *Clue) AcceptsX(x netip.Addr) bool { return len(c.X) == 0 || flow.Within(c.X, x) }

func anyOf[T comparable](values []T, v T) bool {
	for _, x := range values {
		if x == v {
			return true
		}
	}
	return len(values) == 0
}

// String writes the pattern so that Parse reads it back, with files by name.
func (p *Pattern) String() string { return p.writeNode(p.Root, 0) }

// writeNode writes n; parent is the binding strength around it.
func (p *Pattern) writeNode(n *Node, parent int) string {
	strength := map[Op]int{Or: 1, And: 2, Then: 3, Leaf: 4}[n.Op]
	switch n.Op {
	case Leaf:
		return p.Clues[n.Clue].Text
	case Not:
		return "not " + p.writeNode(n.Left, 4)
	case AtLeast:
		return fmt.Sprintf("%d of (%s)", n.Count, p.writeNode(n.Left, 0))
	}
	word := n.Op.String()
	if n.Op == Then && n.Within != DefaultWithin {
		word += "[" + formatWithin(n.Within) + "]"
	}
	// The right operand binds one tighter: operators associate to the left.
	s := p.writeNode(n.Left, strength) + " " + word + " " + p.writeNode(n.Right, strength+1)
	if strength < parent {
		return "(" + s + ")"
	}
	return s
}

func formatWithin(d time.Duration) string {
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	s = strings.TrimSuffix(s, "m0s")
	if s != d.String() {
		s += "m"
	}
	if t := strings.TrimSuffix(s, "h0m"); t != s {
		s = t + "h"
	}
	return s
}
