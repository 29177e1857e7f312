package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/internal/cli"
	"dragnet/internal/testkit"
)

// TestDoctor: each role's checks say what is missing; the exit code is 3 if
// something without which the role cannot run is.
func TestDoctor(t *testing.T) {
	testkit.Root(t)
	dir := t.TempDir()
	const (
		ok, limited, broken = "ok", "limited", "broken"
		watch               = "scope: {sources: [10.0.0.0/8], ports: [80]}\n"
	)
	for name, c := range map[string]struct {
		role, config string
		code         int
		want         map[string]string
	}{
		"ripcord": {"ripcord", "host: none0\nnetwork: lo\npins: DIR/p\nstate: DIR/s\n", 3, map[string]string{
			"interface none0": broken, "interface lo": limited, "pins": broken, "ring buffers": ok, "bpf_loop": ok, "tcx": ok, "kernel": ok, "eBPF compiler": ok, "system calls": ok, "user nobody": ok, "state": ok, "enforce": limited,
		}},
		"guard": {"guard", watch + "live: {interface: lo}\nstate: DIR/s\nstanding: {by: a, why: b, enforce: true}\nvalidation: {by: c}\n", 0, map[string]string{
			"interface lo": ok, "capture": ok, "state": ok, "enforcement": ok, "validation": ok, "nftables": ok,
		}},
		"guard that only counts": {"guard", watch + "live: {interface: lo}\nstate: ''\n", 0, map[string]string{"state": limited, "enforcement": limited, "validation": limited}},
		"guard without anything": {"guard", watch + "live: {interface: none0}\nstate: /proc/version/s\nstation: true\nchannel: {state: DIR/none}\n", 3, map[string]string{
			"interface none0": limited, "capture": broken, "state": broken, "enrolment": broken, "nftables": ok,
		}},
		"sensor": {"sensor", "live: {interface: lo}\nworkers: 64\nchannel: {state: DIR/none}\npayload: {match: true, reset: true}\n", 3, map[string]string{
			"interface lo": ok, "capture": ok, "workers": limited, "enrolment": broken, "resets": ok,
		}},
	} {
		config := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(config, []byte(strings.ReplaceAll(c.config, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, code := agent(t, "doctor", "--"+c.role, config, "-o", "json")
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, c.code, out)
		}
		rows, err := cli.ReadItems[checkResult](strings.NewReader(out))
		if err != nil {
			t.Fatalf("%s: not JSON: %s", name, out)
		}
		got := map[string]string{}
		for _, r := range rows {
			got[r.Check] = r.Result
		}
		for check, want := range c.want {
			if got[check] != want {
				t.Errorf("%s: %s: %q, want %q; %s", name, check, got[check], want, out)
			}
		}
	}
	if out, code := agent(t, "doctor", "--guard", "a", "--trap", "b"); code != 2 || !strings.Contains(out, "cannot be combined") {
		t.Errorf("two roles: %d %s", code, out)
	}
}
