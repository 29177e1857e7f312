package reference

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// outer is a sample with each kind of key.
type outer struct {
	// Wait is how long, with a | in it.
	Wait time.Duration `yaml:"wait"`
	// Names to use.
	Names []string `yaml:"names"`
	// Peers we know.
	Peers []inner `yaml:"peers"`
	// One of them.
	One    inner `yaml:"one"`
	Hidden int   `yaml:"-"`
}

type inner struct {
	// Port counts from 1.
	Port uint16 `yaml:"port"`
}

type silent struct {
	Told int // a comment behind the field is easy to miss, so it does not count
}

func TestConfiguration(t *testing.T) {
	// The comments are in this test file, which lies in the package's folder.
	page, err := Configuration("dragnet", "../../..", outer{Wait: time.Hour, One: inner{Port: 7}})
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(string(page), "before it.\n")
	const want = "\n| key | type | default | meaning |\n|---|---|---|---|\n" +
		"| `wait` | duration | `1h0m0s` | Wait is how long, with a \\| in it. |\n" +
		"| `names` | list of string | none | Names to use. |\n" +
		"\n## peers[]\n\nPeers we know.\n\n| key | type | default | meaning |\n|---|---|---|---|\n" +
		"| `peers[].port` | uint16 | `0` | Port counts from 1. |\n" +
		"\n## one\n\nOne of them.\n\n| key | type | default | meaning |\n|---|---|---|---|\n" +
		"| `one.port` | uint16 | `7` | Port counts from 1. |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigurationWantsComments(t *testing.T) {
	_, err := Configuration("dragnet", "../../..", silent{})
	if err == nil || !strings.Contains(err.Error(), "field Told has no comment") {
		t.Errorf("error is %v", err)
	}
	_, err = Configuration("elsewhere", "../../..", outer{})
	if err == nil || !strings.Contains(err.Error(), "is not of module elsewhere") {
		t.Errorf("error is %v", err)
	}
}

func TestCLI(t *testing.T) {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "tool", Short: "Do things"}
	noun := &cobra.Command{Use: "noun", Short: "Things"}
	verb := &cobra.Command{Use: "do X|Y", Short: "Do X | Y", Long: "Do X or Y.", Example: "  tool noun do X", Run: run}
	verb.Flags().Int("times", 2, "how often")
	root.AddCommand(noun, &cobra.Command{Use: "secret", Hidden: true, Run: run})
	noun.AddCommand(verb)
	_, got, _ := strings.Cut(string(CLI(root)), "|---|---|\n")
	const want = "| [`tool noun`](#tool-noun) | Things |\n| [`tool noun do`](#tool-noun-do) | Do X \\| Y |\n" +
		"\n## tool noun\n\nThings.\n" +
		"\n## tool noun do\n\nDo X or Y.\n\n```\ntool noun do X|Y [flags]\n```\n\n```\n      --times int   how often (default 2)\n```\n" +
		"\nExample:\n\n```\n  tool noun do X\n```\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAPI(t *testing.T) {
	const file = `syntax = "proto3";

// What is said.
package a.v1;

option go_package = "x";

// S serves.
service S {
  // Do does it,
  // twice.
  rpc Do(DoRequest) returns (stream DoResponse);
}

// Asked.
message DoRequest {
  // How | often.
  uint32 times = 1;
  repeated Thing things = 2;
}

message Thing {}
`
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.proto"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	page, err := API(root, "a.proto")
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(string(page), "does not know.\n")
	const want = "\n## a.v1\n\nSource: `a.proto`. What is said.\n\n### S\n\nS serves.\n\n`POST /a.v1.S/Do`\n\n" +
		"Do does it, twice. Takes [DoRequest](#dorequest), gives a stream of [DoResponse](#doresponse).\n" +
		"\n### Messages of a.v1\n\n#### DoRequest\n\nAsked.\n\n| field | type | meaning |\n|---|---|---|\n" +
		"| `times` | uint32 | How \\| often. |\n| `things` | list of [Thing](#thing) | - |\n\n#### Thing\n\nNo fields.\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(root, "a.proto"), []byte("enum E {\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := API(root, "a.proto"); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("what it does not understand: %v", err)
	}
}
