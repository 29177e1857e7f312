package play

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlay plays the incident, which fails where the group is not the truth.
func TestPlay(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "captures")
	var out bytes.Buffer
	if err := Play(t.Context(), &out, keep); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"8 hosts were infected, and all were found", "Nothing of draco could be opened", "-w aurora=" + keep} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	captures, err := os.ReadDir(keep)
	if err != nil || len(captures) != 4 {
		t.Errorf("%d captures kept, want 4 (%v)", len(captures), err)
	}
}
