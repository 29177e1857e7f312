package pattern

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/flow/key"
)

// SyntaxError is a mistake in a pattern, with its position.
type SyntaxError struct {
	// Column counts bytes from 1.
	Column int
	Msg    string
}

// Error names the column.
func (e *SyntaxError) Error() string { return fmt.Sprintf("pattern, column %d: %s", e.Column, e.Msg) }

// OpenFile opens the file of a value "@name"; see Parse.
type OpenFile func(name string) (io.ReadCloser, error)

// NoFiles refuses "@file" values: for patterns from remote parties.
func NoFiles(string) (io.ReadCloser, error) {
	return nil, fmt.Errorf("values from files are not allowed here")
}

// FromDisk opens files of this machine.
func FromDisk(name string) (io.ReadCloser, error) { return os.Open(name) }

// Parse reads a pattern; open reads the lists behind "@file" values, one
// literal per line, with "#" comments.
func Parse(text string, open OpenFile) (*Pattern, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{1, fmt.Sprintf("longer than %d bytes; put long lists into a file: dst=@list.txt", MaxLength)}
	}
	p := &parser{tokens: splitTokens(text), open: open, end: len(text) + 1}
	root, err := p.parseOr(0)
	if err != nil {
		return nil, err
	}
	if t, more := p.peekToken(); more {
		return nil, p.syntaxError(t, "%q is not expected here; want and, or, then, or the end", t.text)
	}
	if message := checkForm(root); message != "" {
		return nil, &SyntaxError{1, message}
	}
	out := &Pattern{Root: root}
	out.addClues(root, p.clues)
	return out, nil
}

// addClues numbers the clues in the order of the tree, in which what was written first
// may come last.
func (p *Pattern) addClues(n *Node, clues []Clue) {
	if n == nil {
		return
	}
	if n.Op == Leaf {
		p.Clues = append(p.Clues, clues[n.Clue])
		n.Clue = len(p.Clues) - 1
	}
	p.addClues(n.Left, clues)
	p.addClues(n.Right, clues)
}

type token struct {
	text   string
	column int
}

// splitTokens splits at blanks and around parentheses; brackets stay with "then".
func splitTokens(s string) []token {
	var out []token
	start := -1
	flush := func(end int) {
		if start >= 0 {
			out = append(out, token{s[start:end], start + 1})
			start = -1
		}
	}
	for i, c := range []byte(s) {
		switch c {
		case ' ', '\t', '\n', '\r':
			flush(i)
		case '(', ')':
			flush(i)
			out = append(out, token{s[i : i+1], i + 1})
		default:
			if start < 0 {
				start = i
			}
		}
	}
	flush(len(s))
	return out
}

type parser struct {
	tokens []token
	pos    int
	end    int // column after the last byte
	open   OpenFile
	clues  []Clue
}

func (p *parser) peekToken() (token, bool) {
	if p.pos < len(p.tokens) {
		return p.tokens[p.pos], true
	}
	return token{"the end of the pattern", p.end}, false
}

func (p *parser) syntaxError(t token, format string, args ...any) error {
	return &SyntaxError{t.column, fmt.Sprintf(format, args...)}
}

// acceptWord consumes the next token if it is w, in any case.
func (p *parser) acceptWord(w string) bool {
	t, more := p.peekToken()
	if more && strings.EqualFold(t.text, w) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) parseOr(depth int) (*Node, error) {
	left, err := p.parseAnd(depth)
	for err == nil && p.acceptWord("or") {
		left, err = p.parseOperands(Or, 0, left, depth, p.parseAnd)
	}
	return left, err
}

func (p *parser) parseAnd(depth int) (*Node, error) {
	first, err := p.parseThen(depth)
	if err != nil {
		return nil, err
	}
	operands := []*Node{first}
	for p.acceptWord("and") {
		n, err := p.parseThen(depth)
		if err != nil {
			return nil, err
		}
		operands = append(operands, n)
	}
	// What only restricts others comes last, in the order written.
	slices.SortStableFunc(operands, func(a, b *Node) int { return cmp.Compare(lateness(a), lateness(b)) })
	out := operands[0]
	for _, n := range operands[1:] {
		out = &Node{Op: And, Left: out, Right: n}
	}
	return out, nil
}

func lateness(n *Node) int {
	switch n.Op {
	case AtLeast:
		return 1
	case Not:
		return 2
	}
	return 0
}

func (p *parser) parseThen(depth int) (*Node, error) {
	left, err := p.parseTerm(depth)
	for err == nil {
		within, found, werr := p.acceptThen()
		if werr != nil || !found {
			return left, werr
		}
		left, err = p.parseOperands(Then, within, left, depth, p.parseTerm)
	}
	return left, err
}

func (p *parser) parseOperands(op Op, within time.Duration, left *Node, depth int, operand func(int) (*Node, error)) (*Node, error) {
	right, err := operand(depth)
	if err != nil {
		return nil, err
	}
	return &Node{Op: op, Within: within, Left: left, Right: right}, nil
}

// acceptThen consumes "then", "then[1h]" or "then [1h]".
func (p *parser) acceptThen() (within time.Duration, found bool, err error) {
	t, more := p.peekToken()
	if !more || len(t.text) < 4 || !strings.EqualFold(t.text[:4], "then") {
		return 0, false, nil
	}
	p.pos++
	bracket := token{t.text[4:], t.column + 4}
	if bracket.text == "" {
		next, more := p.peekToken()
		if !more || next.text[0] != '[' {
			return DefaultWithin, true, nil
		}
		p.pos++
		bracket = next
	}
	inner, ok := strings.CutPrefix(bracket.text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !ok || !closed {
		return 0, false, p.syntaxError(bracket, "%q: want a duration in brackets, such as then[1h], then[30m] or then[7d]", bracket.text)
	}
	d, err := ParseWithin(inner)
	if err != nil {
		return 0, false, p.syntaxError(bracket, "%v", err)
	}
	return d, true, nil
}

// ParseWithin reads a positive duration of at most MaxWithin: 90s, 30m, 1h, 7d.
func ParseWithin(s string) (time.Duration, error) {
	var d time.Duration
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("duration %q: want a number of days such as 7d", s)
		}
		d = time.Duration(n) * day
	} else {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			return 0, fmt.Errorf("duration %q: want a number and unit such as 90s, 30m, 1h or 7d", s)
		}
	}
	if d <= 0 || d > MaxWithin {
		return 0, fmt.Errorf("duration %q: want more than 0 and at most 366d", s)
	}
	return d, nil
}

func (p *parser) parseTerm(depth int) (*Node, error) {
	t, more := p.peekToken()
	if depth >= MaxDepth {
		return nil, p.syntaxError(t, "parentheses nest deeper than %d", MaxDepth)
	}
	if p.acceptWord("not") {
		return p.parseNot(t, depth)
	}
	if k, err := strconv.ParseUint(t.text, 10, 16); err == nil && more {
		return p.parseAtLeast(t, int(k), depth)
	}
	if !more || t.text != "(" {
		return p.parseClue()
	}
	p.pos++
	inner, err := p.parseOr(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.acceptWord(")") {
		t, _ := p.peekToken()
		return nil, p.syntaxError(t, "missing closing parenthesis")
	}
	return inner, nil
}

func (p *parser) parseNot(t token, depth int) (*Node, error) {
	inner, err := p.parseTerm(depth + 1)
	if err != nil {
		return nil, err
	}
	if !onlyClues(inner) {
		return nil, p.syntaxError(t, "not negates a clue, or alternatives of clues: not (A or B)")
	}
	return &Node{Op: Not, Left: inner}, nil
}

func (p *parser) parseAtLeast(t token, k, depth int) (*Node, error) {
	p.pos++
	if !p.acceptWord("of") {
		return nil, p.syntaxError(t, "%q is not expected here; a count of clues is such as: 2 of (in src=A or in src=B or in src=C)", t.text)
	}
	inner, err := p.parseTerm(depth + 1)
	if err != nil {
		return nil, err
	}
	if !onlyClues(inner) {
		return nil, p.syntaxError(t, "%d of takes alternatives of clues: %d of (A or B or C)", k, k)
	}
	values := 0
	for _, clue := range inner.Leaves() {
		values += countCombinations(&p.clues[clue])
	}
	if k < 2 || k > values || k > MaxAtLeast {
		return nil, p.syntaxError(t, "%d of %d values: want a number from 2 to %d", k, values, min(values, MaxAtLeast))
	}
	return &Node{Op: AtLeast, Count: k, Left: inner}, nil
}

func (p *parser) parseClue() (*Node, error) {
	first, more := p.peekToken()
	c := Clue{}
	switch {
	case p.acceptWord("in"):
		c.End = key.In
	case p.acceptWord("out"):
		c.End = key.Out
	case !more:
		return nil, p.syntaxError(first, "missing clue; a clue starts with in or out")
	default:
		return nil, p.syntaxError(first, "%q: a clue starts with in or out, such as: out dst=198.51.100.7 proto=udp dport=69", first.text)
	}
	if len(p.clues) == MaxClues {
		return nil, p.syntaxError(first, "more than %d clues", MaxClues)
	}
	words := []string{c.End.String()}
	seen := map[string]bool{}
	for {
		t, more := p.peekToken()
		field, value, isField := strings.Cut(t.text, "=")
		field = strings.ToLower(field)
		if more && !isField {
			if err := p.explainWord(t, field); err != nil {
				return nil, err
			}
		}
		if !more || !isField {
			break
		}
		if seen[field] {
			return nil, p.syntaxError(t, "%s is given twice; several values are one list: %s=A,B or %s=@file", field, field, field)
		}
		seen[field] = true
		if err := p.parseField(&c, field, value, t); err != nil {
			return nil, err
		}
		p.pos++
		words = append(words, field+"="+value)
	}
	if len(c.Other)+len(c.SPort)+len(c.DPort)+len(c.Proto) == 0 {
		if len(c.X) > 0 {
			other := map[key.End]string{key.In: "src", key.Out: "dst"}[c.End]
			return nil, p.syntaxError(first, "this names only X, the host that is asked for, which is never sent; a clue fixes at least one of %s, sport, dport, proto", other)
		}
		return nil, p.syntaxError(first, "a clue fixes at least one of src, dst, sport, dport, proto")
	}
	if c.Bounds.Least(Peers) > 1 && len(c.Other) > 0 && !slices.ContainsFunc(c.Other, func(v netip.Prefix) bool { return !v.IsSingleIP() }) {
		return nil, p.syntaxError(first, "peers counts different other hosts, of which each address of the clue is one; leave the address out, or give a prefix")
	}
	c.Proto = readICMP(c.Proto, c.Other)
	if n := countCombinations(&c); n > MaxTuples {
		return nil, p.syntaxError(first, "the clue's lists give %d combinations; at most %d", n, MaxTuples)
	}
	c.Text = strings.Join(words, " ")
	p.clues = append(p.clues, c)
	return &Node{Op: Leaf, Clue: len(p.clues) - 1}, nil
}

// fieldNames are the fields that a clue or a filter may have.
var fieldNames = []string{"src", "dst", "host", "sport", "dport", "proto", "state"}

// explainWord says what is wrong with a word that is meant to be a field.
func (p *parser) explainWord(t token, word string) error {
	name := strings.TrimRight(word, "<>")
	if at := strings.IndexAny(word, "<>"); at >= 0 {
		name = word[:at]
	}
	switch {
	case slices.Contains(fieldNames, word):
		return p.syntaxError(t, "%s has no value: write %s=VALUE without blanks", word, word)
	case slices.Contains(measureNames[1:], name):
		return p.syntaxError(t, "%q: write %s>=NUMBER or %s<=NUMBER without blanks", t.text, name, name)
	}
	return nil
}

// readICMP takes icmp for ICMPv6 if all prefixes beside it are of IPv6: Zeek
// logs both as "icmp", and the other one does not exist in IPv6 (RFC 4443).
func readICMP(protos []flow.Proto, prefixes []netip.Prefix) []flow.Proto {
	if len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(v netip.Prefix) bool { return v.Addr().Is4() }) {
		return protos
	}
	var out []flow.Proto
	for _, v := range protos {
		if v == flow.ICMP {
			v = flow.ICMPv6
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func countCombinations(c *Clue) int {
	return max(1, len(c.Other)) * max(1, len(c.SPort)) * max(1, len(c.DPort)) * max(1, len(c.Proto))
}

func (p *parser) parseField(c *Clue, field, value string, t token) error {
	other := map[key.End]string{key.In: "src", key.Out: "dst"}[c.End]
	switch field {
	case "src", "dst":
		if field != other {
			return parseValues(p, t, value, &c.X, parsePrefix)
		}
		return parseValues(p, t, value, &c.Other, parsePrefix)
	case "sport":
		return parseLists(p, t, value, &c.SPort, parsePorts)
	case "dport":
		return parseLists(p, t, value, &c.DPort, parsePorts)
	case "proto":
		return parseValues(p, t, value, &c.Proto, flow.ParseProto)
	case "state":
		var states []StateFilter
		err := parseValues(p, t, value, &states, parseState)
		for _, v := range states {
			c.State |= v
		}
		return err
	}
	name, least := strings.CutSuffix(field, ">")
	name, most := strings.CutSuffix(name, "<")
	if m := slices.Index(measureNames[:], name); m > 0 {
		if least == most {
			return p.syntaxError(t, "%q: write %s>=NUMBER or %s<=NUMBER", t.text, name, name)
		}
		if err := c.Bounds.parseBound(Measure(m), least, value); err != nil {
			return p.syntaxError(t, "%v", err)
		}
		return nil
	}
	return p.syntaxError(t, "unknown field %q; fields are %s sport dport proto state, and >= or <= of bytes sent received duration flows peers ports", field, other)
}
