// Package misp writes what is published as a MISP feed: files that a MISP
// instance fetches (MISP core format, "Manifest"). There is one event for each
// group and day of listing, and it stays the same event, since MISP correlates
// every event with every other.
package misp

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"dragnet/flow"
	"dragnet/publish"
)

// Configuration of the feed.
type Configuration struct {
	// Organisation is the name that the events bear; empty writes no feed.
	Organisation string `yaml:"organisation"`
	// MinConfidence is what a host needs for its attribute to be marked as one
	// for intrusion detection systems.
	MinConfidence int `yaml:"min_confidence"`
}

// DefaultConfiguration writes no feed.
func DefaultConfiguration() Configuration { return Configuration{MinConfidence: 75} }

type organisation struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
}

type tag struct {
	Name   string `json:"name"`
	Colour string `json:"colour"`
}

// summary is an event as the manifest shows it. Numbers are strings in MISP's
// format.
type summary struct {
	Info        string       `json:"info"`
	Orgc        organisation `json:"Orgc"`
	Analysis    string       `json:"analysis"`
	Tag         []tag        `json:"Tag"`
	Timestamp   string       `json:"timestamp"`
	Date        string       `json:"date"`
	ThreatLevel string       `json:"threat_level_id"`
}

type event struct {
	summary
	UUID             string      `json:"uuid"`
	PublishTimestamp string      `json:"publish_timestamp"`
	Published        bool        `json:"published"`
	Attribute        []attribute `json:"Attribute"`
}

type attribute struct {
	UUID      string `json:"uuid"`
	Type      string `json:"type"`
	Category  string `json:"category"`
	Value     string `json:"value"`
	ToIDs     bool   `json:"to_ids"`
	Timestamp string `json:"timestamp"`
	Comment   string `json:"comment"`
	FirstSeen string `json:"first_seen"`
	LastSeen  string `json:"last_seen"`
}

// feed writes one publication.
type feed struct {
	config Configuration
	view   *publish.View
	space  uuid.UUID
	org    organisation
	out    publish.Out

	manifest map[string]summary
	hashes   []byte
}

// Files writes misp/manifest.json, misp/hashes.csv and an event in
// misp/UUID.json for each group and day; publisher names the key behind it, so
// that no other publisher has the same identifiers.
func Files(c Configuration, publisher string) publish.Files {
	space := uuid.NewSHA1(uuid.NameSpaceURL, []byte("dragnet misp "+publisher))
	return func(v *publish.View, out publish.Out) error {
		f := &feed{config: c, view: v, space: space, org: organisation{c.Organisation, space.String()}, out: out, manifest: map[string]summary{}}
		for _, name := range v.GroupNames() {
			if err := f.writeGroup(name); err != nil {
				return err
			}
		}
		if err := f.writeJSON("misp/manifest.json", f.manifest); err != nil {
			return err
		}
		w, err := out.Create("misp/hashes.csv")
		if err != nil {
			return err
		}
		_, err = w.Write(f.hashes)
		return err
	}
}

func (f *feed) writeJSON(path string, value any) error {
	out, err := f.out.Create(path)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(value)
}

// writeGroup writes the events of a group, one for each day.
func (f *feed) writeGroup(name string) error {
	days := map[string][]*publish.Row{}
	for _, i := range f.view.InGroup(name) {
		if r := &f.view.Rows[i]; r.Until > f.view.Time {
			day := r.Listed.Time().Format(time.DateOnly)
			days[day] = append(days[day], r)
		}
	}
	order := make([]string, 0, len(days))
	for day := range days {
		order = append(order, day)
	}
	slices.Sort(order)
	for _, day := range order {
		if err := f.writeEvent(name, day, days[day]); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) writeEvent(group, day string, rows []*publish.Row) error {
	id := uuid.NewSHA1(f.space, []byte(group+" "+day))
	var changed flow.Time
	e := event{UUID: id.String(), Published: true}
	var value []byte
	for _, r := range rows {
		changed = max(changed, r.Changed)
		value = r.Host.AppendTo(value[:0])
		sum := md5.Sum(value)
		f.hashes = append(append(append(hex.AppendEncode(f.hashes, sum[:]), ','), e.UUID...), '\n')
	}
	g := f.view.Groups[group]
	e.summary = summary{
		Info: fmt.Sprintf("Group %s: %s", group, publish.PatternText(g)), Orgc: f.org, Analysis: "2", ThreatLevel: threatLevel(g.Confidence),
		Tag: []tag{{"tlp:clear", "#ffffff"}}, Timestamp: seconds(changed), Date: day,
	}
	e.PublishTimestamp = e.Timestamp
	f.manifest[e.UUID] = e.summary
	path := "misp/" + e.UUID + ".json"
	if f.out.Kept(path, f.view.Since(group)) {
		return nil
	}
	for _, r := range rows {
		e.Attribute = append(e.Attribute, f.newAttribute(id, r))
	}
	return f.writeJSON(path, map[string]event{"Event": e})
}

// newAttribute is a host: who attacks is a source.
func (f *feed) newAttribute(event uuid.UUID, r *publish.Row) attribute {
	return attribute{
		UUID: uuid.NewSHA1(event, r.Host.AppendTo(nil)).String(), Type: "ip-src", Category: "Network activity", Value: r.Host.String(),
		ToIDs: r.Confidence >= f.config.MinConfidence, Timestamp: seconds(r.Changed), Comment: r.Reason(),
		FirstSeen: stamp(r.First), LastSeen: stamp(r.Last),
	}
}

func seconds(t flow.Time) string { return strconv.FormatInt(t.Time().Unix(), 10) }

func stamp(t flow.Time) string { return t.Time().Format("2006-01-02T15:04:05.000000-07:00") }

// threatLevel is high, medium or low: 1, 2, 3.
func threatLevel(confidence int) string {
	switch {
	case confidence >= 90:
		return "1"
	case confidence >= 60:
		return "2"
	}
	return "3"
}
