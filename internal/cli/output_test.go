package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestList: every list has the same form in JSON, also when it is empty, and is read
// back.
func TestList(t *testing.T) {
	for want, r := range map[string]Rows[any]{
		`{"version":1,"items":[]}`:                           {Header: []string{"n"}},
		`{"version":1,"items":["a","b"],"cursor":"further"}`: {Header: []string{"n"}, Items: []any{"a", "b"}, Cursor: "further"},
	} {
		var out bytes.Buffer
		if err := WriteRows(&out, JSON, r); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(out.String()), ""); got != want {
			t.Errorf("%s; want %s", got, want)
		}
		items, err := ReadItems[any](&out)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([]any{}, r.Items...), items); diff != "" {
			t.Errorf("read back: %s", diff)
		}
	}
	for _, bad := range []string{"", "[]", `{"version":2,"items":[]}`, `{}`} {
		if _, err := ReadItems[any](strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
