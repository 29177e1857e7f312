package conf

import (
	"iter"
	"reflect"
	"strings"
)

// Field is one key of a configuration struct.
type Field struct {
	// Key is its name in YAML.
	Key string
	// Name is the Go field's name, by which its comment is found.
	Name string
	// Type of the Go field.
	Type reflect.Type
	// Index of the Go field in its struct.
	Index int
}

// Fields yields the keys of struct t in order, as the YAML library sees them:
// the name in the tag, else the field's name in lower case; "-" hides a field.
func Fields(t reflect.Type) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || key == "-" {
				continue
			}
			if key == "" {
				key = strings.ToLower(f.Name)
			}
			if !yield(Field{key, f.Name, f.Type, i}) {
				return
			}
		}
	}
}
