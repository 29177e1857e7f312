// Package reporting is how programs talk to a clearinghouse: the client of
// detectives and of everybody who reads, and the forms that both ends share.
package reporting

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/wire"
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

// EntryToWire translates an entry; it has the same fields as in the dossier.
func EntryToWire(e *dossier.Entry) *reportingv1.Entry {
	return &reportingv1.Entry{
		Host: e.Host.String(), Group: e.Group, First: wire.Timestamp(e.First), Last: wire.Timestamp(e.Last), Sources: int32(e.Sources),
		Witnesses: int32(e.Witnesses), Confidence: int32(e.Confidence), Listed: wire.Timestamp(e.Listed), Until: wire.Timestamp(e.Until),
	}
}

// timeReader reads timestamps, and keeps the first error.
type timeReader struct{ err error }

func (r *timeReader) read(t *timestamppb.Timestamp) flow.Time {
	out, err := wire.FlowTime(t)
	r.err = cmp.Or(r.err, err)
	return out
}

// EntryFromWire reads what EntryToWire wrote.
func EntryFromWire(m *reportingv1.Entry) (dossier.Entry, error) {
	host, err := netip.ParseAddr(m.GetHost())
	if err != nil {
		return dossier.Entry{}, fmt.Errorf("clearinghouse: host of an entry: %w", err)
	}
	var t timeReader
	e := dossier.Entry{
		Version: dossier.EntryVersion, Host: host, Group: m.Group, First: t.read(m.First), Last: t.read(m.Last), Sources: int(m.Sources),
		Witnesses: int(m.Witnesses), Confidence: int(m.Confidence), Listed: t.read(m.Listed), Until: t.read(m.Until),
	}
	return e, t.err
}

// GroupToWire translates a group.
func GroupToWire(g *dossier.Group) *reportingv1.Group {
	return &reportingv1.Group{
		Group: g.ID, Patterns: g.Patterns, Undisclosed: int32(g.Undisclosed), Hosts: int32(g.Hosts), First: wire.Timestamp(g.First), Last: wire.Timestamp(g.Last),
		Sources: int32(g.Sources), Confidence: int32(g.Confidence), Updated: wire.Timestamp(g.Updated),
	}
}

// GroupFromWire reads what GroupToWire wrote.
func GroupFromWire(m *reportingv1.Group) (dossier.Group, error) {
	var t timeReader
	g := dossier.Group{
		Version: dossier.GroupVersion, ID: m.GetGroup(), Patterns: append([]string{}, m.GetPatterns()...), Undisclosed: int(m.GetUndisclosed()),
		Hosts: int(m.GetHosts()), First: t.read(m.GetFirst()), Last: t.read(m.GetLast()), Sources: int(m.GetSources()),
		Confidence: int(m.GetConfidence()), Updated: t.read(m.GetUpdated()),
	}
	return g, t.err
}

// ChangeToWire translates a change.
func ChangeToWire(c *dossier.Change) *reportingv1.Change {
	return &reportingv1.Change{Sequence: c.Sequence, Time: wire.Timestamp(c.Time), Kind: string(c.Kind), Entry: EntryToWire(&c.Entry)}
}

// ChangeFromWire reads what ChangeToWire wrote.
func ChangeFromWire(m *reportingv1.Change) (dossier.Change, error) {
	e, err := EntryFromWire(m.GetEntry())
	t := timeReader{err}
	c := dossier.Change{
		Version: dossier.ChangeVersion, Sequence: m.GetSequence(), Time: t.read(m.GetTime()), Kind: dossier.ChangeKind(m.GetKind()), Entry: e,
	}
	return c, t.err
}
