package main

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/gen/reference"
	"dragnet/node"
	"dragnet/node/community"
)

var update = flag.Bool("update", false, "write docs/reference again")

// TestReferenceIsFresh compares the generated pages with those in docs; 'make
// gen' writes them.
func TestReferenceIsFresh(t *testing.T) {
	configuration, err := reference.Configuration("dragnet", "../..", node.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	clearinghouse, err := reference.Role("dragnet", "../..", "Configuration of a clearinghouse",
		"What `dragnet run clearinghouse` reads: YAML, strictly.", community.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	api, err := reference.API("../..", "wire/node/v1/node.proto", "wire/agent/v1/agent.proto")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{
		"../../docs/reference/api.md":           api,
		"../../docs/reference/cli.md":           reference.CLI(newRoot()),
		"../../docs/reference/clearinghouse.md": clearinghouse,
		"../../docs/reference/configuration.md": configuration,
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
