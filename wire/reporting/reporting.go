// Package reporting is how programs talk to a clearinghouse: the client of
// detectives and of everybody who reads, and the forms that both ends share.
package reporting

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
	reportingv1 "dragnet/wire/reporting/v1"
)

// Kinds of the envelopes that a clearinghouse takes.
const (
	ReportKind     = "report"
	WithdrawalKind = "withdrawal"
)

// MaxLife bounds the life of such an envelope. A copy that comes later has
// expired; before, the clearinghouse still knows the report.
const MaxLife = 24 * time.Hour

// MaxSubmitted bounds the envelopes of one submission, and MaxRequest the bytes
// of any request.
const (
	MaxSubmitted = 1000
	MaxRequest   = 8 << 20
)

// SealReport signs a report for a clearinghouse.
func SealReport(k *identity.Key, to identity.ID, now time.Time, r *dossier.Report) ([]byte, dossier.ReportID, error) {
	body, err := r.MarshalBinary()
	if err != nil {
		return nil, dossier.ReportID{}, err
	}
	sealed, err := envelope.Seal(k, envelope.Header{Kind: ReportKind, To: to, Issued: now, Expires: now.Add(MaxLife)}, body)
	return sealed, dossier.ReportIDOf(k.ID(), body), err
}

// SealWithdrawal signs a withdrawal for a clearinghouse.
func SealWithdrawal(k *identity.Key, to identity.ID, now time.Time, w *dossier.Withdrawal) ([]byte, error) {
	body, err := w.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return envelope.Seal(k, envelope.Header{Kind: WithdrawalKind, To: to, Issued: now, Expires: now.Add(MaxLife)}, body)
}

// EntryToWire and its like translate; what is published has the same fields on
// the wire as in the dossier.
func EntryToWire(e *dossier.Entry) *reportingv1.Entry {
	return &reportingv1.Entry{
		Host: e.Host.AsSlice(), Group: e.Group, First: int64(e.First), Last: int64(e.Last), Sources: int32(e.Sources),
		Witnesses: int32(e.Witnesses), Confidence: int32(e.Confidence), Listed: int64(e.Listed), Until: int64(e.Until),
	}
}

// EntryFromWire reads what EntryToWire wrote.
func EntryFromWire(m *reportingv1.Entry) (dossier.Entry, error) {
	host, ok := netip.AddrFromSlice(m.GetHost())
	if !ok {
		return dossier.Entry{}, fmt.Errorf("clearinghouse: an entry's host has %d bytes", len(m.GetHost()))
	}
	return dossier.Entry{
		Version: dossier.EntryVersion, Host: host, Group: m.Group, First: flow.Time(m.First), Last: flow.Time(m.Last), Sources: int(m.Sources),
		Witnesses: int(m.Witnesses), Confidence: int(m.Confidence), Listed: flow.Time(m.Listed), Until: flow.Time(m.Until),
	}, nil
}

// GroupToWire translates a group.
func GroupToWire(g *dossier.Group) *reportingv1.Group {
	return &reportingv1.Group{
		Group: g.ID, Patterns: g.Patterns, Undisclosed: int32(g.Undisclosed), Hosts: int32(g.Hosts), First: int64(g.First), Last: int64(g.Last),
		Sources: int32(g.Sources), Confidence: int32(g.Confidence), Updated: int64(g.Updated),
	}
}

// GroupFromWire reads what GroupToWire wrote.
func GroupFromWire(m *reportingv1.Group) dossier.Group {
	return dossier.Group{
		Version: dossier.GroupVersion, ID: m.GetGroup(), Patterns: append([]string{}, m.GetPatterns()...), Undisclosed: int(m.GetUndisclosed()),
		Hosts: int(m.GetHosts()), First: flow.Time(m.GetFirst()), Last: flow.Time(m.GetLast()), Sources: int(m.GetSources()),
		Confidence: int(m.GetConfidence()), Updated: flow.Time(m.GetUpdated()),
	}
}

// ChangeToWire translates a change.
func ChangeToWire(c *dossier.Change) *reportingv1.Change {
	return &reportingv1.Change{Sequence: c.Sequence, Time: int64(c.Time), Kind: string(c.Kind), Entry: EntryToWire(&c.Entry)}
}

// ChangeFromWire reads what ChangeToWire wrote.
func ChangeFromWire(m *reportingv1.Change) (dossier.Change, error) {
	e, err := EntryFromWire(m.GetEntry())
	return dossier.Change{
		Version: dossier.ChangeVersion, Sequence: m.GetSequence(), Time: flow.Time(m.GetTime()), Kind: dossier.ChangeKind(m.GetKind()), Entry: e,
	}, err
}
