// Package ocsf writes findings, flows, decisions and changes of what is
// published as events of the Open Cybersecurity Schema Framework: Detection
// Finding (2004), Network Activity (4001) and Network Remediation Activity
// (7004).
package ocsf

import (
	"encoding/json"
	"net/netip"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
)

// Version is that of the schema.
const Version = "1.8.0"

// Event is an event of any of the classes; absent attributes are left out. Times
// are in milliseconds since 1970.
type Event struct {
	Activity int      `json:"activity_id"`
	Category int      `json:"category_uid"`
	Class    int      `json:"class_uid"`
	Type     int      `json:"type_uid"`
	Severity int      `json:"severity_id"`
	Time     int64    `json:"time"`
	Start    int64    `json:"start_time,omitempty"`
	End      int64    `json:"end_time,omitempty"`
	Message  string   `json:"message,omitempty"`
	Status   int      `json:"status_id,omitempty"`
	Metadata metadata `json:"metadata"`

	Observables []observable `json:"observables,omitempty"`

	// Of a finding.
	Finding    *findingInfo `json:"finding_info,omitempty"`
	Confidence int          `json:"confidence_score,omitempty"`
	Alert      bool         `json:"is_alert,omitempty"`
	Evidences  []evidence   `json:"evidences,omitempty"`

	// Of network activity.
	Source      *endpoint   `json:"src_endpoint,omitempty"`
	Destination *endpoint   `json:"dst_endpoint,omitempty"`
	Connection  *connection `json:"connection_info,omitempty"`
	Traffic     *traffic    `json:"traffic,omitempty"`

	// Of a remediation.
	Command string `json:"command_uid,omitempty"`
}

type metadata struct {
	Version string  `json:"version"`
	Product product `json:"product"`
}

type product struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

type observable struct {
	Name  string `json:"name"`
	Type  int    `json:"type_id"`
	Value string `json:"value"`
}

type findingInfo struct {
	UID     string   `json:"uid"`
	Title   string   `json:"title"`
	Desc    string   `json:"desc,omitempty"`
	Created int64    `json:"created_time,omitempty"`
	First   int64    `json:"first_seen_time,omitempty"`
	Last    int64    `json:"last_seen_time,omitempty"`
	Types   []string `json:"types,omitempty"`
}

type evidence struct {
	Source      *endpoint   `json:"src_endpoint,omitempty"`
	Destination *endpoint   `json:"dst_endpoint,omitempty"`
	Connection  *connection `json:"connection_info,omitempty"`
}

type endpoint struct {
	IP   string `json:"ip"`
	Port int    `json:"port,omitempty"`
}

type connection struct {
	Direction int    `json:"direction_id"`
	Protocol  string `json:"protocol_name,omitempty"`
	Number    int    `json:"protocol_num,omitempty"`
}

type traffic struct {
	BytesOut   uint64 `json:"bytes_out,omitempty"`
	BytesIn    uint64 `json:"bytes_in,omitempty"`
	PacketsOut uint64 `json:"packets_out,omitempty"`
	PacketsIn  uint64 `json:"packets_in,omitempty"`
}

// Numbers of the schema.
const (
	findings, network, remediation = 2, 4, 7
	detectionFinding               = 2004
	networkActivity                = 4001
	networkRemediation             = 7004

	informational, low, medium, high = 1, 2, 3, 4

	create, update, closed = 1, 2, 3 // activities of a finding
	isolate, restore       = 1, 3    // of a remediation
	failed, traffics       = 4, 6    // of the network
	refused                = 5

	ipAddress = 2 // type of an observable
)

func milliseconds(t flow.Time) int64 { return t.Time().UnixMilli() }

func newEvent(category, class, activity, severity int, at flow.Time) *Event {
	return &Event{Activity: activity, Category: category, Class: class, Type: class*100 + activity, Severity: severity, Time: milliseconds(at),
		Metadata: metadata{Version, product{"Dragnet", "Dragnet"}}}
}

// FromFinding is a detector's finding.
func FromFinding(f *dossier.Finding) *Event {
	e := newEvent(findings, detectionFinding, create, medium, f.Last)
	e.Start, e.End, e.Message = milliseconds(f.First), milliseconds(f.Last), f.Summary
	e.Finding = &findingInfo{UID: f.ID, Title: f.Kind, Desc: f.Summary, First: milliseconds(f.First), Last: milliseconds(f.Last), Types: []string{f.Detector}}
	e.Observables = []observable{{"src_endpoint.ip", ipAddress, f.Addr.String()}}
	for i := range f.Evidence.Flows {
		x := &f.Evidence.Flows[i]
		e.Evidences = append(e.Evidences, evidence{&endpoint{IP: x.Orig.String()}, &endpoint{x.Resp.String(), int(x.Port)}, &connection{Protocol: x.Proto}})
	}
	return e
}

// FromFlow is one flow.
func FromFlow(f *flow.Flow) *Event {
	activity := traffics
	switch {
	case f.State == flow.REJ:
		activity = refused
	case f.Failed():
		activity = failed
	}
	e := newEvent(network, networkActivity, activity, informational, f.Start)
	e.Start, e.End = milliseconds(f.Start), milliseconds(f.Start+flow.Time(f.Duration))
	e.Source, e.Destination = &endpoint{f.Orig.String(), int(f.OrigPort)}, &endpoint{f.Resp.String(), int(f.RespPort)}
	e.Connection = &connection{Protocol: f.Proto.String(), Number: int(f.Proto)}
	e.Traffic = &traffic{f.OrigBytes, f.RespBytes, f.OrigPkts, f.RespPkts}
	return e
}

// FromDecision is what became of a decision: an active one isolates, one that
// is over restores; others are no events.
func FromDecision(d *dossier.Decision) (*Event, bool) {
	if len(d.Steps) == 0 || d.Standing != nil {
		return nil, false
	}
	activity := restore
	switch d.Verdict {
	case dossier.Active:
		activity = isolate
	case dossier.Undone, dossier.Expired, dossier.Stopped:
	default:
		return nil, false
	}
	last := d.Steps[len(d.Steps)-1]
	e := newEvent(remediation, networkRemediation, activity, low, last.Time)
	e.Message, e.Status, e.Command = d.Why, 1, d.ID
	e.Connection = &connection{Direction: 1} // inbound: the source's requests
	e.Observables = []observable{{"target", ipAddress, targetText(d.Target)}}
	return e, true
}

func targetText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// FromChange is a change of what is published, as the life of a finding.
func FromChange(c *dossier.Change, reason string) *Event {
	activity := map[dossier.ChangeKind]int{dossier.Listed: create, dossier.Updated: update, dossier.Removed: closed}[c.Kind]
	severity := medium
	if c.Entry.Confidence >= 90 {
		severity = high
	}
	e := newEvent(findings, detectionFinding, activity, severity, c.Time)
	host := c.Entry.Host.String()
	e.Start, e.End, e.Message, e.Confidence = milliseconds(c.Entry.First), milliseconds(c.Entry.Last), reason, c.Entry.Confidence
	e.Finding = &findingInfo{UID: c.Entry.Group + "/" + host, Title: "Host of a group of coordinated attackers", Desc: reason,
		Created: milliseconds(c.Entry.Listed), First: milliseconds(c.Entry.First), Last: milliseconds(c.Entry.Last)}
	e.Observables = []observable{{"src_endpoint.ip", ipAddress, host}}
	return e
}

// most bounds the events of a publication: all changes are in the mirror's
// deltas.
const most = 10_000

// Files writes ocsf/findings.jsonl: the last changes, the oldest first, one event
// on each line.
func Files(v *publish.View, to publish.Out) error {
	out, err := to.Create("ocsf/findings.jsonl")
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	for i := max(0, len(v.Changes)-most); i < len(v.Changes); i++ {
		c := &v.Changes[i]
		g := v.Groups[c.Entry.Group]
		if g == nil { // published no more, nor are its patterns
			g = &dossier.Group{}
		}
		r := publish.Row{Entry: c.Entry, Of: g}
		reason := r.Reason()
		if c.Kind == dossier.Removed {
			reason = "no longer published"
		}
		if err := enc.Encode(FromChange(c, reason)); err != nil {
			return err
		}
	}
	return nil
}
