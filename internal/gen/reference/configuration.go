package reference

import (
	"bytes"
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"dragnet/internal/conf"
)

// Configuration is the page on every key of the configuration struct defaults,
// as Markdown: its type, its default, and the comment of its Go field. root is
// the folder of go.mod, module the module's path. A key whose field has no
// comment is an error.
func Configuration(module, root string, defaults any) ([]byte, error) {
	return Role(module, root, "Configuration", "Files are YAML and read strictly; `dragnet config check FILE...` reports every mistake, "+
		"`dragnet config show` prints the effective configuration.", defaults)
}

// Role is Configuration for another program than the node, with another title and
// introduction.
func Role(module, root, title, intro string, defaults any) ([]byte, error) {
	p := page{module: module, root: root, comments: map[string]map[string]string{}}
	p.WriteString(generated)
	t := reflect.TypeOf(defaults)
	fmt.Fprintf(&p, "# %s\n\nSource: `%s`. %s Several files make one configuration; a later file wins, and a list replaces the list before it.\n",
		title, t.PkgPath(), intro)
	if err := p.writeSection("", reflect.ValueOf(defaults)); err != nil {
		return nil, err
	}
	return p.Bytes(), nil
}

type page struct {
	bytes.Buffer
	module, root string
	// comments maps a type, as flow.Site by its import path, to the comments
	// of its fields.
	comments map[string]map[string]string
}

// writeSection writes a table of the plain keys of v, then a section for each key
// that holds keys itself.
func (p *page) writeSection(key string, v reflect.Value) error {
	comments, err := p.commentsOf(v.Type())
	if err != nil {
		return err
	}
	var rows bytes.Buffer
	var below []func() error
	for f := range conf.Fields(v.Type()) {
		comment := comments[f.Name]
		if comment == "" {
			return fmt.Errorf("%s.%s: field %s has no comment to document its key", v.Type(), f.Key, f.Name)
		}
		path := strings.TrimPrefix(key+"."+f.Key, ".")
		inner := f.Type
		for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map || inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if !isSection(inner) {
			fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", path, typeName(f.Type), defaultOf(v.Field(f.Index)), escapeCell(comment))
			continue
		}
		below = append(below, func() error {
			fmt.Fprintf(p, "\n## %s\n\n%s\n", path+typeSuffix(f.Type), comment)
			value := reflect.New(inner).Elem()
			if f.Type == inner {
				value = v.Field(f.Index)
			}
			return p.writeSection(path+typeSuffix(f.Type), value)
		})
	}
	if rows.Len() > 0 {
		fmt.Fprintf(p, "\n| key | type | default | meaning |\n|---|---|---|---|\n%s", rows.Bytes())
	}
	for _, write := range below {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func typeSuffix(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return ".NAME"
	}
	return ""
}

func typeName(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem())
	case t.Kind() == reflect.Map:
		return "map of " + typeName(t.Elem())
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.PkgPath() == "":
		return t.Kind().String()
	}
	return strings.ToLower(t.Name())
}

// defaultOf returns the value as it would be written in the file.
func defaultOf(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		if v.IsZero() || v.Kind() != reflect.Pointer && v.Len() == 0 {
			return "none"
		}
	case reflect.String:
		if v.IsZero() {
			return "none"
		}
	}
	text, err := yaml.Marshal(v.Interface())
	if err != nil {
		return err.Error()
	}
	return "`" + escapeCell(string(text)) + "`"
}

// commentsOf parses the package of struct t, one of this module, for the
// comments of t's fields.
func (p *page) commentsOf(t reflect.Type) (map[string]string, error) {
	name := t.PkgPath() + "." + t.Name()
	if known, ok := p.comments[name]; ok {
		return known, nil
	}
	folder, ours := strings.CutPrefix(t.PkgPath(), p.module+"/")
	if !ours {
		return nil, fmt.Errorf("%s: type %s is not of module %s, so its comments cannot be read", t.PkgPath(), t, p.module)
	}
	found := map[string]string{}
	files, err := filepath.Glob(filepath.Join(p.root, folder, "*.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s: %w", folder, fs.ErrNotExist)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == t.Name() {
				fieldComments(spec, found)
			}
			return true
		})
	}
	p.comments[name] = found
	return found, nil
}

func fieldComments(spec *ast.TypeSpec, found map[string]string) {
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			if text := strings.TrimSpace(f.Doc.Text()); text != "" {
				found[name.Name] = text
			}
		}
	}
}
