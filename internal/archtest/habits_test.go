package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// longest bounds a source file, in lines, so that it can be read in one go;
// longFiles are the exceptions, with the reason.
const longest = 500

var longFiles = map[string]string{}

// eachFile calls check on every Go file of the module that people write.
func eachFile(t *testing.T, check func(name string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	files := 0
	for _, p := range packages(t) {
		for _, list := range [][]string{p.GoFiles, p.TestGoFiles, p.XTestGoFiles} {
			for _, base := range list {
				fset := token.NewFileSet()
				name := filepath.Join(p.Dir, base)
				file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
				if err != nil {
					t.Fatal(err)
				}
				if ast.IsGenerated(file) {
					continue
				}
				files++
				check(strings.TrimPrefix(p.ImportPath, module)+"/"+base, fset, file)
			}
		}
	}
	if files == 0 {
		t.Fatal("no files were checked")
	}
}

func TestExportedNamesHaveComments(t *testing.T) {
	eachFile(t, func(name string, fset *token.FileSet, file *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, missing := range undocumented(file) {
			t.Errorf("%s:%d: %s is exported and has no comment", name, fset.Position(missing.Pos()).Line, missing.Name)
		}
	})
}

// undocumented returns the exported names of file without a comment; in a group of
// constants or variables the group's comment counts for all.
func undocumented(file *ast.File) []*ast.Ident {
	var missing []*ast.Ident
	want := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		for _, c := range comments {
			if c.Text() != "" {
				return
			}
		}
		if name.IsExported() {
			missing = append(missing, name)
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
				want(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if d.Lparen.IsValid() {
						want(spec.Name, spec.Doc)
					} else {
						want(spec.Name, d.Doc)
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						want(name, d.Doc, spec.Doc, spec.Comment)
					}
				}
			}
		}
	}
	return missing
}

// receiver is the name of a method's type, without pointer and parameters.
func receiver(t ast.Expr) string {
	for {
		switch e := t.(type) {
		case *ast.StarExpr:
			t = e.X
		case *ast.IndexExpr:
			t = e.X
		case *ast.IndexListExpr:
			t = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

func TestUndocumentedBites(t *testing.T) {
	const src = `package p
// A has one.
type A struct{}
type B struct{}
type c struct{}
// M has one.
func (a *A) M() {}
func (a *A) N() {}
func (c) O() {}
func (g *G[T]) P() {}
// Group comment.
const (
	D = 1
	E = 2
)
var F = 1
var (
	H = 1 // a line comment counts
	i = 1
)
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range undocumented(file) {
		got = append(got, name.Name)
	}
	if want := "B N P F"; strings.Join(got, " ") != want {
		t.Errorf("found %v, want %s", got, want)
	}
}

func TestFileNames(t *testing.T) {
	plain := regexp.MustCompile(`^[a-z0-9_]+\.go$`)
	eachFile(t, func(name string, _ *token.FileSet, _ *ast.File) {
		if !plain.MatchString(filepath.Base(name)) {
			t.Errorf("%s: a file is named in lower case, without hyphens", name)
		}
	})
}

func TestFilesAreShortEnoughToRead(t *testing.T) {
	long := map[string]bool{}
	eachFile(t, func(name string, fset *token.FileSet, file *ast.File) {
		lines := fset.File(file.Pos()).LineCount()
		if lines <= longest || strings.HasSuffix(name, "_test.go") {
			return
		}
		long[name] = true
		if longFiles[name] == "" {
			t.Errorf("%s has %d lines; split it where the reader would pause, or give the reason in longFiles", name, lines)
		}
	})
	for name := range longFiles {
		if !long[name] {
			t.Errorf("%s is no longer long; take it off longFiles", name)
		}
	}
}

// A test that shortens itself by testing.Short alone would never run whole: 'make
// test' reads from testkit's record which tests did.
func TestShortIsAskedOfTestkit(t *testing.T) {
	eachFile(t, func(name string, fset *token.FileSet, file *ast.File) {
		if strings.HasPrefix(name, "internal/testkit/") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Short" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "testing" {
					t.Errorf("%s:%d: call testkit.Short(t) instead of testing.Short()", name, fset.Position(s.Pos()).Line)
				}
			}
			return true
		})
	})
}

// TestLogsAreInjectedInOneWay: a part gets its log, clock, database and other parts
// as fields of one struct, so that who needs whom can be read where it is made.
func TestLogsAreInjectedInOneWay(t *testing.T) {
	constructors := 0
	eachFile(t, func(name string, fset *token.FileSet, file *ast.File) {
		if strings.HasPrefix(name, "internal/") || strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "New") {
				continue
			}
			constructors++
			for _, p := range f.Type.Params.List {
				if isLogger(p.Type) {
					t.Errorf("%s:%d: %s has a log as a parameter; make it a field of Dependencies", name, fset.Position(f.Pos()).Line, f.Name.Name)
				}
			}
		}
	})
	if constructors == 0 {
		t.Fatal("no constructors were checked")
	}
}

// isLogger reports whether a type is *slog.Logger.
func isLogger(t ast.Expr) bool {
	star, ok := t.(*ast.StarExpr)
	if !ok {
		return false
	}
	name, ok := star.X.(*ast.SelectorExpr)
	return ok && name.Sel.Name == "Logger"
}
