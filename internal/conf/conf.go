// Package conf reads configuration files strictly: an unknown key, a second
// document, an alias or a value of the wrong kind is an error that names file,
// line and key, and all of them are reported at once. It knows nothing of the
// domain; a role passes in a struct filled with its defaults.
//
// Precedence is flag, then file, then default. Several files make one
// configuration: each sets the keys it holds, a later file wins, and a list
// replaces the list before it.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize bounds a configuration file, in bytes.
const MaxSize = 1 << 20

// maxFindings bounds the report on a file that is not a configuration.
const maxFindings = 50

// Mistake is one mistake in a configuration.
type Mistake struct {
	// File is the name it was read under; empty when the mistake lies between
	// files.
	File string `json:"file"`
	// Line counts from 1; 0 when the mistake has no line.
	Line int `json:"line"`
	// Key is the path of the value, as site.networks[0]; may be empty.
	Key string `json:"key"`
	// Problem says what is wrong and what to write instead.
	Problem string `json:"problem"`
}

// String is the finding as file:line: key: problem.
func (f Mistake) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
		if f.Line > 0 {
			fmt.Fprintf(&b, "%d:", f.Line)
		}
		b.WriteByte(' ')
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	return b.String() + f.Problem
}

// Error holds everything wrong with a configuration, at least one finding.
type Error struct{ Mistakes []Mistake }

// Error lists the findings, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, f := range e.Mistakes {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Hint says what to do about mistakes.
func (e *Error) Hint() string {
	return "correct the file; docs/reference lists the keys of each role, and 'dragnet config check' looks at a node's files"
}

// File is one configuration file in memory.
type File struct {
	// Name appears in findings.
	Name string
	// Data is YAML, at most MaxSize bytes.
	Data []byte
}

// Load reads files in order over the defaults that into, a pointer to a
// struct, already holds. The error is an *Error when the files could be read.
func Load(into any, files ...string) error {
	sources := make([]File, 0, len(files))
	for _, name := range files {
		data, err := readBounded(name)
		if err != nil {
			return err
		}
		sources = append(sources, File{name, data})
	}
	return Read(into, sources...)
}

// LoadOver is Load over a copy of defaults, which it returns.
func LoadOver[T any](defaults T, files ...string) (T, error) {
	err := Load(&defaults, files...)
	return defaults, err
}

// readBounded reads one byte more than allowed, so that Read can tell.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return data, nil
}

// Read is Load on files in memory. Where into has a method Validate() error it
// is called last; an error of it that starts with the path of a key (as
// "site.networks[0]: ...") is reported with that key's line, and joined errors
// (errors.Join) become one finding each.
func Read(into any, sources ...File) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("conf: Read needs a pointer to a struct, not %T", into)
	}
	seen := places{}
	var findings []Mistake
	var roots []*yaml.Node
	for _, s := range sources {
		root, found := parseDocument(s)
		if root != nil {
			c := checker{file: s.Name, seen: seen}
			c.checkValue(root, target.Type(), "")
			found = c.findings
		}
		findings = append(findings, found...)
		roots = append(roots, root)
	}
	if more := len(findings) - maxFindings; more > 0 {
		findings = append(findings[:maxFindings], Mistake{Problem: fmt.Sprintf("and %d more mistakes", more)})
	}
	if len(findings) > 0 {
		return &Error{findings}
	}
	for i, root := range roots {
		if root == nil {
			continue
		}
		if err := root.Decode(into); err != nil {
			return &Error{[]Mistake{{File: sources[i].Name, Problem: plainMessage(err)}}}
		}
	}
	if v, ok := into.(interface{ Validate() error }); ok {
		if findings := seen.locateError(v.Validate()); len(findings) > 0 {
			return &Error{findings}
		}
	}
	return nil
}

// parseDocument returns the root of the one document in s, nil when it is empty.
func parseDocument(s File) (*yaml.Node, []Mistake) {
	fail := func(line int, format string, args ...any) (*yaml.Node, []Mistake) {
		return nil, []Mistake{{File: s.Name, Line: line, Problem: fmt.Sprintf(format, args...)}}
	}
	if len(s.Data) > MaxSize {
		return fail(0, "is larger than %d bytes, so not a configuration file", MaxSize)
	}
	dec := yaml.NewDecoder(bytes.NewReader(s.Data))
	var document, second yaml.Node
	if err := dec.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return fail(lineOf(err), "is not valid YAML: %s", plainMessage(err))
	}
	if err := dec.Decode(&second); err == nil {
		return fail(second.Line, "holds a second document; put everything into the first")
	} else if !errors.Is(err, io.EOF) {
		return fail(lineOf(err), "is not valid YAML: %s", plainMessage(err))
	}
	return document.Content[0], nil
}

// lineOf finds the line in an error of the YAML library, whose text is
// "yaml: line N: problem"; 0 when there is none.
func lineOf(err error) (line int) {
	_, _ = fmt.Sscanf(err.Error(), "yaml: line %d:", &line)
	return line
}

// plainMessage returns the error's text without the library's prefix and line.
func plainMessage(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if line := lineOf(err); line > 0 {
		text = strings.TrimPrefix(text, fmt.Sprintf("line %d: ", line))
	}
	return text
}
