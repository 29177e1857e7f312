package centre

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/source/sensor"
	agentv1 "dragnet/wire/agent/v1"
)

// sightingsPerDay bounds the sightings taken from one sensor in a day (UTC), so
// that none can push the findings of others out of the ledger.
const sightingsPerDay = 20_000

var errSightings = errors.New("this sensor has reported as many sightings today as are taken from one")

// takeInspection keeps what a sensor saw signatures match.
func (s *Centre) takeInspection(_ context.Context, tx *state.Tx, from agents.From, item *agentv1.Item) error {
	if item.Format != sensor.InspectionFormat {
		return agents.Refuse(fmt.Errorf("inspection of format %d; this node knows %d", item.Format, sensor.InspectionFormat))
	}
	seen, err := dossier.OpenInspection(item.Body)
	if err != nil {
		return agents.Refuse(err)
	}
	s.inspected.Add(float64(seen.Bytes))
	s.skipped.Add(float64(seen.Skipped))
	s.lost.Add(float64(seen.Lost))
	if len(seen.Sightings) == 0 {
		return nil
	}
	if err := s.chargeQuota(tx, from.Name, int64(len(seen.Sightings)), sightingsPerDay, errSightings); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO centre_sighting (sensor, body) VALUES (?, ?)`, from.Name, item.Body)
	return err
}

// reportSightings makes findings of sightings, and forgets those.
func (s *Centre) reportSightings(ctx context.Context) error {
	return s.takeRows(ctx, "centre_sighting", "sensor", func(byID map[string]*dossier.Finding, from string, body []byte) error {
		seen, err := dossier.OpenInspection(body)
		if err != nil {
			return err
		}
		for i := range seen.Sightings {
			if x := &seen.Sightings[i]; x.Probation {
				s.probation.Add(float64(x.Count))
			} else {
				addSighting(byID, from, "sensor "+from, x)
			}
		}
		return nil
	})
}

// connections begins the names of the counts of what was done to connections.
const connections = "connections "

// addSighting adds a sighting to the finding about who sent the payload: one for
// each host, sensor and day. What somebody may have forged is kept apart.
func addSighting(byID map[string]*dossier.Finding, from, seenBy string, x *dossier.Sighting) {
	who, port := x.Sender(), x.Resp.Port()
	kind, doubt := "payload-match", ""
	if !x.Confirmed {
		kind, doubt = "payload-match-unconfirmed", "; no handshake was seen, so the address may be forged"
	}
	f := newFinding("signature", kind, who.Addr(), from, x.Time)
	if known := byID[f.ID]; known != nil {
		f = known
	}
	byID[f.ID] = f
	f.First, f.Last = min(f.First, x.Time), max(f.Last, x.Time)
	f.Evidence.Counts["matches"] += x.Count
	state, done := "matches "+x.Signature, ""
	if x.Action != "" {
		f.Evidence.Counts[connections+string(x.Action)] += x.Count
		state, done = fmt.Sprintf("%s; %s under %s", state, x.Action, x.Decision), fmt.Sprintf("; the connection: %s under decision %s", x.Action, x.Decision)
	}
	addFlow(f, dossier.FlowEvidence{Time: x.Time, Orig: x.Orig.Addr(), Resp: x.Resp.Addr(), Port: port, Proto: x.Proto.String(), State: state})
	other := x.Resp.Addr()
	if x.FromResp {
		other = x.Orig.Addr()
	}
	if x.Action == "" && f.Evidence.Counts[connections+string(dossier.ResetDone)] > 0 {
		return // the summary says what was done
	}
	f.Summary = fmt.Sprintf("%s sent %s what signature %s matches (%s port %d), seen by %s%s%s", who.Addr(), other, x.Signature, x.Proto, port, seenBy, doubt, done)
}

// AddSighting adds what the matcher named from saw to findings, by their identity, as a
// sighting of a sensor is added.
func AddSighting(byID map[string]*dossier.Finding, from string, x *dossier.Sighting) {
	addSighting(byID, from, from, x)
}

// newFinding makes a finding that has the same identity all day (UTC).
func newFinding(detector, kind string, host netip.Addr, about string, at flow.Time) *dossier.Finding {
	f := &dossier.Finding{Detector: detector, Kind: kind, Host: flow.Host{Addr: host},
		Evidence: dossier.Evidence{Counts: map[string]uint64{}, Thresholds: map[string]float64{}, Flows: []dossier.FlowEvidence{}}}
	f.First = at - at%flow.Time(24*time.Hour)
	f.Identify(about)
	f.First, f.Last = at, at
	return f
}

// addFlow adds a flow as evidence, unless there are enough, or it is known.
func addFlow(f *dossier.Finding, e dossier.FlowEvidence) {
	for _, known := range f.Evidence.Flows {
		known.Time = e.Time
		if known == e {
			return
		}
	}
	if len(f.Evidence.Flows) < maxFlows {
		f.Evidence.Flows = append(f.Evidence.Flows, e)
	}
}

// keepFindings joins findings with what is kept of them already. After a crash
// the last reports may be counted twice.
func (s *Centre) keepFindings(ctx context.Context, byID map[string]*dossier.Finding) error {
	all := make([]dossier.Finding, 0, len(byID))
	for id, f := range byID {
		known, err := s.deps.Findings.FindFinding(ctx, id)
		if err != nil {
			return err
		}
		if known != nil {
			f.First, f.Last = min(f.First, known.First), max(f.Last, known.Last)
			for name, n := range known.Evidence.Counts {
				f.Evidence.Counts[name] += n
			}
			more := f.Evidence.Flows
			f.Evidence.Flows = known.Evidence.Flows
			for _, e := range more {
				addFlow(f, e)
			}
		}
		all = append(all, *f)
	}
	// Nothing is proposed: what a trap sent, and what a signature made of it
	// matches, is not enough to block a host.
	_, err := s.deps.Findings.TakeFindings(ctx, all, false)
	return err
}
