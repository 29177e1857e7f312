package pattern

import (
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
	return &Pattern{Clues: p.clues, Root: root}, nil
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
	left, err := p.parseThen(depth)
	for err == nil && p.acceptWord("and") {
		left, err = p.parseOperands(And, 0, left, depth, p.parseThen)
	}
	return left, err
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
	d, err := parseWithin(inner)
	if err != nil {
		return 0, false, p.syntaxError(bracket, "%v", err)
	}
	return d, true, nil
}

func parseWithin(s string) (time.Duration, error) {
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
	if !more || t.text != "(" {
		return p.parseClue()
	}
	if depth >= MaxDepth {
		return nil, p.syntaxError(t, "parentheses nest deeper than %d", MaxDepth)
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
		if !more || !isField {
			break
		}
		field = strings.ToLower(field)
		if seen[field] {
			return nil, p.syntaxError(t, "%s is given twice; list several values in a file: %s=@file", field, field)
		}
		seen[field] = true
		if err := p.parseField(&c, field, value, t); err != nil {
			return nil, err
		}
		p.pos++
		words = append(words, field+"="+value)
	}
	if len(words) == 1 || len(words) == 2 && c.State != AnyState {
		return nil, p.syntaxError(first, "a clue fixes at least one of src, dst, sport, dport, proto")
	}
	if n := countCombinations(&c); n > MaxTuples {
		return nil, p.syntaxError(first, "the clue's lists give %d combinations; at most %d", n, MaxTuples)
	}
	c.Text = strings.Join(words, " ")
	p.clues = append(p.clues, c)
	return &Node{Op: Leaf, Clue: len(p.clues) - 1}, nil
}

func countCombinations(c *Clue) int {
	return max(1, len(c.Other)) * max(1, len(c.SPort)) * max(1, len(c.DPort)) * max(1, len(c.Proto))
}

func (p *parser) parseField(c *Clue, field, value string, t token) error {
	other := map[key.End]string{key.In: "src", key.Out: "dst"}[c.End]
	switch field {
	case "src", "dst":
		if field != other {
			return p.syntaxError(t, "%s is X itself in a clue that starts with %s; the other host is %s=", field, c.End, other)
		}
		return parseValues(p, t, value, &c.Other, parsePrefix)
	case "sport":
		return parseValues(p, t, value, &c.SPort, parsePort)
	case "dport":
		return parseValues(p, t, value, &c.DPort, parsePort)
	case "proto":
		return parseValues(p, t, value, &c.Proto, flow.ParseProto)
	case "state":
		switch strings.ToLower(value) {
		case "established":
			c.State = Established
		case "failed":
			c.State = Failed
		default:
			return p.syntaxError(t, "state %q: want established or failed", value)
		}
		return nil
	}
	return p.syntaxError(t, "unknown field %q; fields are %s sport dport proto state", field, other)
}

// parseValues parses a literal or a file of them, without repeats.
func parseValues[T comparable](p *parser, t token, value string, into *[]T, parse func(string) (T, error)) error {
	name, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		v, err := parse(value)
		if err != nil {
			return p.syntaxError(t, "%v", err)
		}
		*into = []T{v}
		return nil
	}
	lines, err := readList(p.open, name)
	if err != nil {
		return p.syntaxError(t, "%v", err)
	}
	for _, l := range lines {
		v, err := parse(l.text)
		if err != nil {
			return p.syntaxError(t, "%s:%d: %v", name, l.column, err)
		}
		if !slices.Contains(*into, v) {
			*into = append(*into, v)
		}
	}
	return nil
}

// readList returns the non-empty lines of a file, their number as column.
func readList(open OpenFile, name string) ([]token, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const maxFile = 1 << 20
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	var out []token
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, token{line, n})
		}
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("%s has no values", name)
	case len(out) > MaxValues:
		return nil, fmt.Errorf("%s has %d values; at most %d", name, len(out), MaxValues)
	}
	return out, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	pre, err := netip.ParsePrefix(s)
	if err == nil && pre.Addr().Is4In6() && pre.Bits() >= 96 {
		pre = netip.PrefixFrom(pre.Addr().Unmap(), pre.Bits()-96)
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not an address or prefix", s)
	case pre.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("%s fixes nothing; leave the field out", s)
	case pre != pre.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has host bits set; write %s", s, pre.Masked())
	}
	return pre, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q is not a number 0-65535", s)
	}
	return uint16(n), nil
}
