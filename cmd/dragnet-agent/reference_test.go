package main

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/contain/guard"
	"dragnet/contain/ripcord"
	"dragnet/internal/gen/reference"
	"dragnet/source/sensor"
	"dragnet/trace/daemon"
	"dragnet/trap"
)

var update = flag.Bool("update", false, "write docs/reference again")

// TestReferenceIsFresh compares the generated pages with those in docs; 'make
// gen' writes them.
func TestReferenceIsFresh(t *testing.T) {
	roleGuard, err := reference.Role("dragnet", "../..", "Configuration of the guard",
		"What `dragnet-agent run guard` reads: YAML, strictly.", guard.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	roleRipcord, err := reference.Role("dragnet", "../..", "Configuration of the ripcord gateway",
		"What `dragnet-agent run ripcord` reads: YAML, strictly.", ripcord.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	roleTrap, err := reference.Role("dragnet", "../..", "Configuration of the trap",
		"What `dragnet-agent run trap` reads: YAML, strictly.", trap.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	roleSensor, err := reference.Role("dragnet", "../..", "Configuration of the sensor",
		"What `dragnet-agent run sensor` reads: YAML, strictly.", sensor.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	roleIdent, err := reference.Role("dragnet", "../..", "Configuration of the ident daemon",
		"What `dragnet-agent run ident` reads: YAML, strictly.", daemon.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	commands := bytes.Replace(reference.CLI(newRoot()), []byte("# Command line\n"), []byte("# Command line of the agent\n"), 1)
	for name, want := range map[string][]byte{
		"../../docs/reference/agent.md":   commands,
		"../../docs/reference/guard.md":   roleGuard,
		"../../docs/reference/ident.md":   roleIdent,
		"../../docs/reference/ripcord.md": roleRipcord,
		"../../docs/reference/sensor.md":  roleSensor,
		"../../docs/reference/trap.md":    roleTrap,
	} {
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is stale, run 'make gen' (-generated +file):\n%s", name, diff)
		}
	}
}
