package dossier

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"

	"dragnet/flow"
)

// Finding is the conclusion of a detector about one host, with the evidence. It
// has no effect itself; only a Decision has.
type Finding struct {
	Version int `json:"version"`
	// ID is the same whenever the same detector finds the same thing again.
	ID string `json:"id"`
	// Detector and Kind are its source and type: "failures", "address-scan".
	Detector string `json:"detector"`
	Kind     string `json:"kind"`
	flow.Host
	First flow.Time `json:"first"`
	Last  flow.Time `json:"last"`
	// Unverified says that the host's address may be forged: nothing shows that it
	// receives what is sent to it.
	Unverified bool `json:"unverified,omitempty"`
	// Summary is one sentence for humans.
	Summary  string   `json:"summary"`
	Evidence Evidence `json:"evidence"`
}

// FindingVersion is the version of the JSON form of a Finding.
const FindingVersion = 1

// Evidence is the evidence for a finding.
type Evidence struct {
	// Counts are the numbers that were compared with a threshold, by name.
	Counts map[string]uint64 `json:"counts"`
	// Service is the port that the counts are about, if only one: "tcp port 22".
	Service string `json:"service,omitempty"`
	// Thresholds are the values they were compared with.
	Thresholds map[string]float64 `json:"thresholds"`
	// Flows are a few of the flows, the earliest first.
	Flows []FlowEvidence `json:"flows"`
	// Peers are hosts with which this one acts together, Times the starts of the
	// intervals in which they did, and P is the chance of that without a common
	// cause: of detectors that compare times.
	Peers []netip.Addr `json:"peers,omitempty"`
	Times []flow.Time  `json:"times,omitempty"`
	P     *float64     `json:"p,omitempty"`
}

// FlowEvidence is one flow as evidence.
type FlowEvidence struct {
	Time  flow.Time  `json:"time"`
	Orig  netip.Addr `json:"orig"`
	Resp  netip.Addr `json:"resp"`
	Port  uint16     `json:"port"`
	Proto string     `json:"proto"`
	State string     `json:"state"`
}

// FlowEvidenceOf makes the FlowEvidence of a flow.
func FlowEvidenceOf(f *flow.Flow) FlowEvidence {
	return FlowEvidence{Time: f.Start, Orig: f.Orig, Resp: f.Resp, Port: f.RespPort, Proto: f.Proto.String(), State: f.State.String()}
}

// Identify sets Version and ID from the host, kind and time of the finding;
// about distinguishes findings that are otherwise equal.
func (f *Finding) Identify(about string) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%d", f.Detector, f.Kind, f.Host, about, f.First))
	f.Version = FindingVersion
	f.ID = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:10])
}
