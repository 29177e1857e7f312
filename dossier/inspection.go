package dossier

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/flow"
)

// SignatureSet are the signature files that a node has its sensors match.
type SignatureSet struct {
	Version    int               `json:"version"`
	Signatures []json.RawMessage `json:"signatures"`
	// Resets says which matching connections are reset; nil for none.
	Resets *Resets `json:"resets,omitempty"`
}

// SignatureSetVersion is the version of the JSON form of a SignatureSet;
// MaxSignatures bounds it.
const (
	SignatureSetVersion = 1
	MaxSignatures       = 1000
)

// OpenSignatureSet reads the JSON form of a set.
func OpenSignatureSet(b []byte) ([]*Signature, *Resets, error) {
	var set SignatureSet
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, nil, fmt.Errorf("signatures: %w", err)
	}
	resets := cmp.Or(set.Resets, &Resets{})
	if err := resets.Check(); err != nil {
		return nil, nil, err
	}
	if set.Version != SignatureSetVersion || len(set.Signatures) > MaxSignatures {
		return nil, nil, fmt.Errorf("%d signatures of version %d; want at most %d of version %d", len(set.Signatures), set.Version, MaxSignatures, SignatureSetVersion)
	}
	all := make([]*Signature, 0, len(set.Signatures))
	for i, file := range set.Signatures {
		s, _, err := OpenSignature(file)
		if err != nil {
			return nil, nil, fmt.Errorf("signature %d: %w", i+1, err)
		}
		all = append(all, s)
	}
	return all, resets, nil
}

// Inspection is what a sensor saw in payload since the last one, and what it
// looked at.
type Inspection struct {
	Version   int        `json:"version"`
	Sightings []Sighting `json:"sightings"`
	// Sequences are directions of connections, and datagrams, that were compared
	// with all signatures; Bytes are those of them.
	Sequences uint64 `json:"sequences"`
	Bytes     uint64 `json:"bytes"`
	// Skipped bytes were not compared, since they lay beyond the bound of a
	// sequence or of memory, or were not captured.
	Skipped uint64 `json:"skipped"`
	// Lost sightings are not listed, for lack of room.
	Lost uint64 `json:"lost"`
}

// Sighting is payload on the wire that a signature matches.
type Sighting struct {
	Time      flow.Time `json:"time"`
	Signature string    `json:"signature"`
	// Orig opened the connection to Resp, or sent the datagram.
	Orig  netip.AddrPort `json:"orig"`
	Resp  netip.AddrPort `json:"resp"`
	Proto flow.Proto     `json:"proto"`
	// FromResp is true if Resp sent the payload.
	FromResp bool `json:"from_resp,omitempty"`
	// Confirmed is true if the sender acknowledged a number that only the other
	// end could tell it; otherwise somebody may have forged its address.
	Confirmed bool `json:"confirmed"`
	// Exact is true if a whole captured copy was in it. Omega is otherwise the
	// score of the best part, in nats per byte.
	Exact bool    `json:"exact,omitempty"`
	Omega float64 `json:"omega,omitempty"`
	// Probation is true if the signature is on probation: its matches are only counted.
	Probation bool `json:"probation,omitempty"`
	// Count is how many sequences between the same two hosts, to the same port,
	// matched.
	Count uint64 `json:"count"`
	// Decision is the one under which the connection was reset, or would have
	// been, and Action what was done; empty if no decision concerns it.
	Decision string      `json:"decision,omitempty"`
	Action   ResetAction `json:"action,omitempty"`
}

// InspectionVersion is the version of the JSON form of an Inspection;
// MaxSightings bounds it.
const (
	InspectionVersion = 1
	MaxSightings      = 512
)

// Sender is who sent the payload.
func (s *Sighting) Sender() netip.AddrPort {
	if s.FromResp {
		return s.Resp
	}
	return s.Orig
}

// sameAs reports whether two sightings differ only in time, source port and score.
func (s *Sighting) sameAs(o *Sighting) bool {
	return s.Signature == o.Signature && s.Orig.Addr() == o.Orig.Addr() && s.Resp == o.Resp && s.Proto == o.Proto &&
		s.FromResp == o.FromResp && s.Confirmed == o.Confirmed && s.Probation == o.Probation && s.Decision == o.Decision && s.Action == o.Action
}

// Add counts a sighting, together with one of the same between the same two hosts.
func (i *Inspection) Add(s *Sighting) {
	at := slices.IndexFunc(i.Sightings, func(o Sighting) bool { return o.sameAs(s) })
	switch {
	case at >= 0:
		i.Sightings[at].Count += s.Count
	case len(i.Sightings) < MaxSightings:
		i.Sightings = append(i.Sightings, *s)
	default:
		i.Lost += s.Count
	}
}

// Join adds another inspection.
func (i *Inspection) Join(o *Inspection) {
	i.Sequences += o.Sequences
	i.Bytes += o.Bytes
	i.Skipped += o.Skipped
	i.Lost += o.Lost
	for k := range o.Sightings {
		i.Add(&o.Sightings[k])
	}
}

// Encode is the JSON form.
func (i *Inspection) Encode() ([]byte, error) {
	i.Version = InspectionVersion
	if i.Sightings == nil {
		i.Sightings = []Sighting{}
	}
	return json.Marshal(i)
}

// OpenInspection reads the JSON form, as a hostile sensor may send it.
func OpenInspection(b []byte) (*Inspection, error) {
	var i Inspection
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, fmt.Errorf("inspection: %w", err)
	}
	if i.Version != InspectionVersion || len(i.Sightings) > MaxSightings {
		return nil, fmt.Errorf("inspection of version %d with %d sightings; want version %d and at most %d", i.Version, len(i.Sightings), InspectionVersion, MaxSightings)
	}
	const latest = flow.Time(1 << 33 * 1e9) // nanoseconds, in the year 2242
	for k := range i.Sightings {
		s := &i.Sightings[k]
		switch {
		case !validName(s.Signature):
			return nil, errors.New("inspection: a sighting without the name of a signature")
		case s.Decision != "" && !validName(s.Decision) || !s.Action.isKnown() || (s.Action == "") != (s.Decision == ""):
			return nil, errors.New("inspection: a sighting has an unknown reset")
		case !s.Orig.IsValid() || !s.Resp.IsValid() || s.Orig.Addr().Zone() != "" || s.Resp.Addr().Zone() != "":
			return nil, errors.New("inspection: a sighting without addresses")
		case s.Time < 0 || s.Time > latest || s.Count == 0 || s.Count > 1<<40 || !isFinite(s.Omega):
			return nil, errors.New("inspection: a sighting with an impossible time, count or score")
		}
	}
	return &i, nil
}
