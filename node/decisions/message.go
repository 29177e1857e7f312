package decisions

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/wire"
	nodev1 "dragnet/wire/node/v1"
)

func findingMessage(f *dossier.Finding) *nodev1.Finding {
	e := &nodev1.Evidence{Counts: f.Evidence.Counts, Thresholds: f.Evidence.Thresholds, Service: f.Evidence.Service, P: f.Evidence.P}
	for _, x := range f.Evidence.Flows {
		e.Flows = append(e.Flows, &nodev1.FlowEvidence{
			Time: wire.Timestamp(x.Time), Orig: x.Orig.String(), Resp: x.Resp.String(), Port: uint32(x.Port), Proto: x.Proto, State: x.State,
		})
	}
	for _, p := range f.Evidence.Peers {
		e.Peers = append(e.Peers, p.String())
	}
	for _, t := range f.Evidence.Times {
		e.Times = append(e.Times, wire.Timestamp(t))
	}
	return &nodev1.Finding{
		Id: f.ID, Detector: f.Detector, Kind: f.Kind, Host: f.Addr.String(), Scope: f.Scope, First: wire.Timestamp(f.First), Last: wire.Timestamp(f.Last),
		Unverified: f.Unverified, Summary: f.Summary, Evidence: e,
	}
}

// reader converts fields of a message, and keeps the first error.
type reader struct{ err error }

func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) time(t *timestamppb.Timestamp) flow.Time {
	v, err := wire.FlowTimeOrZero(t)
	r.keep(err)
	return v
}

func (r *reader) addr(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	r.keep(err)
	return a
}

func (r *reader) prefix(text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	r.keep(err)
	return p
}

// wrap names the message in the error, if there is one.
func (r *reader) wrap(what string) error {
	if r.err == nil {
		return nil
	}
	return fmt.Errorf("the node sent a %s that cannot be read: %w", what, r.err)
}

// ReadFinding reads what a node says of a finding.
func ReadFinding(m *nodev1.Finding) (dossier.Finding, error) {
	var r reader
	f := dossier.Finding{
		Version: dossier.FindingVersion, ID: m.GetId(), Detector: m.GetDetector(), Kind: m.GetKind(), Host: flow.Host{Addr: r.addr(m.GetHost()), Scope: m.GetScope()},
		First: r.time(m.GetFirst()), Last: r.time(m.GetLast()), Unverified: m.GetUnverified(), Summary: m.GetSummary(),
	}
	e := m.GetEvidence()
	f.Evidence = dossier.Evidence{Counts: e.GetCounts(), Thresholds: e.GetThresholds(), Service: e.GetService(), Flows: []dossier.FlowEvidence{}}
	if e != nil {
		f.Evidence.P = e.P
	}
	for _, x := range e.GetFlows() {
		f.Evidence.Flows = append(f.Evidence.Flows, dossier.FlowEvidence{
			Time: r.time(x.Time), Orig: r.addr(x.Orig), Resp: r.addr(x.Resp), Port: uint16(x.Port), Proto: x.Proto, State: x.State,
		})
	}
	for _, p := range e.GetPeers() {
		f.Evidence.Peers = append(f.Evidence.Peers, r.addr(p))
	}
	for _, t := range e.GetTimes() {
		f.Evidence.Times = append(f.Evidence.Times, r.time(t))
	}
	return f, r.wrap("finding")
}

func decisionMessages(all []dossier.Decision) []*nodev1.Decision {
	out := make([]*nodev1.Decision, len(all))
	for i := range all {
		out[i] = decisionMessage(&all[i])
	}
	return out
}

func decisionMessage(d *dossier.Decision) *nodev1.Decision {
	m := &nodev1.Decision{
		Id: d.ID, Target: d.Target.String(), Verdict: string(d.Verdict), Why: d.Why, Findings: d.Findings, Until: wire.Timestamp(d.Until), Undo: d.Undo,
	}
	for _, s := range d.Steps {
		m.Steps = append(m.Steps, stepMessage(s))
	}
	if d.Standing != nil {
		m.Standing = &nodev1.Standing{Rule: d.Standing.Rule, Most: uint64(d.Standing.Most), Signature: d.Standing.Signature}
	}
	return m
}

func stepMessage(s dossier.Step) *nodev1.Step {
	return &nodev1.Step{Time: wire.Timestamp(s.Time), Who: s.Who, Verdict: string(s.Verdict), Why: s.Why}
}

// ReadDecision reads what a node says of a decision.
func ReadDecision(m *nodev1.Decision) (dossier.Decision, error) {
	var r reader
	d := dossier.Decision{
		Version: dossier.DecisionVersion, ID: m.GetId(), Target: r.prefix(m.GetTarget()), Verdict: dossier.Verdict(m.GetVerdict()), Why: m.GetWhy(),
		Findings: append([]string{}, m.GetFindings()...), Until: r.time(m.GetUntil()), Undo: m.GetUndo(),
	}
	for _, s := range m.GetSteps() {
		d.Steps = append(d.Steps, dossier.Step{Time: r.time(s.Time), Who: s.Who, Verdict: dossier.Verdict(s.Verdict), Why: s.Why})
	}
	if s := m.GetStanding(); s != nil {
		d.Standing = &dossier.Standing{Rule: s.Rule, Most: int(min(s.Most, 1<<53)), Signature: s.Signature}
	}
	return d, r.wrap("decision")
}

func receiptMessages(all []dossier.Receipt) []*nodev1.Receipt {
	out := make([]*nodev1.Receipt, len(all))
	for i, x := range all {
		out[i] = &nodev1.Receipt{Decision: x.Decision, Point: x.Point, Time: wire.Timestamp(x.Time), Applied: x.Applied, Proof: x.Proof, Problem: x.Problem}
	}
	return out
}

// ReadReceipt reads what a node says of a receipt.
func ReadReceipt(m *nodev1.Receipt) (dossier.Receipt, error) {
	var r reader
	x := dossier.Receipt{
		Version: dossier.ReceiptVersion, Decision: m.GetDecision(), Point: m.GetPoint(), Time: r.time(m.GetTime()), Applied: m.GetApplied(), Proof: m.GetProof(), Problem: m.GetProblem(),
	}
	return x, r.wrap("receipt")
}

func allowanceMessage(a *dossier.Allowance) *nodev1.Allowance {
	m := &nodev1.Allowance{Prefix: a.Prefix.String(), Who: a.Who, Why: a.Why, Configured: a.Configured}
	if a.Since != 0 {
		m.Since = wire.Timestamp(a.Since)
	}
	if a.Until != 0 {
		m.Until = wire.Timestamp(a.Until)
	}
	return m
}

// ReadAllowance reads what a node says of an entry of its allow list.
func ReadAllowance(m *nodev1.Allowance) (dossier.Allowance, error) {
	var r reader
	a := dossier.Allowance{
		Version: dossier.AllowanceVersion, Prefix: r.prefix(m.GetPrefix()), Who: m.GetWho(), Why: m.GetWhy(), Since: r.time(m.GetSince()), Until: r.time(m.GetUntil()), Configured: m.GetConfigured(),
	}
	return a, r.wrap("entry of the allow list")
}
