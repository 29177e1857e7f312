// Package sigma translates patterns to Sigma rules and back: a clue is a rule
// over Zeek's log of connections, a pattern a correlation of the rules, by the
// host that the pattern leaves open (Sigma correlation rules, types temporal
// and temporal_ordered).
package sigma

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// ErrCannot says that the other language has no words for it.
var ErrCannot = errors.New("sigma")

// rule is a document of either kind.
type rule struct {
	Title       string       `yaml:"title"`
	ID          string       `yaml:"id"`
	Name        string       `yaml:"name,omitempty"`
	Status      string       `yaml:"status,omitempty"`
	Description string       `yaml:"description,omitempty"`
	Logsource   *logsource   `yaml:"logsource,omitempty"`
	Detection   *detection   `yaml:"detection,omitempty"`
	Correlation *correlation `yaml:"correlation,omitempty"`
	Level       string       `yaml:"level,omitempty"`
}

type logsource struct {
	Product string `yaml:"product"`
	Service string `yaml:"service"`
}

type detection struct {
	Selection map[string]any `yaml:"selection"`
	Condition string         `yaml:"condition"`
}

type correlation struct {
	Type     string                       `yaml:"type"`
	Rules    []string                     `yaml:"rules"`
	GroupBy  []string                     `yaml:"group-by"`
	Timespan string                       `yaml:"timespan"`
	Aliases  map[string]map[string]string `yaml:"aliases"`
}

// Fields of Zeek's log of connections.
const (
	origHost, respHost = "id.orig_h", "id.resp_h"
	origPort, respPort = "id.orig_p", "id.resp_p"
	proto, connState   = "proto", "conn_state"
	// openHost is the name under which rules share the host that is open.
	openHost = "host"
)

// Write writes a pattern of one clue, or of clues that are all joined by "and"
// or all by "then". Sigma bounds the whole sequence, not each step, so the time
// of a sequence of more than two clues is the sum of the steps'.
func Write(w io.Writer, p *pattern.Pattern) error {
	leaves, kind, span, err := flatten(p.Root)
	if err != nil {
		return err
	}
	text, err := p.Canonical()
	if err != nil {
		return err
	}
	id := func(part string) uuid.UUID {
		h := sha256.Sum256([]byte(text))
		return uuid.NewSHA1(uuid.NameSpaceURL, append(h[:], part...))
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	c := &correlation{Type: kind, GroupBy: []string{openHost}, Timespan: formatSpan(span), Aliases: map[string]map[string]string{openHost: {}}}
	for i, leaf := range leaves {
		clue := &p.Clues[leaf]
		name := fmt.Sprintf("dragnet_clue_%d", i+1)
		r := rule{Title: "Dragnet clue: " + clue.Text, ID: id(name).String(), Name: name, Status: "experimental", Logsource: &logsource{"zeek", "conn"},
			Detection: &detection{selectionOf(clue), "selection"}, Level: "informational"}
		if len(clue.Bounds) > 0 {
			return fmt.Errorf("%w: %q bounds %s", ErrCannot, clue.Text, clue.Bounds)
		}
		if clue.State&pattern.Failed != 0 && clue.State != pattern.Failed {
			return fmt.Errorf("%w: %q has failed beside other states", ErrCannot, clue.Text)
		}
		if len(r.Detection.Selection) == 0 {
			return fmt.Errorf("%w: %q fixes nothing, and a rule needs a selection", ErrCannot, clue.Text)
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
		c.Rules = append(c.Rules, name)
		c.Aliases[openHost][name] = openField(clue.End)
	}
	if len(leaves) > 1 {
		if err := enc.Encode(rule{Title: "Dragnet pattern: " + text, ID: id("pattern").String(), Status: "experimental", Correlation: c, Level: "medium"}); err != nil {
			return err
		}
	}
	return enc.Close()
}

// flatten lists the clues of a pattern that Sigma can say.
func flatten(n *pattern.Node) (leaves []int, kind string, span time.Duration, err error) {
	switch {
	case n.Op == pattern.Leaf:
		return []int{n.Clue}, "temporal", pattern.DefaultWithin, nil
	case n.Op == pattern.Not, n.Op == pattern.AtLeast:
		return nil, "", 0, fmt.Errorf("%w: no correlation means %q", ErrCannot, n.Op)
	case n.Op == pattern.Or:
		return nil, "", 0, fmt.Errorf("%w: no correlation means \"or\"; write each alternative by itself", ErrCannot)
	}
	kind = map[pattern.Op]string{pattern.And: "temporal", pattern.Then: "temporal_ordered"}[n.Op]
	span = pattern.DefaultWithin
	if n.Op == pattern.Then {
		span = n.Within
	}
	for _, side := range []*pattern.Node{n.Left, n.Right} {
		inner, _, within, err := flatten(side)
		if err != nil {
			return nil, "", 0, err
		}
		if side.Op != pattern.Leaf && side.Op != n.Op {
			return nil, "", 0, fmt.Errorf("%w: a correlation has one type, so \"and\" and \"then\" cannot be mixed", ErrCannot)
		}
		if side.Op == pattern.Then {
			span += within
		}
		leaves = append(leaves, inner...)
	}
	return leaves, kind, span, nil
}

// openField is where the open host is: "in" leaves the responder open.
func openField(e key.End) string {
	if e == key.In {
		return respHost
	}
	return origHost
}

func otherField(e key.End) string {
	if e == key.In {
		return origHost
	}
	return respHost
}

// selectionOf writes what a clue fixes.
func selectionOf(c *pattern.Clue) map[string]any {
	s := map[string]any{}
	var hosts, ranges []any
	for _, p := range c.Other {
		if p.IsSingleIP() {
			hosts = append(hosts, p.Addr().String())
		} else {
			ranges = append(ranges, p.String())
		}
	}
	other := otherField(c.End)
	if ranges != nil { // an address is a range, too
		for _, h := range hosts {
			a := netip.MustParseAddr(h.(string))
			ranges = append(ranges, netip.PrefixFrom(a, a.BitLen()).String())
		}
		s[other+"|cidr"] = oneOrMany(ranges)
	} else if hosts != nil {
		s[other] = oneOrMany(hosts)
	}
	for name, ports := range map[string][]uint16{origPort: c.SPort, respPort: c.DPort} {
		if len(ports) > 0 {
			s[name] = oneOrMany(toAny(ports, func(v uint16) any { return int(v) }))
		}
	}
	if len(c.Proto) > 0 {
		s[proto] = oneOrMany(toAny(c.Proto, func(v flow.Proto) any { return v.String() }))
	}
	if len(c.X) > 0 {
		var hosts []any
		for _, p := range c.X {
			hosts = append(hosts, p.String())
		}
		s[openField(c.End)+"|cidr"] = oneOrMany(hosts)
	}
	if c.State != pattern.AnyState {
		if _, set := s[proto]; !set && c.State == pattern.Failed {
			s[proto] = flow.TCP.String() // what failed is seen of TCP alone
		}
		s[connState] = toAny(states(c.State), func(v string) any { return v })
	}
	return s
}

// states are Zeek's names of an outcome.
func states(f pattern.StateFilter) (names []string) {
	for s := flow.StateUnknown; s <= flow.OTH; s++ {
		if f.Accepts(&flow.Flow{State: s, Proto: flow.TCP}) {
			names = append(names, s.String())
		}
	}
	return names
}

func toAny[T any](all []T, f func(T) any) (out []any) {
	for _, v := range all {
		out = append(out, f(v))
	}
	return out
}

func oneOrMany(all []any) any {
	if len(all) == 1 {
		return all[0]
	}
	return all
}

func formatSpan(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d%u.unit == 0 {
			return fmt.Sprintf("%d%s", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func parseSpan(s string) (time.Duration, error) {
	unit, known := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[lastByte(s)]
	n, err := strconv.Atoi(strings.TrimRight(s, "smhd"))
	if err != nil || !known || n < 1 || len(s) > 10 || time.Duration(n) > pattern.MaxWithin/unit {
		return 0, fmt.Errorf("%w: timespan %.20q: want a number and s, m, h or d", ErrCannot, s)
	}
	return time.Duration(n) * unit, nil
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// Bounds of what is read.
const (
	maxText  = 1 << 20
	maxRules = 64
)

// Read translates rules over connections, and at most one correlation, to the
// text of a pattern.
func Read(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxText {
		return "", fmt.Errorf("%w: longer than %d bytes", ErrCannot, maxText)
	}
	rules, correlated, err := readDocuments(data)
	if err != nil {
		return "", err
	}
	text, err := join(rules, correlated)
	if err != nil {
		return "", err
	}
	if _, err := pattern.Parse(text, pattern.NoFiles); err != nil {
		return "", fmt.Errorf("%w: %w", ErrCannot, err)
	}
	return text, nil
}

func readDocuments(data []byte) (rules map[string]rule, correlated *correlation, err error) {
	rules = map[string]rule{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var r rule
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return rules, correlated, nil
		} else if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrCannot, err)
		}
		switch {
		case r.Correlation != nil && correlated != nil:
			return nil, nil, fmt.Errorf("%w: more than one correlation", ErrCannot)
		case r.Correlation != nil:
			correlated = r.Correlation
		case r.Detection == nil:
			return nil, nil, fmt.Errorf("%w: %.60q has neither detection nor correlation", ErrCannot, r.Title)
		default:
			name := r.Name
			if name == "" {
				name = r.ID
			}
			if rules[name] = r; len(rules) > maxRules {
				return nil, nil, fmt.Errorf("%w: more than %d rules", ErrCannot, maxRules)
			}
		}
	}
}

// join writes the pattern of the rules that a correlation names, in its order.
func join(rules map[string]rule, c *correlation) (string, error) {
	if c == nil {
		if len(rules) != 1 {
			return "", fmt.Errorf("%w: want one rule, or a correlation that says how %d belong together", ErrCannot, len(rules))
		}
		for _, r := range rules {
			return readClue(&r, "")
		}
	}
	word := ""
	switch c.Type {
	case "temporal":
		word = " and "
	case "temporal_ordered":
		span, err := parseSpan(c.Timespan)
		if err != nil {
			return "", err
		}
		word = fmt.Sprintf(" then[%s] ", formatSpan(span))
	default:
		return "", fmt.Errorf("%w: correlation of type %.40q; want temporal or temporal_ordered", ErrCannot, c.Type)
	}
	if len(c.GroupBy) != 1 || len(c.Rules) < 1 || len(c.Rules) > pattern.MaxClues {
		return "", fmt.Errorf("%w: want one field to group by, and 1 to %d rules", ErrCannot, pattern.MaxClues)
	}
	var clues []string
	for _, name := range c.Rules {
		r, known := rules[name]
		if !known {
			return "", fmt.Errorf("%w: the correlation names %.60q, which is not here", ErrCannot, name)
		}
		field := c.GroupBy[0]
		if alias := c.Aliases[field][name]; alias != "" {
			field = alias
		}
		clue, err := readClue(&r, field)
		if err != nil {
			return "", err
		}
		clues = append(clues, clue)
	}
	return strings.Join(clues, word), nil
}

// readClue writes the clue of a rule; open is the field of the open host, or
// empty to take the end that the rule does not fix.
func readClue(r *rule, open string) (string, error) {
	if r.Detection.Condition != "selection" {
		return "", fmt.Errorf("%w: condition %.60q; want selection alone", ErrCannot, r.Detection.Condition)
	}
	s := map[string]any{}
	for name, v := range r.Detection.Selection {
		s[strings.TrimSuffix(name, "|cidr")] = v
	}
	if open == "" {
		open = respHost
		if s[respHost] != nil {
			open = origHost
		}
	}
	if s[open] != nil || open != origHost && open != respHost {
		return "", fmt.Errorf("%w: %.40q cannot be left open", ErrCannot, open)
	}
	text, other := "in", origHost
	if open == origHost {
		text, other = "out", respHost
	}
	fields := []struct{ sigma, ours string }{{other, map[string]string{"in": "src", "out": "dst"}[text]}, {origPort, "sport"}, {respPort, "dport"}, {proto, "proto"}}
	for name := range s {
		if name != connState && !slices.ContainsFunc(fields, func(f struct{ sigma, ours string }) bool { return f.sigma == name }) {
			return "", fmt.Errorf("%w: field %.40q has no counterpart", ErrCannot, name)
		}
	}
	texts := []string{text}
	for _, f := range fields {
		values, err := listOf(s[f.sigma])
		if err != nil {
			return "", err
		}
		if texts, err = crossValues(texts, f.ours, values); err != nil {
			return "", err
		}
	}
	for i := range texts {
		var err error
		if texts[i], err = addState(texts[i], s[connState]); err != nil {
			return "", err
		}
	}
	if len(texts) == 1 {
		return texts[0], nil
	}
	return "(" + strings.Join(texts, " or ") + ")", nil
}

// crossValues adds each value of a field to each text: a list means "or".
func crossValues(texts []string, field string, values []string) ([]string, error) {
	if len(values) == 0 {
		return texts, nil
	}
	if len(texts)*len(values) > pattern.MaxClues {
		return nil, fmt.Errorf("%w: more than %d alternatives", ErrCannot, pattern.MaxClues)
	}
	var out []string
	for _, t := range texts {
		for _, v := range values {
			out = append(out, t+" "+field+"="+v)
		}
	}
	return out, nil
}

func addState(text string, v any) (string, error) {
	names, err := listOf(v)
	if err != nil || len(names) == 0 {
		return text, err
	}
	slices.Sort(names)
	for _, f := range []pattern.StateFilter{pattern.Established, pattern.Failed} {
		all := states(f)
		slices.Sort(all)
		if slices.Equal(all, names) {
			return text + " state=" + f.String(), nil
		}
	}
	return text + " state=" + strings.Join(names, ","), nil // Parse checks the names
}

// listOf reads a value or a list; what could be anything but a word of the
// pattern language is refused.
func listOf(v any) (out []string, err error) {
	all, ok := v.([]any)
	if !ok {
		all = []any{v}
	}
	for _, x := range all {
		var text string
		switch x := x.(type) {
		case nil:
			continue
		case string:
			text = x
		case int:
			text = strconv.Itoa(x)
		default:
			return nil, fmt.Errorf("%w: value %.40v", ErrCannot, x)
		}
		if text == "" || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/-") != "" {
			return nil, fmt.Errorf("%w: value %.40q", ErrCannot, text)
		}
		out = append(out, text)
	}
	return out, nil
}
