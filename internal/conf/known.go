package conf

import (
	"reflect"

	"go.yaml.in/yaml/v3"
)

// CountKnownKeys counts the keys at the top of files that the struct into points
// to has too, so that a program can tell whose configuration they are. A file that
// cannot be read or parsed counts as empty.
func CountKnownKeys(into any, files ...string) (n int) {
	known := map[string]bool{}
	for f := range Fields(reflect.TypeOf(into).Elem()) {
		known[f.Key] = true
	}
	for _, name := range files {
		data, err := readBounded(name)
		if err != nil {
			continue
		}
		root, _ := parseDocument(File{name, data})
		if root == nil || root.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i < len(root.Content); i += 2 {
			if known[root.Content[i].Value] {
				n++
			}
		}
	}
	return n
}
