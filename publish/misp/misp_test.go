package misp_test

import (
	"bytes"
	"crypto/md5"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dragnet/publish"
	"dragnet/publish/misp"
	"dragnet/publish/publishtest"
)

func written(t *testing.T, v *publish.View) map[string]string {
	t.Helper()
	files := map[string]*bytes.Buffer{}
	c := misp.DefaultConfiguration()
	c.Organisation = "Example"
	err := misp.Files(c, "key")(v, publish.Out{Create: func(path string) (io.Writer, error) {
		files[path] = &bytes.Buffer{}
		return files[path], nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for path, b := range files {
		out[path] = b.String()
	}
	return out
}

var (
	isUUID   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	isNumber = regexp.MustCompile(`^[0-9]+$`)
)

// readFeed reads a feed as MISP does: the manifest says which events there are,
// each is a file, and the hashes belong to values of events. It fails on what
// MISP's core format forbids, and returns the values of each event.
func readFeed(t *testing.T, files map[string]string) map[string][]string {
	t.Helper()
	var manifest map[string]map[string]json.RawMessage
	if err := json.Unmarshal([]byte(files["misp/manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	values, hashed := map[string][]string{}, map[string]bool{}
	for id, about := range manifest {
		if !isUUID.MatchString(id) {
			t.Errorf("event %q", id)
		}
		text := func(name string) (s string) {
			if err := json.Unmarshal(about[name], &s); err != nil {
				t.Errorf("%s of %s is %s, want a string", name, id, about[name])
			}
			return s
		}
		if _, err := time.Parse(time.DateOnly, text("date")); err != nil || !isNumber.MatchString(text("timestamp")) || text("info") == "" ||
			!slices.Contains([]string{"0", "1", "2"}, text("analysis")) || !slices.Contains([]string{"1", "2", "3", "4"}, text("threat_level_id")) {
			t.Errorf("manifest of %s: %s", id, about)
		}
		var org struct{ Name, UUID string }
		if err := json.Unmarshal(about["Orgc"], &org); err != nil || org.Name == "" || !isUUID.MatchString(org.UUID) {
			t.Errorf("Orgc of %s: %s", id, about["Orgc"])
		}
		var e struct {
			Event struct {
				UUID, Info, Date, Timestamp string
				Published                   bool
				Attribute                   []struct {
					UUID, Type, Category, Value, Timestamp, Comment string
					ToIDs                                           bool   `json:"to_ids"`
					FirstSeen                                       string `json:"first_seen"`
					LastSeen                                        string `json:"last_seen"`
				}
			}
		}
		if err := json.Unmarshal([]byte(files["misp/"+id+".json"]), &e); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if e.Event.UUID != id || e.Event.Info != text("info") || e.Event.Date != text("date") || e.Event.Timestamp != text("timestamp") || !e.Event.Published {
			t.Errorf("event %s differs from the manifest: %+v", id, e.Event)
		}
		seen := map[string]bool{}
		for _, a := range e.Event.Attribute {
			first, err1 := time.Parse(time.RFC3339Nano, a.FirstSeen)
			last, err2 := time.Parse(time.RFC3339Nano, a.LastSeen)
			if _, err := netip.ParseAddr(a.Value); err != nil || err1 != nil || err2 != nil || first.After(last) || a.Type != "ip-src" || a.Category != "Network activity" || !isUUID.MatchString(a.UUID) || seen[a.UUID] || !isNumber.MatchString(a.Timestamp) {
				t.Errorf("attribute %+v", a)
			}
			seen[a.UUID] = true
			values[id] = append(values[id], a.Value+" "+strconv.FormatBool(a.ToIDs))
			hashed[fmt.Sprintf("%x,%s", md5.Sum([]byte(a.Value)), id)] = true
		}
	}
	rows, err := csv.NewReader(strings.NewReader(files["misp/hashes.csv"])).ReadAll()
	if err != nil || len(rows) != len(hashed) {
		t.Errorf("%d hashes of %d values, %v", len(rows), len(hashed), err)
	}
	for _, r := range rows {
		if !hashed[strings.Join(r, ",")] {
			t.Errorf("hash %v belongs to no value", r)
		}
	}
	if len(files) != len(manifest)+2 {
		t.Errorf("%d files for %d events", len(files), len(manifest))
	}
	return values
}

func TestOneEventForAGroupAndDay(t *testing.T) {
	s := publishtest.New()
	s.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	s.List("g2", nil, 40, "203.0.113.9")
	feed := s.Feed(t)
	first := readFeed(t, written(t, feed.View()))
	if len(first) != 2 {
		t.Fatalf("%d events, want 2", len(first))
	}
	s.Advance(time.Hour) // a later poll of the same day: the same events
	s.List("g1", []string{"in dport=445"}, 80, "198.51.100.8")
	second := readFeed(t, written(t, publishtest.Refresh(t, feed)))
	for id := range second {
		if first[id] == nil {
			t.Errorf("a new event %s on the same day", id)
		}
	}
	s.Advance(12 * time.Hour)
	s.List("g1", []string{"in dport=445"}, 80, "198.51.100.9")
	s.Withdraw("g2", "203.0.113.9")
	third := readFeed(t, written(t, publishtest.Refresh(t, feed)))
	var all []string
	for _, v := range third {
		all = append(all, strings.Join(v, ", "))
	}
	slices.Sort(all)
	if got := strings.Join(all, "; "); got != "198.51.100.7 true, 198.51.100.8 true, 2001:db8::7 true; 198.51.100.9 true" {
		t.Errorf("the next day: %s", got)
	}
}
