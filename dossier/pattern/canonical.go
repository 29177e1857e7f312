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
// alternatives, the sides of "and" and "or" sorted and each once. So two
// organisations that look for the same pattern report it under the same text. A
// pattern whose lists expand to more than MaxClues alternatives has none.
func (p *Pattern) Canonical() (string, error) {
	clues := 0
	text := p.normalise(p.Root, &clues).joinSides()
	switch {
	case clues > MaxClues:
		return "", fmt.Errorf("pattern: with its lists written out it has %d clues; at most %d have a canonical form", clues, MaxClues)
	case len(text) > MaxLength:
		return "", fmt.Errorf("pattern: its canonical form is longer than %d bytes", MaxLength)
	}
	return text, nil
}

// normalForm form of a node: the operator on top and its operands in order. Leaf
// and Then have one.
type normalForm struct {
	op    Op
	sides []string
}

func (f normalForm) joinSides() string { return strings.Join(f.sides, " "+f.op.String()+" ") }

// inParentheses is the text as an operand of an operator that binds tighter
// than the operators given.
func (f normalForm) inParentheses(looser ...Op) string {
	if slices.Contains(looser, f.op) {
		return "(" + f.joinSides() + ")"
	}
	return f.joinSides()
}

func (p *Pattern) normalise(n *Node, clues *int) normalForm {
	switch n.Op {
	case Leaf:
		return joinOperands(Or, p.Clues[n.Clue].writeAlternatives(clues))
	case Then:
		word := " then "
		if n.Within != DefaultWithin {
			word = " then[" + formatWithin(n.Within) + "] "
		}
		left, right := p.normalise(n.Left, clues), p.normalise(n.Right, clues)
		return normalForm{Then, []string{left.inParentheses(And, Or) + word + right.inParentheses(And, Or, Then)}}
	}
	if n.Op == Not {
		return normalForm{Leaf, []string{"not " + p.normalise(n.Left, clues).inParentheses(Or)}}
	}
	if n.Op == AtLeast {
		inner := normalForm{Or, p.normalise(n.Left, clues).sides}
		slices.Sort(inner.sides)
		return normalForm{Leaf, []string{fmt.Sprintf("%d of (%s)", n.Count, inner.joinSides())}}
	}
	return joinOperands(n.Op, []normalForm{p.normalise(n.Left, clues), p.normalise(n.Right, clues)})
}

// joinOperands joins operands by "and" or "or"; operands of the same operator
// are flattened.
func joinOperands(op Op, operands []normalForm) normalForm {
	out := normalForm{op: op}
	for _, f := range operands {
		switch {
		case f.op == op:
			out.sides = append(out.sides, f.sides...)
		case op == And:
			out.sides = append(out.sides, f.inParentheses(Or))
		default:
			out.sides = append(out.sides, f.joinSides())
		}
	}
	slices.Sort(out.sides)
	if out.sides = slices.Compact(out.sides); len(out.sides) == 1 {
		return operands[0] // all were the same
	}
	return out
}

// writeAlternatives lists the clue once for each combination of its values.
func (c *Clue) writeAlternatives(clues *int) []normalForm {
	n := countCombinations(c)
	if *clues += n; *clues > MaxClues {
		return []normalForm{{Leaf, []string{c.Text}}} // Canonical will return an error
	}
	name := map[key.End]string{key.In: "src", key.Out: "dst"}[c.End]
	out := []string{c.End.String()}
	if len(c.X) > 0 {
		own := map[key.End]string{key.In: " dst=", key.Out: " src="}[c.End]
		out[0] += own + joinPrefixes(c.X)
	}
	out = crossTexts(out, c.Other, func(v netip.Prefix) string {
		if v.IsSingleIP() {
			return " " + name + "=" + v.Addr().String()
		}
		return " " + name + "=" + v.String()
	})
	out = crossTexts(out, c.SPort, func(v uint16) string { return fmt.Sprintf(" sport=%d", v) })
	out = crossTexts(out, c.DPort, func(v uint16) string { return fmt.Sprintf(" dport=%d", v) })
	out = crossTexts(out, c.Proto, func(v flow.Proto) string { return " proto=" + v.String() })
	forms := make([]normalForm, len(out))
	for i, text := range out {
		if clear := Clear(c.State, c.Bounds); clear != "" {
			text += " " + clear
		}
		forms[i] = normalForm{Leaf, []string{text}}
	}
	return forms
}

// joinPrefixes writes a list of addresses, sorted.
func joinPrefixes(all []netip.Prefix) string {
	texts := make([]string, len(all))
	for i, v := range all {
		if texts[i] = v.String(); v.IsSingleIP() {
			texts[i] = v.Addr().String()
		}
	}
	slices.Sort(texts)
	return strings.Join(slices.Compact(texts), ",")
}

// crossTexts continues each text with each value.
func crossTexts[T any](texts []string, values []T, write func(T) string) []string {
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
