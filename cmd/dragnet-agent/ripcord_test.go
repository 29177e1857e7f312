package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRipcordMistakes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("host: a\nnetwork: b\nenforced: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none.yaml")
	if err := os.WriteFile(none, []byte("host: none0\nnetwork: none1\npins: "+dir+"/p\nstate: "+dir+"/s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"run", "ripcord", "--config", bad}, 1, "bad.yaml:3: enforced"},
		{[]string{"run", "ripcord", "--config", none}, 1, "none0"},
		{[]string{"ripcord", "show", "--config", none}, 1, "has 'dragnet-agent run ripcord' run here?"},
		{[]string{"ripcord", "remove", "--config", none}, 1, "pinned tables"},
		{[]string{"ripcord", "pull", "victim"}, 2, "host"},
		{[]string{"ripcord", "pull", "192.0.2.1", "--proto", "tpc"}, 2, "tpc"},
		{[]string{"ripcord", "pull", "192.0.2.1", "--port", "80"}, 2, "add --proto"},
		{[]string{"ripcord", "pull", "192.0.2.1", "--to", "10.0.0.0/40"}, 2, "to:"},
		{[]string{"ripcord", "pull", "127.0.0.1", "--proto", "udp", "--gateway-port", "9", "--timeout", "1s"}, 1, "no answer"},
		{[]string{"ripcord", "pull", "127.0.0.1", "--to", "::1"}, 1, "different families"},
	} {
		if out, code := agent(t, c.args...); code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%v: %d %s; want %d and %q", c.args, code, out, c.code, c.say)
		}
	}
}
