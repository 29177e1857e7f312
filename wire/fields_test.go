package wire_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	agentv1 "dragnet/wire/agent/v1"
	nodev1 "dragnet/wire/node/v1"
)

var update = flag.Bool("update", false, "add new fields to testdata/fields")

// TestFieldsStay compares the messages with testdata/fields, which has every
// field and call that was ever there: a line that is missing now would break
// programs of earlier builds.
func TestFieldsStay(t *testing.T) {
	var now []string
	for _, file := range []protoreflect.FileDescriptor{agentv1.File_wire_agent_v1_agent_proto, nodev1.File_wire_node_v1_node_proto} {
		now = append(now, linesOf(file)...)
	}
	slices.Sort(now)
	const name = "testdata/fields"
	text, err := os.ReadFile(name)
	if err != nil && !*update {
		t.Fatal(err)
	}
	ever := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range ever {
		if line != "" && !slices.Contains(now, line) {
			t.Errorf("gone or changed: %s", line)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(name, []byte(strings.Join(now, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, line := range now {
		if !slices.Contains(ever, line) {
			t.Errorf("new: %s; once it is as it shall be for good, 'go test ./wire -update' notes it", line)
		}
	}
}

func linesOf(file protoreflect.FileDescriptor) (out []string) {
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			kind := f.Kind().String()
			switch {
			case f.IsMap():
				kind = fmt.Sprintf("map of %v to %v", f.MapKey().Kind(), f.MapValue().Kind())
			case f.Message() != nil:
				kind = string(f.Message().FullName())
			}
			out = append(out, fmt.Sprintf("field %s %d %v %s", f.FullName(), f.Number(), f.Cardinality(), kind))
		}
	}
	for i := range file.Services().Len() {
		s := file.Services().Get(i)
		for j := range s.Methods().Len() {
			c := s.Methods().Get(j)
			out = append(out, fmt.Sprintf("call %s %s %s stream %v", c.FullName(), c.Input().FullName(), c.Output().FullName(), c.IsStreamingServer()))
		}
	}
	return out
}
