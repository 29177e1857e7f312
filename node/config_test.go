package node

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/conf"
	"dragnet/node/community"
)

var update = flag.Bool("update", false, "write testdata/*/expected again")

// TestCases reads every testdata/NAME/in*.yaml as one configuration and
// compares the effective configuration, or what is wrong, with
// testdata/NAME/expected.
func TestCases(t *testing.T) {
	folders, err := filepath.Glob("testdata/*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(folder, "in*.yaml"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no in*.yaml: %v", err)
			}
			got := effective(t, files)
			expected := filepath.Join(folder, "expected")
			if *update {
				if err := os.WriteFile(expected, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(expected)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func effective(t *testing.T, files []string) string {
	t.Helper()
	c, err := LoadConfiguration(files...)
	if err != nil {
		return strings.ReplaceAll(err.Error(), filepath.Dir(files[0])+"/", "") + "\n"
	}
	var b bytes.Buffer
	if err := conf.Show(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestShippedExamplesAreValid(t *testing.T) {
	const examples = "../packaging/config/"
	c, err := LoadConfiguration(examples+"site.yaml", examples+"node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Site.Networks) == 0 {
		t.Error("site.yaml names no networks")
	}
	if _, err := community.LoadConfiguration(examples+"site.yaml", examples+"clearinghouse.yaml"); err != nil {
		t.Error(err)
	}
}
