// Package stix makes STIX 2.1 objects of what is published. A host of a group
// becomes an address, an indicator that a firewall can use, observed data, and a
// sighting of the indicator; a group becomes a grouping. Where something was seen
// is always the clearinghouse: no object names a detective or a witness.
package stix

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
)

// SpecVersion is the version of all objects.
const SpecVersion = "2.1"

// addressSpace is the namespace of the identifiers of addresses (STIX 2.1,
// section 2.9), so that they are the same from every producer.
var addressSpace = uuid.MustParse("00abedb4-aa42-466c-9c01-fed23315a9b7")

// TLPClear is the marking that anything may be passed on (TLP 2.0); it is
// predefined.
const TLPClear = "marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487"

// Object is any STIX object; absent fields are left out.
type Object struct {
	Type        string `json:"type"`
	SpecVersion string `json:"spec_version"`
	ID          string `json:"id"`

	CreatedBy  string   `json:"created_by_ref,omitempty"`
	Created    string   `json:"created,omitempty"`
	Modified   string   `json:"modified,omitempty"`
	Revoked    bool     `json:"revoked,omitempty"`
	Confidence *int     `json:"confidence,omitempty"`
	Markings   []string `json:"object_marking_refs,omitempty"`

	Name          string              `json:"name,omitempty"`
	Description   string              `json:"description,omitempty"`
	IdentityClass string              `json:"identity_class,omitempty"`
	References    []ExternalReference `json:"external_references,omitempty"`

	// Of an address.
	Value string `json:"value,omitempty"`

	// Of an indicator.
	IndicatorTypes []string `json:"indicator_types,omitempty"`
	Pattern        string   `json:"pattern,omitempty"`
	PatternType    string   `json:"pattern_type,omitempty"`
	ValidFrom      string   `json:"valid_from,omitempty"`
	ValidUntil     string   `json:"valid_until,omitempty"`

	// Of observed data, a sighting and a grouping.
	FirstObserved  string   `json:"first_observed,omitempty"`
	LastObserved   string   `json:"last_observed,omitempty"`
	NumberObserved int      `json:"number_observed,omitempty"`
	ObjectRefs     []string `json:"object_refs,omitempty"`
	FirstSeen      string   `json:"first_seen,omitempty"`
	LastSeen       string   `json:"last_seen,omitempty"`
	Count          int      `json:"count,omitempty"`
	SightingOf     string   `json:"sighting_of_ref,omitempty"`
	ObservedData   []string `json:"observed_data_refs,omitempty"`
	WhereSighted   []string `json:"where_sighted_refs,omitempty"`
	Summary        bool     `json:"summary,omitempty"`
	Context        string   `json:"context,omitempty"`

	Extensions json.RawMessage `json:"extensions,omitempty"`
}

// ExternalReference says where more can be read, or done.
type ExternalReference struct {
	Source      string `json:"source_name"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url,omitempty"`
	ExternalID  string `json:"external_id,omitempty"`
}

// Maker makes the objects of one publisher.
type Maker struct {
	space      uuid.UUID // of this publisher's identifiers
	identity   string
	name       string
	objections string
}

// NewMaker makes identifiers that are the same for the same publisher, whose key
// or name is given, and host.
func NewMaker(publisher, name, objections string) *Maker {
	space := uuid.NewSHA1(addressSpace, []byte("dragnet "+publisher))
	return &Maker{space: space, identity: "identity--" + space.String(), name: name, objections: objections}
}

// Stamp writes a time with microseconds, which TAXII compares.
func Stamp(t flow.Time) string { return t.Time().Format("2006-01-02T15:04:05.000000Z") }

// Publisher is the identity behind all objects.
func (m *Maker) Publisher() *Object {
	return &Object{Type: "identity", SpecVersion: SpecVersion, ID: m.identity, Created: Stamp(0), Modified: Stamp(0),
		Name: m.name, IdentityClass: "organization", Markings: []string{TLPClear}}
}

// Marking is the definition of TLPClear.
func Marking() *Object {
	return &Object{Type: "marking-definition", SpecVersion: SpecVersion, ID: TLPClear, Created: "2022-10-01T00:00:00.000Z", Name: "TLP:CLEAR",
		Extensions: json.RawMessage(`{"extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d":{"extension_type":"property-extension","tlp_2_0":"clear"}}`)}
}

// Kinds is the number of objects of a row.
const Kinds = 4

// RowID is the part of the identifiers that the objects of a row share, except
// the address.
func (m *Maker) RowID(k publish.RowKey) uuid.UUID {
	return uuid.NewSHA1(m.space, append(k.Host.AppendTo(nil), k.Group...))
}

// AddressID is the identifier of an address's object without its type.
func AddressID(value string) uuid.UUID {
	return uuid.NewSHA1(addressSpace, []byte(`{"value":"`+value+`"}`))
}

func addressType(r *publish.Row) string {
	if r.Host.Is4() {
		return "ipv4-addr"
	}
	return "ipv6-addr"
}

// RowObject makes one of the Kinds objects of a row: the address, the indicator,
// the observed data, the sighting.
func (m *Maker) RowObject(r *publish.Row, kind int) *Object {
	value := r.Host.String()
	address := addressType(r) + "--" + AddressID(value).String()
	if kind == 0 {
		return &Object{Type: addressType(r), SpecVersion: SpecVersion, ID: address, Value: value, Markings: []string{TLPClear}}
	}
	id := m.RowID(r.Key()).String()
	confidence := r.Confidence
	o := &Object{SpecVersion: SpecVersion, CreatedBy: m.identity, Created: Stamp(r.Listed), Modified: Stamp(max(r.Changed, r.Listed)), Confidence: &confidence, Markings: []string{TLPClear}}
	switch kind {
	case 1:
		m.fillIndicator(o, r, id, value)
	case 2:
		o.Type, o.ID = "observed-data", "observed-data--"+id
		o.FirstObserved, o.LastObserved, o.NumberObserved = Stamp(r.First), Stamp(r.Last), max(r.Witnesses, 1)
		o.ObjectRefs = []string{address}
	case 3:
		o.Type, o.ID = "sighting", "sighting--"+id
		o.FirstSeen, o.LastSeen, o.Count, o.Summary = Stamp(r.First), Stamp(r.Last), r.Sources, true
		o.SightingOf, o.ObservedData, o.WhereSighted = "indicator--"+id, []string{"observed-data--" + id}, []string{m.identity}
		o.Description = r.Reason()
	}
	return o
}

func (m *Maker) fillIndicator(o *Object, r *publish.Row, id, value string) {
	o.Type, o.ID = "indicator", "indicator--"+id
	o.Name = "Host of group " + r.Entry.Group
	o.Description = r.Reason()
	o.IndicatorTypes = []string{"malicious-activity", "compromised"}
	o.Pattern, o.PatternType = fmt.Sprintf("[%s:value = '%s']", addressType(r), value), "stix"
	// An indicator ends after it begins.
	o.ValidFrom, o.ValidUntil = Stamp(r.Listed), Stamp(max(r.Until, r.Listed+flow.Time(time.Second)))
	o.References = []ExternalReference{{Source: "dragnet", Description: "group", ExternalID: r.Entry.Group}}
	if m.objections != "" {
		o.References = append(o.References, ExternalReference{Source: "objections", Description: "how to object: " + m.objections})
	}
}

// RevokedIndicator is the indicator of a host that was removed.
func (m *Maker) RevokedIndicator(c *dossier.Change) *Object {
	g := &dossier.Group{ID: c.Entry.Group}
	o := m.RowObject(&publish.Row{Entry: c.Entry, Of: g, Changed: max(c.Time, c.Entry.Listed)}, 1)
	o.Revoked, o.Description = true, "no longer published"
	o.ValidUntil = Stamp(max(min(c.Entry.Until, c.Time), c.Entry.Listed+flow.Time(time.Second)))
	return o
}

// maxRefs bounds the hosts that a grouping names; all of them refer to it.
const maxRefs = 10_000

// Group makes the grouping of a group and its hosts' indicators.
func (m *Maker) Group(v *publish.View, g *dossier.Group) *Object {
	confidence := g.Confidence
	o := &Object{Type: "grouping", SpecVersion: SpecVersion, ID: "grouping--" + uuid.NewSHA1(m.space, []byte("group "+g.ID)).String(), CreatedBy: m.identity,
		Created: Stamp(g.First), Modified: Stamp(max(g.Updated, g.First)), Confidence: &confidence, Markings: []string{TLPClear},
		Name: "Group " + g.ID, Context: "suspicious-activity", Description: publish.PatternText(g)}
	for _, i := range v.InGroup(g.ID) {
		if r := &v.Rows[i]; r.Until > v.Time && len(o.ObjectRefs) < maxRefs {
			o.ObjectRefs = append(o.ObjectRefs, "indicator--"+m.RowID(r.Key()).String())
		}
	}
	if len(o.ObjectRefs) == 0 { // a grouping refers to something
		o.ObjectRefs = []string{m.identity}
	}
	return o
}
