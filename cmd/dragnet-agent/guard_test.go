package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/contain/guard"
	"dragnet/internal/testkit"
)

// The example that is shipped is read as it is documented.
func TestGuardExample(t *testing.T) {
	c, err := loadGuard([]string{"../../packaging/config/site.yaml", "../../packaging/config/guard.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Standing.Enforce || c.Name != "edge-1" || len(c.Allow) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestGuardMistakes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = "state: ''\nscope: {sources: [10.0.0.0/8], ports: [80]}\n"
	capture := write("capture", "not a capture")
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"--config", write("typo.yaml", good+"stading: {}\n")}, 1, "typo.yaml:3"},
		{[]string{"--config", write("nobody.yaml", good+"standing: {enforce: true}\n")}, 1, "enforcement needs a name"},
		{[]string{"--config", write("good.yaml", good)}, 1, "name the one to watch"},
		{[]string{"--config", filepath.Join(dir, "good.yaml"), "--interface", "none0"}, 1, "none0"},
		{[]string{"--config", filepath.Join(dir, "good.yaml"), "--interface", "lo", "--read", capture}, 2, "cannot be combined"},
		{[]string{"--config", filepath.Join(dir, "good.yaml"), "--read", capture}, 1, "not a pcap"},
		{[]string{"--config", filepath.Join(dir, "none.yaml")}, 1, "none.yaml"},
	} {
		if out, code := agent(t, append([]string{"run", "guard"}, c.args...)...); code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%v: %d %s; want %d and %q", c.args, code, out, c.code, c.say)
		}
	}
}

// On the recorded worm traffic of the shared data the guard would hold back the
// infected host, and no other.
func TestGuardReadsCaptures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard.yaml")
	config := "scope: {sources: [0.0.0.0/0], ports: [80, 443, 445, 22]}\nlimits: {omega: 60, bucket: 20, entries: 1024, records: 65536, requests: 65536}\n"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(testkit.Data(t, "benign"), "*.pcap*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("the shared data holds no benign captures")
	}
	for _, file := range files {
		out, code := agent(t, "run", "guard", "--config", path, "--read", file, "-o", "jsonl")
		if code != 0 {
			t.Errorf("%s: %d %s", file, code, out)
		}
		for text := range strings.Lines(out) {
			var e guard.Action
			if json.Unmarshal([]byte(text), &e) == nil && e.What != "standing" {
				t.Errorf("%s: would be hindered: %s", filepath.Base(file), fmt.Sprint(e))
			}
		}
	}
}
