package publish

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// RowFilter selects rows:
//
//	filter = term { ("and" | "or") term }
//	term   = "not" term | "(" filter ")" | field operator value
//
// "and" binds tighter than "or". The fields and their operators are
//
//	host = !=                              an address or a prefix
//	group = !=                             a name
//	pattern = != ~                         a disclosed pattern; ~ finds a part of one
//	confidence sources witnesses           numbers: = != < <= > >=
//	first last listed until                times: < <= > >=; RFC 3339, or -24h from now
//
// A value with spaces or parentheses is put in double quotes.
type RowFilter struct {
	text string
	root *filterNode
	now  flow.Time
}

// Bounds of a filter.
const (
	maxFilter      = 4096
	maxFilterTerms = 32
	maxFilterDepth = 16
)

// ErrFilter says that a filter cannot be understood.
var ErrFilter = errors.New("filter")

type filterNode struct {
	operator    string // and, or, not; else of a comparison
	field       string
	prefix      netip.Prefix
	text        string
	number      int64
	left, right *filterNode
	// groups remembers the verdict on patterns, which may be long.
	groups map[*dossier.Group]bool
}

// ParseFilter reads a filter; empty text selects everything. Times relative to
// now are fixed here.
func ParseFilter(text string, now flow.Time) (*RowFilter, error) {
	f := &RowFilter{text: text, now: now}
	if len(text) > maxFilter {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrFilter, maxFilter)
	}
	tokens, err := splitFilter(text)
	if err != nil || len(tokens) == 0 {
		return f, err
	}
	p := &filterParser{tokens: tokens, now: now}
	if f.root, err = p.parseOr(0); err != nil {
		return nil, err
	}
	if p.at < len(p.tokens) {
		return nil, p.fail("unexpected %q", p.tokens[p.at].text)
	}
	return f, nil
}

// Matches reports whether a row is selected. It must not be called
// concurrently.
func (f *RowFilter) Matches(r *Row) bool { return f.root == nil || f.root.matches(r) }

type filterToken struct {
	text   string
	quoted bool
	column int
}

// splitFilter cuts at spaces, parentheses and operators outside quotes.
func splitFilter(s string) (tokens []filterToken, err error) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			i++
		case c == '"':
			end := strings.IndexByte(s[i+1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("%w, column %d: the quotation mark is not closed", ErrFilter, i+1)
			}
			tokens = append(tokens, filterToken{s[i+1 : i+1+end], true, i + 1})
			i += end + 2
		case c == '(' || c == ')' || c == '~':
			tokens = append(tokens, filterToken{s[i : i+1], false, i + 1})
			i++
		case strings.IndexByte("=!<>", c) >= 0:
			n := 1
			if i+1 < len(s) && s[i+1] == '=' {
				n = 2
			}
			tokens = append(tokens, filterToken{s[i : i+n], false, i + 1})
			i += n
		default:
			n := strings.IndexAny(s[i:], " \t\"()~=!<>")
			if n < 0 {
				n = len(s) - i
			}
			tokens = append(tokens, filterToken{s[i : i+n], false, i + 1})
			i += n
		}
	}
	return tokens, nil
}

type filterParser struct {
	tokens []filterToken
	at     int
	terms  int
	now    flow.Time
}

func (p *filterParser) fail(format string, args ...any) error {
	column := 1
	switch {
	case p.at < len(p.tokens):
		column = p.tokens[p.at].column
	case len(p.tokens) > 0:
		last := p.tokens[len(p.tokens)-1]
		column = last.column + len(last.text)
	}
	return fmt.Errorf("%w, column %d: %s", ErrFilter, column, fmt.Sprintf(format, args...))
}

func (p *filterParser) acceptWord(w string) bool {
	if p.at < len(p.tokens) && !p.tokens[p.at].quoted && strings.EqualFold(p.tokens[p.at].text, w) {
		p.at++
		return true
	}
	return false
}

func (p *filterParser) parseOr(depth int) (*filterNode, error) {
	return p.parseChain("or", func() (*filterNode, error) {
		return p.parseChain("and", func() (*filterNode, error) { return p.parseTerm(depth) })
	})
}

func (p *filterParser) parseChain(word string, operand func() (*filterNode, error)) (*filterNode, error) {
	left, err := operand()
	for err == nil && p.acceptWord(word) {
		var right *filterNode
		right, err = operand()
		left = &filterNode{operator: word, left: left, right: right}
	}
	return left, err
}

func (p *filterParser) parseTerm(depth int) (*filterNode, error) {
	if depth > maxFilterDepth {
		return nil, p.fail("nested more than %d deep", maxFilterDepth)
	}
	if p.acceptWord("not") {
		inner, err := p.parseTerm(depth + 1)
		return &filterNode{operator: "not", left: inner}, err
	}
	if p.acceptWord("(") {
		inner, err := p.parseOr(depth + 1)
		if err == nil && !p.acceptWord(")") {
			err = p.fail("want a closing parenthesis")
		}
		return inner, err
	}
	return p.parseComparison()
}

func (p *filterParser) parseComparison() (*filterNode, error) {
	if p.terms++; p.terms > maxFilterTerms {
		return nil, p.fail("more than %d comparisons", maxFilterTerms)
	}
	if len(p.tokens)-p.at < 3 {
		return nil, p.fail("want a field, an operator and a value, such as confidence>=80")
	}
	n := &filterNode{field: strings.ToLower(p.tokens[p.at].text), operator: p.tokens[p.at+1].text}
	value := p.tokens[p.at+2].text
	operators, err := n.parseValue(value, p.now)
	if err != nil {
		return nil, p.fail("%v", err)
	}
	if !strings.Contains(" "+operators+" ", " "+n.operator+" ") {
		return nil, p.fail("%s is compared by one of %s", n.field, operators)
	}
	p.at += 3
	return n, nil
}

// parseValue reads the value of a field and names the operators it takes.
func (n *filterNode) parseValue(value string, now flow.Time) (operators string, err error) {
	switch n.field {
	case "host":
		if n.prefix, err = ParseHosts(value); err != nil {
			return "", err
		}
		return "= !=", nil
	case "group":
		n.text = value
		return "= !=", nil
	case "pattern":
		n.text, n.groups = value, map[*dossier.Group]bool{}
		return "= != ~", nil
	case "confidence", "sources", "witnesses":
		number, err := strconv.ParseInt(value, 10, 32)
		n.number = number
		if err != nil {
			return "", fmt.Errorf("%s %q is not a number", n.field, value)
		}
		return "= != < <= > >=", nil
	case "first", "last", "listed", "until":
		t, err := parseInstant(value, now)
		n.number = int64(t)
		return "< <= > >=", err
	}
	return "", fmt.Errorf("unknown field %q; fields are host group pattern confidence sources witnesses first last listed until", n.field)
}

// ParseHosts reads an address or a prefix.
func ParseHosts(s string) (netip.Prefix, error) {
	all, err := flow.ReadPrefixes(strings.NewReader(s))
	if err != nil || len(all) != 1 {
		return netip.Prefix{}, fmt.Errorf("%.60q is neither an address nor a prefix", s)
	}
	return all[0], nil
}

func parseInstant(s string, now flow.Time) (t flow.Time, err error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now + flow.Time(d), nil
	}
	err = t.UnmarshalText([]byte(s))
	return t, err
}

func (n *filterNode) matches(r *Row) bool {
	switch n.operator {
	case "and":
		return n.left.matches(r) && n.right.matches(r)
	case "or":
		return n.left.matches(r) || n.right.matches(r)
	case "not":
		return !n.left.matches(r)
	}
	switch n.field {
	case "host":
		return n.prefix.Contains(r.Host) == (n.operator == "=")
	case "group":
		return (r.Entry.Group == n.text) == (n.operator == "=")
	case "pattern":
		verdict, known := n.groups[r.Of]
		if !known {
			verdict = n.matchesPattern(r.Of)
			n.groups[r.Of] = verdict
		}
		return verdict
	case "confidence":
		return n.compare(int64(r.Confidence))
	case "sources":
		return n.compare(int64(r.Sources))
	case "witnesses":
		return n.compare(int64(r.Witnesses))
	case "first":
		return n.compare(int64(r.First))
	case "last":
		return n.compare(int64(r.Last))
	case "listed":
		return n.compare(int64(r.Listed))
	}
	return n.compare(int64(r.Until))
}

func (n *filterNode) matchesPattern(g *dossier.Group) bool {
	for _, p := range g.Patterns {
		if n.operator == "~" && strings.Contains(p, n.text) || n.operator != "~" && p == n.text {
			return n.operator != "!="
		}
	}
	return n.operator == "!="
}

func (n *filterNode) compare(v int64) bool {
	switch n.operator {
	case "=":
		return v == n.number
	case "!=":
		return v != n.number
	case "<":
		return v < n.number
	case "<=":
		return v <= n.number
	case ">":
		return v > n.number
	}
	return v >= n.number
}
