package stix_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"dragnet/dossier"
	"dragnet/publish/publishtest"
	"dragnet/publish/stix"
)

// schemas compiles the schemas that OASIS publishes for STIX 2.1
// (oasis-open/cti-stix2-json-schemas), which testdata holds.
func schemas(t testing.TB) func(kind string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	byType := map[string]string{}
	err := fs.WalkDir(os.DirFS("testdata/schemas"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		data, err := os.ReadFile(filepath.Join("testdata/schemas", path))
		if err != nil {
			return err
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
		if err != nil {
			return err
		}
		byType[strings.TrimSuffix(filepath.Base(path), ".json")] = "stix:///" + path
		return c.AddResource("stix:///"+path, doc)
	})
	if err != nil {
		t.Fatal(err)
	}
	// The schemas name each other by their addresses on the web.
	c.UseLoader(local{})
	return func(kind string) *jsonschema.Schema {
		s, err := c.Compile(byType[kind])
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		return s
	}
}

// local finds schemas in testdata, whatever host they are named on.
type local struct{}

func (local) Load(url string) (any, error) {
	_, path, _ := strings.Cut(url, "/schemas/")
	data, err := os.ReadFile(filepath.Join("testdata/schemas", path))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
}

func TestObjectsFollowThePublishedSchemas(t *testing.T) {
	s := publishtest.New()
	s.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	s.List("g2", nil, 0, "203.0.113.9")
	v := s.Feed(t).View()
	m := stix.NewMaker("key", "Example clearinghouse", "https://example.org/objections")
	objects := []*stix.Object{m.Publisher(), stix.Marking()}
	for i := range v.Rows {
		for kind := range stix.Kinds {
			objects = append(objects, m.RowObject(&v.Rows[i], kind))
		}
	}
	for _, name := range v.GroupNames() {
		objects = append(objects, m.Group(v, v.Groups[name]))
	}
	objects = append(objects, m.RevokedIndicator(&dossier.Change{Time: v.Time, Kind: dossier.Removed, Entry: v.Rows[0].Entry}))
	schema := schemas(t)
	for _, o := range objects {
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema(o.Type).Validate(doc); err != nil {
			t.Errorf("%s: %v", data, err)
		}
		if o.Type == "indicator" && o.ValidUntil == "" {
			t.Errorf("%s does not expire", o.ID)
		}
	}
	// The schemas notice what is wrong.
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"type":"indicator","spec_version":"2.1","id":"indicator--1"}`))
	if err != nil || schema("indicator").Validate(doc) == nil {
		t.Errorf("a wrong indicator passes: %v", err)
	}
}

// TestIdentifiersAreOthersToo: the first is an example of the specification
// (section 2.9), the second what other producers make.
func TestIdentifiersAreOthersToo(t *testing.T) {
	for value, want := range map[string]string{"198.51.100.3": "28bb3599-77cd-5a82-a950-b5bc3caf07c4", "2001:db8::1": "6469e3a9-b053-5e34-a025-9396ae051d26"} {
		if got := stix.AddressID(value).String(); got != want {
			t.Errorf("%s has %s, want %s", value, got, want)
		}
	}
}
