package pattern

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dragnet/flow"
	"dragnet/flow/key"
)

// Canonical is one text for all ways to write the same pattern: fields in a
// fixed order, values in their shortest form, the values of a file as
// alternatives, the sides of "and" and "or" sorted and each once. Two
// organisations that look for the same thing so report it under the same text.
// A pattern whose lists make more than MaxClues alternatives has none.
func (p *Pattern) Canonical() (string, error) {
	clues := 0
	text := p.normal(p.Root, &clues).text()
	switch {
	case clues > MaxClues:
		return "", fmt.Errorf("pattern: with its lists written out it has %d clues; at most %d have a canonical form", clues, MaxClues)
	case len(text) > MaxLength:
		return "", fmt.Errorf("pattern: its canonical form is longer than %d bytes", MaxLength)
	}
	return text, nil
}

// normal form of a node: the operator on top and its operands in order. Leaf
// and Then have one.
type normal struct {
	op    Op
	sides []string
}

func (f normal) text() string { return strings.Join(f.sides, " "+f.op.String()+" ") }

// within is the text as an operand of something that binds tighter than the
// operators given.
func (f normal) within(looser ...Op) string {
	if slices.Contains(looser, f.op) {
		return "(" + f.text() + ")"
	}
	return f.text()
}

func (p *Pattern) normal(n *Node, clues *int) normal {
	switch n.Op {
	case Leaf:
		return gather(Or, p.Clues[n.Clue].alternatives(clues))
	case Then:
		word := " then "
		if n.Within != DefaultWithin {
			word = " then[" + formatWithin(n.Within) + "] "
		}
		left, right := p.normal(n.Left, clues), p.normal(n.Right, clues)
		return normal{Then, []string{left.within(And, Or) + word + right.within(And, Or, Then)}}
	}
	return gather(n.Op, []normal{p.normal(n.Left, clues), p.normal(n.Right, clues)})
}

// gather joins operands by "and" or "or"; those of the same operator dissolve.
func gather(op Op, operands []normal) normal {
	out := normal{op: op}
	for _, f := range operands {
		switch {
		case f.op == op:
			out.sides = append(out.sides, f.sides...)
		case op == And:
			out.sides = append(out.sides, f.within(Or))
		default:
			out.sides = append(out.sides, f.text())
		}
	}
	slices.Sort(out.sides)
	if out.sides = slices.Compact(out.sides); len(out.sides) == 1 {
		return operands[0] // all were the same
	}
	return out
}

// alternatives lists the clue once for each combination of its values.
func (c *Clue) alternatives(clues *int) []normal {
	n := combinations(c)
	if *clues += n; *clues > MaxClues {
		return []normal{{Leaf, []string{c.Text}}} // Canonical will refuse
	}
	name := map[key.End]string{key.In: "src", key.Out: "dst"}[c.End]
	out := []string{c.End.String()}
	out = times(out, c.Other, func(v netip.Prefix) string {
		if v.IsSingleIP() {
			return " " + name + "=" + v.Addr().String()
		}
		return " " + name + "=" + v.String()
	})
	out = times(out, c.SPort, func(v uint16) string { return fmt.Sprintf(" sport=%d", v) })
	out = times(out, c.DPort, func(v uint16) string { return fmt.Sprintf(" dport=%d", v) })
	out = times(out, c.Proto, func(v flow.Proto) string { return " proto=" + v.String() })
	forms := make([]normal, len(out))
	for i, text := range out {
		if c.State != AnyState {
			text += " state=" + c.State.String()
		}
		forms[i] = normal{Leaf, []string{text}}
	}
	return forms
}

// times continues each text with each value.
func times[T any](texts []string, values []T, write func(T) string) []string {
	if len(values) == 0 {
		return texts
	}
	out := make([]string, 0, len(texts)*len(values))
	for _, text := range texts {
		for _, v := range values {
			out = append(out, text+write(v))
		}
	}
	return out
}
