package archtest

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// noFormats are the packages of source that read no bytes of a format themselves.
var noFormats = map[string]string{
	"biflow":     "joins what formats read",
	"collect":    "hands datagrams to formats",
	"exporters":  "keeps counts by exporter",
	"gaps":       "follows sequence numbers",
	"kafka":      "hands messages to formats",
	"lines":      "hands lines to formats",
	"sourcetest": "for tests only",
}

// TestFormatsHaveOneShape: a format called X has its entrance in X.go, under the
// package's comment, tests in X_test.go, and a fuzz target, so that who knows one
// folder of source knows all.
func TestFormatsHaveOneShape(t *testing.T) {
	type shape struct{ entrance, tests, fuzzed bool }
	formats := map[string]*shape{}
	eachFile(t, func(name string, _ *token.FileSet, file *ast.File) {
		room, format := filepath.Split(filepath.Dir(name))
		if filepath.Base(room) != "source" || noFormats[format] != "" {
			return
		}
		s := formats[format]
		if s == nil {
			s = new(shape)
			formats[format] = s
		}
		switch filepath.Base(name) {
		case format + ".go":
			s.entrance = file.Doc != nil
		case format + "_test.go":
			s.tests = true
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Fuzz") {
				s.fuzzed = true
			}
		}
	})
	if len(formats) < 12 {
		t.Fatalf("only %d formats found", len(formats))
	}
	for name, s := range formats {
		if !s.entrance || !s.tests || !s.fuzzed {
			t.Errorf("source/%s: %[1]s.go with the package's comment %[2]t, %[1]s_test.go %[3]t, a fuzz target %[4]t; want all", name, s.entrance, s.tests, s.fuzzed)
		}
	}
}
