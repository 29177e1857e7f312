package conf

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// place is where a key was set last.
type place struct {
	file string
	line int
}

// places maps the path of each value, as site.networks[0], to its place.
type places map[string]place

// checker walks a document beside the type it is meant for and collects every
// mistake, so that the decoding after it cannot fail half way.
type checker struct {
	file     string
	seen     places
	findings []Mistake
}

func (c *checker) addFinding(n *yaml.Node, key, format string, args ...any) {
	c.findings = append(c.findings, Mistake{c.file, n.Line, key, fmt.Sprintf(format, args...)})
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	yamlUnmarshaler = reflect.TypeFor[yaml.Unmarshaler]()
)

// checkValue checks node n, found under key, against t. The depth of the walk is
// bounded by the type's, and aliases are refused, so hostile nesting costs
// nothing.
func (c *checker) checkValue(n *yaml.Node, t reflect.Type, key string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		c.addFinding(n, key, "anchors and aliases are not supported; write the value out")
		return
	}
	if key != "" {
		c.seen[key] = place{c.file, n.Line}
	}
	empty := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	switch pointer := reflect.PointerTo(t); {
	case pointer.Implements(textUnmarshaler) || pointer.Implements(yamlUnmarshaler):
		c.checkScalar(n, t, key)
	case t.Kind() == reflect.Struct:
		if !empty {
			c.checkFields(n, t, key)
		}
	case t.Kind() == reflect.Slice:
		if !empty {
			c.checkItems(n, t, key)
		}
	case t.Kind() == reflect.Map:
		if !empty {
			c.checkEntries(n, t, key)
		}
	default:
		c.checkScalar(n, t, key)
	}
}

func (c *checker) checkFields(n *yaml.Node, t reflect.Type, key string) {
	known := map[string]reflect.Type{}
	var names []string
	for f := range Fields(t) {
		known[f.Key] = f.Type
		names = append(names, f.Key)
	}
	c.eachPair(n, key, func(name, value *yaml.Node) {
		field, ok := known[name.Value]
		if !ok {
			c.addFinding(name, joinKey(key, name.Value), "unknown key%s", suggestKey(name.Value, names))
			return
		}
		c.checkValue(value, field, joinKey(key, name.Value))
	})
}

func (c *checker) checkEntries(n *yaml.Node, t reflect.Type, key string) {
	c.eachPair(n, key, func(name, value *yaml.Node) {
		c.checkValue(value, t.Elem(), joinKey(key, name.Value))
	})
}

// eachPair calls each with the keys of a mapping and their values, once per key.
func (c *checker) eachPair(n *yaml.Node, key string, each func(name, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		c.addFinding(n, key, "must hold keys and values, one 'key: value' a line")
		return
	}
	line := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Anchor != "" {
			c.addFinding(name, key, "a key must be a plain word")
			continue
		}
		if first, twice := line[name.Value]; twice {
			c.addFinding(name, joinKey(key, name.Value), "is set twice, first on line %d", first)
			continue
		}
		line[name.Value] = name.Line
		each(name, value)
	}
}

func (c *checker) checkItems(n *yaml.Node, t reflect.Type, key string) {
	if n.Kind != yaml.SequenceNode {
		c.addFinding(n, key, "must be a list, each item on a line after '- ' or within [ ]")
		return
	}
	for i, item := range n.Content {
		c.checkValue(item, t.Elem(), fmt.Sprintf("%s[%d]", key, i))
	}
}

func (c *checker) checkScalar(n *yaml.Node, t reflect.Type, key string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		c.addFinding(n, key, "has no value; remove the line to keep the default")
		return
	}
	if n.Kind != yaml.ScalarNode {
		c.addFinding(n, key, "must be %s", kindOf(t))
		return
	}
	if wholeNumber(t) && n.Tag == "!!float" {
		c.addFinding(n, key, "%q is not %s", n.Value, kindOf(t)) // the library would cut the fraction off
		return
	}
	err := n.Decode(reflect.New(t).Interface())
	if _, mismatch := errors.AsType[*yaml.TypeError](err); mismatch {
		c.addFinding(n, key, "%q is not %s", n.Value, kindOf(t))
	} else if err != nil {
		c.addFinding(n, key, "cannot use %q: %s", n.Value, plainMessage(err))
	}
}

func wholeNumber(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 }

// kindOf describes the values of t to an author of YAML.
func kindOf(t reflect.Type) string {
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 90s or 24h"
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Uint && k <= reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 to %d", ^uint64(0)>>(64-t.Bits()))
	case k >= reflect.Int && k <= reflect.Int64:
		return "a whole number"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	}
	return "a single value"
}

// locateError turns an error of Validate into findings, each with the place of the
// longest key its text starts with.
func (p places) locateError(err error) []Mistake {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Mistake
		for _, e := range joined.Unwrap() {
			all = append(all, p.locateError(e)...)
		}
		return all
	}
	text := err.Error()
	end := strings.IndexFunc(text, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_.[]", r)
	})
	if end < 0 {
		end = len(text)
	}
	key := text[:end]
	if !strings.ContainsAny(key, ".[") && !strings.HasPrefix(text[end:], ":") {
		return []Mistake{{Problem: text}} // an ordinary first word
	}
	at := p[key]
	for part := key; at.file == "" && part != ""; {
		part = part[:max(strings.LastIndexAny(part, ".["), 0)]
		at = p[part]
	}
	return []Mistake{{at.file, at.line, key, strings.TrimLeft(text[end:], ": ")}}
}

func joinKey(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// suggestKey names the known key nearest to got if it is near, else lists them.
func suggestKey(got string, known []string) string {
	best, least := "", min(len(got), 1+max(2, len(got)/3))
	for _, name := range known {
		if d := editDistance(strings.ToLower(got), name); d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; want one of " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// editDistance returns the Levenshtein distance of a and b, in bytes. Words longer
// than any key are not compared.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
