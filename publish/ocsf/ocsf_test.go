package ocsf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
	"dragnet/publish/ocsf"
	"dragnet/publish/publishtest"
)

// schema is the published schema (ocsf/ocsf-schema), of which testdata holds
// the files that our classes need.
type schema struct {
	testing.TB
	attributes  map[string]attribute
	classes     map[int]definition
	observables map[string]any
	objects     map[string]definition
}

type definition struct {
	Name        string
	UID         int
	Category    string
	Extends     string
	Attributes  map[string]json.RawMessage
	Constraints struct {
		AtLeastOne []string `json:"at_least_one"`
	}
}

type attribute struct {
	Requirement, Type string
	ObjectType        string `json:"object_type"`
	IsArray           bool   `json:"is_array"`
	Profile           *string
	Enum              map[string]any
	BaseType          string `json:"type"`
}

func read(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", path))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func load(t testing.TB) *schema {
	s := &schema{TB: t, classes: map[int]definition{}, objects: map[string]definition{}}
	var dictionary struct {
		Attributes map[string]attribute
		Types      struct {
			Attributes map[string]struct{ Observable int }
		}
	}
	read(t, "dictionary.json", &dictionary)
	s.observables = map[string]any{}
	for _, x := range dictionary.Types.Attributes {
		s.observables[fmt.Sprint(x.Observable)] = true
	}
	if dictionary.Types.Attributes["ip_t"].Observable != 2 {
		t.Fatal("an IP address is no longer observable 2")
	}
	s.attributes = dictionary.Attributes
	var categories struct{ Attributes map[string]struct{ UID int } }
	read(t, "categories.json", &categories)
	all := map[string]definition{}
	for _, pattern := range []string{"events/*.json", "events/*/*.json", "objects/*.json"} {
		paths, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(paths) == 0 {
			t.Fatal(pattern, err)
		}
		for _, p := range paths {
			var d definition
			read(t, strings.TrimPrefix(p, "testdata/"), &d)
			all[d.Name] = d
		}
	}
	for name, d := range all {
		merged := s.inherit(all, d)
		s.objects[name] = merged
		if c := categories.Attributes[merged.Category]; c.UID != 0 && d.UID != 0 {
			s.classes[c.UID*1000+d.UID] = merged
		}
	}
	return s
}

// inherit adds what a definition takes from those it extends.
func (s *schema) inherit(all map[string]definition, d definition) definition {
	if d.Extends == "" {
		return d
	}
	parent, known := all[d.Extends]
	if !known {
		s.Fatalf("%s extends %s, which testdata lacks", d.Name, d.Extends)
	}
	parent = s.inherit(all, parent)
	merged := map[string]json.RawMessage{}
	for name, raw := range parent.Attributes {
		merged[name] = raw
	}
	for name, raw := range d.Attributes {
		var own, was map[string]any
		if json.Unmarshal(raw, &own) == nil && json.Unmarshal(merged[name], &was) == nil && name != "$include" {
			for k, v := range own {
				if inner, ok := was[k].(map[string]any); ok && k == "enum" {
					for x, y := range v.(map[string]any) {
						inner[x] = y
					}
					continue
				}
				was[k] = v
			}
			raw, _ = json.Marshal(was)
		}
		merged[name] = raw
	}
	d.Attributes = merged
	if d.Category == "" {
		d.Category = parent.Category
	}
	if d.Constraints.AtLeastOne == nil {
		d.Constraints = parent.Constraints
	}
	return d
}

// check reports what an object breaks: unknown attributes, required ones that
// are missing, wrong types, values outside an enumeration.
func (s *schema) check(path string, d definition, object map[string]any) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, path+": "+fmt.Sprintf(format, args...)) }
	for name, raw := range d.Attributes {
		var a attribute
		if name == "$include" || json.Unmarshal(raw, &a) != nil {
			continue
		}
		if _, there := object[name]; a.Requirement == "required" && !there {
			complain("%s is required", name)
		}
	}
	if len(d.Constraints.AtLeastOne) > 0 {
		some := false
		for _, name := range d.Constraints.AtLeastOne {
			_, there := object[name]
			some = some || there
		}
		if !some {
			complain("one of %v is required", d.Constraints.AtLeastOne)
		}
	}
	for name, value := range object {
		raw, known := d.Attributes[name]
		if !known {
			complain("%s is not an attribute of %s", name, d.Name)
			continue
		}
		a := s.attributes[name]
		var own attribute
		_ = json.Unmarshal(raw, &own)
		if name == "class_uid" || name == "category_uid" { // filled in by the framework; see line
			a.Enum, own.Enum = nil, nil
		}
		if own.Enum != nil {
			if a.Enum == nil {
				a.Enum = map[string]any{}
			}
			enum := map[string]any{}
			for _, e := range []map[string]any{a.Enum, own.Enum} {
				for k, v := range e {
					enum[k] = v
				}
			}
			a.Enum = enum
		}
		values, isArray := value.([]any)
		if isArray != a.IsArray {
			complain("%s is an array: %v, want %v", name, isArray, a.IsArray)
			continue
		}
		if !isArray {
			values = []any{value}
		}
		for i, v := range values {
			wrong = append(wrong, s.checkValue(fmt.Sprintf("%s.%s[%d]", path, name, i), a, v)...)
		}
	}
	return wrong
}

func (s *schema) checkValue(path string, a attribute, v any) []string {
	switch x := v.(type) {
	case map[string]any:
		d, known := s.objects[a.BaseType]
		if !known {
			return []string{path + ": testdata lacks the object " + a.BaseType}
		}
		return s.check(path, d, x)
	case float64:
		if !strings.Contains("integer_t long_t timestamp_t port_t float_t", a.BaseType) {
			return []string{fmt.Sprintf("%s: a number for a %s", path, a.BaseType)}
		}
		if strings.Contains(path, "observables[") && strings.Contains(path, ".type_id") {
			a.Enum = s.observables // these are numbered in the dictionary's types
		}
		if _, ok := a.Enum[fmt.Sprint(int64(x))]; a.Enum != nil && !ok {
			return []string{fmt.Sprintf("%s: %v is not among the values", path, x)}
		}
	case bool:
		if a.BaseType != "boolean_t" {
			return []string{fmt.Sprintf("%s: a boolean for a %s", path, a.BaseType)}
		}
	case string:
		if strings.Contains("integer_t long_t timestamp_t port_t boolean_t", a.BaseType) {
			return []string{fmt.Sprintf("%s: text for a %s", path, a.BaseType)}
		}
		if a.BaseType == "ip_t" {
			if _, err := netip.ParseAddr(x); err != nil {
				return []string{fmt.Sprintf("%s: %v", path, err)}
			}
		}
	}
	return nil
}

func (s *schema) event(e *ocsf.Event) {
	s.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		s.Fatal(err)
	}
	s.line(data)
}

func (s *schema) line(data []byte) {
	s.Helper()
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		s.Fatal(err)
	}
	class := int(object["class_uid"].(float64))
	d, known := s.classes[class]
	if !known {
		s.Fatalf("class %d is not in the schema", class)
	}
	for _, w := range s.check(d.Name, d, object) {
		s.Errorf("%s\n%s", w, data)
	}
	if int(object["category_uid"].(float64)) != class/1000 || int(object["type_uid"].(float64)) != class*100+int(object["activity_id"].(float64)) {
		s.Errorf("category and type do not follow from the class: %s", data)
	}
}

func TestEventsFollowThePublishedSchema(t *testing.T) {
	s := load(t)
	now := flow.FromTime(publishtest.Start)
	host := netip.MustParseAddr("198.51.100.7")
	s.event(ocsf.FromFinding(&dossier.Finding{ID: "F1", Detector: "failures", Kind: "address-scan", Host: flow.Host{Addr: host}, First: now, Last: now + 5e9, Summary: "scans",
		Evidence: dossier.Evidence{Flows: []dossier.FlowEvidence{{Time: now, Orig: host, Resp: netip.MustParseAddr("192.0.2.1"), Port: 445, Proto: "tcp", State: "S0"}}}}))
	for _, state := range []flow.State{flow.SF, flow.S0, flow.REJ, flow.OTH} {
		s.event(ocsf.FromFlow(&flow.Flow{Start: now, Duration: time.Second, Orig: host, Resp: netip.MustParseAddr("2001:db8::1"), OrigPort: 4000, RespPort: 445, Proto: 6, State: state, OrigBytes: 10}))
	}
	events := 0
	for _, v := range []dossier.Verdict{dossier.Active, dossier.Undone, dossier.Expired, dossier.Stopped, dossier.DryRun, dossier.Proposed} {
		d := dossier.Decision{ID: "D1", Target: netip.MustParsePrefix("198.51.100.0/24"), Verdict: v, Why: "scans", Until: now, Steps: []dossier.Step{{Time: now, Who: "x", Verdict: v}}}
		if e, ok := ocsf.FromDecision(&d); ok {
			events++
			s.event(e)
		}
	}
	if events != 4 {
		t.Errorf("%d of 6 decisions are events, want 4: what has no effect is none", events)
	}
}

func TestChangesAreTheLifeOfFindings(t *testing.T) {
	s := load(t)
	p := publishtest.New()
	p.List("g1", []string{"in dport=445"}, 95, "198.51.100.7")
	p.Advance(time.Hour)
	p.List("g1", []string{"in dport=445"}, 95, "198.51.100.7")
	p.Withdraw("g1", "198.51.100.7")
	var b bytes.Buffer
	if err := ocsf.Files(p.Feed(t).View(), publish.Out{Create: func(string) (io.Writer, error) { return &b, nil }}); err != nil {
		t.Fatal(err)
	}
	var activities, uids []string
	for line := range bytes.Lines(b.Bytes()) {
		s.line(line)
		var e struct {
			Activity int                  `json:"activity_id"`
			Finding  struct{ UID string } `json:"finding_info"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		activities, uids = append(activities, fmt.Sprint(e.Activity)), append(uids, e.Finding.UID)
	}
	if strings.Join(activities, " ") != "1 2 3" || strings.Join(uids, " ") != "g1/198.51.100.7 g1/198.51.100.7 g1/198.51.100.7" {
		t.Errorf("activities %v of %v", activities, uids)
	}
}

// TestCheckBites gives the checker wrong events.
func TestCheckBites(t *testing.T) {
	s := load(t)
	good, err := json.Marshal(ocsf.FromFlow(&flow.Flow{Start: 1e18, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), Proto: 6}))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{`"metadata":`, `"meta":`}, {`"activity_id":6`, `"activity_id":77`}, {`"ip":"192.0.2.1"`, `"ip":"x"`}, {`"severity_id":1`, `"severity_id":"1"`}, {`"product":{`, `"products":{`}} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		var object map[string]any
		if bad == string(good) || json.Unmarshal([]byte(bad), &object) != nil {
			t.Fatalf("%v changes nothing", change)
		}
		if len(s.check("event", s.classes[4001], object)) == 0 {
			t.Errorf("%s passes", bad)
		}
	}
}
