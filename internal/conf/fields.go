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

// ChangedKeys lists the keys, such as store.keep_days, whose values differ between
// two configurations of one struct. A list or map that differs is one key.
func ChangedKeys(was, is any) []string {
	return appendChanged(nil, "", reflect.ValueOf(was), reflect.ValueOf(is))
}

func appendChanged(keys []string, key string, was, is reflect.Value) []string {
	if reflect.DeepEqual(was.Interface(), is.Interface()) {
		return keys
	}
	before := len(keys)
	if was.Kind() == reflect.Struct {
		for f := range Fields(was.Type()) {
			keys = appendChanged(keys, joinKey(key, f.Key), was.Field(f.Index), is.Field(f.Index))
		}
	}
	if len(keys) == before { // no struct, or one without keys, such as a prefix
		keys = append(keys, key)
	}
	return keys
}
