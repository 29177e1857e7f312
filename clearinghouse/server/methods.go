package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/wire/reporting"
	reportingv1 "dragnet/wire/reporting/v1"
)

// methods are what callers may do.
type methods struct {
	s          *Service
	objections *minuteLimit
}

// code translates an error of the house; what is not the caller's fault is told
// to the operator, and to the caller only that it happened.
func (m *methods) code(err error) error {
	for _, known := range []struct {
		err  error
		code connect.Code
	}{
		{clearinghouse.ErrQuery, connect.CodeInvalidArgument}, {clearinghouse.ErrCursor, connect.CodeInvalidArgument},
		{clearinghouse.ErrObjection, connect.CodeInvalidArgument}, {clearinghouse.ErrCrowded, connect.CodeResourceExhausted},
		{clearinghouse.ErrStopping, connect.CodeUnavailable}, {context.Canceled, connect.CodeCanceled}, {context.DeadlineExceeded, connect.CodeDeadlineExceeded},
	} {
		if errors.Is(err, known.err) {
			return connect.NewError(known.code, err)
		}
	}
	m.s.metrics.failures.Inc()
	m.s.log.Error("request", "problem", err)
	return connect.NewError(connect.CodeInternal, errors.New("the clearinghouse failed on this request"))
}

func (m *methods) Submit(ctx context.Context, r *reportingv1.SubmitRequest) (*reportingv1.SubmitResponse, error) {
	if len(r.Envelopes) > reporting.MaxSubmitted {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%d envelopes at once; at most %d", len(r.Envelopes), reporting.MaxSubmitted))
	}
	outcomes, err := m.s.house.Submit(ctx, r.Envelopes)
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.SubmitResponse{}
	for _, o := range outcomes {
		m.s.metrics.reports.WithLabelValues(string(o.Status)).Inc()
		x := &reportingv1.Outcome{Reason: o.Reason, Report: o.Report[:]}
		switch o.Status {
		case clearinghouse.Accepted:
			x.Status = reportingv1.Status_STATUS_ACCEPTED
		case clearinghouse.Known:
			x.Status = reportingv1.Status_STATUS_KNOWN
		default:
			x.Status, x.Report = reportingv1.Status_STATUS_REFUSED, nil
		}
		out.Outcomes = append(out.Outcomes, x)
	}
	return out, nil
}

func (m *methods) Withdraw(ctx context.Context, r *reportingv1.WithdrawRequest) (*reportingv1.WithdrawResponse, error) {
	found, err := m.s.house.Withdraw(ctx, r.Envelope)
	if clearinghouse.Refusal(err) {
		return nil, connect.NewError(connect.CodePermissionDenied, err)
	}
	if err != nil {
		return nil, m.code(err)
	}
	if !found {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("you have made no such report, or it is no longer kept"))
	}
	return &reportingv1.WithdrawResponse{}, nil
}

func (m *methods) Object(ctx context.Context, r *reportingv1.ObjectRequest) (*reportingv1.ObjectResponse, error) {
	prefix, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("prefix %.100q: want such as 198.51.100.7/32", r.Prefix))
	}
	if !m.objections.allow() {
		return nil, connect.NewError(connect.CodeResourceExhausted, clearinghouse.ErrCrowded)
	}
	name, err := m.s.house.Object(ctx, prefix, r.Reason, r.Contact)
	if err != nil {
		return nil, m.code(err)
	}
	m.s.metrics.objections.Inc()
	return &reportingv1.ObjectResponse{Objection: name}, nil
}

func (m *methods) Roster(context.Context, *reportingv1.RosterRequest) (*reportingv1.RosterResponse, error) {
	bundle := m.s.keeper.Bundle()
	if bundle == nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("there is no roster yet"))
	}
	return &reportingv1.RosterResponse{Bundle: bundle}, nil
}

const maxMasks = 1000

func (m *methods) Salts(ctx context.Context, r *reportingv1.SaltsRequest) (*reportingv1.SaltsResponse, error) {
	if r.Days < 0 || r.Days > 100 || len(r.Masks) > maxMasks {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("want 0 to 100 days and at most %d masks", maxMasks))
	}
	masks := make([]key.Mask, len(r.Masks))
	for i, code := range r.Masks {
		var err error
		if len(code) != 3 {
			err = errors.New("a mask's code has 3 bytes")
		} else {
			masks[i], err = key.MaskFromCode([3]byte(code))
		}
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
	}
	epochs, err := m.s.house.Epochs(ctx, int(r.Days))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.SaltsResponse{}
	for _, e := range epochs {
		x := &reportingv1.Epoch{Day: e.Day, Name: e.Name}
		for _, mask := range masks {
			salt := e.Salt(mask)
			x.Salts = append(x.Salts, salt[:])
		}
		out.Epochs = append(out.Epochs, x)
	}
	return out, nil
}

// parseSelection translates a selection.
func parseSelection(s *reportingv1.Selection) (q clearinghouse.Query, err error) {
	if s.GetHosts() != "" {
		if q.Hosts, err = netip.ParsePrefix(s.Hosts); err != nil {
			return q, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("hosts %.100q: want a prefix such as 198.51.100.0/24", s.Hosts))
		}
	}
	q.Group, q.Pattern, q.MinConfidence = s.GetGroup(), s.GetPattern(), int(s.GetMinConfidence())
	q.Since, q.Before = flow.Time(s.GetSince()), flow.Time(s.GetBefore())
	return q, nil
}

func (m *methods) Entries(ctx context.Context, r *reportingv1.EntriesRequest) (*reportingv1.EntriesResponse, error) {
	q, err := parseSelection(r.Selection)
	if err != nil {
		return nil, err
	}
	page, next, err := m.s.house.Entries(ctx, q, r.Cursor, int(r.Limit))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.EntriesResponse{Cursor: next}
	for i := range page {
		out.Entries = append(out.Entries, reporting.EntryToWire(&page[i]))
	}
	return out, nil
}

func (m *methods) Groups(ctx context.Context, r *reportingv1.GroupsRequest) (*reportingv1.GroupsResponse, error) {
	q, err := parseSelection(r.Selection)
	if err != nil {
		return nil, err
	}
	page, next, err := m.s.house.Groups(ctx, q, r.Cursor, int(r.Limit))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.GroupsResponse{Cursor: next}
	for i := range page {
		out.Groups = append(out.Groups, reporting.GroupToWire(&page[i]))
	}
	return out, nil
}

func (m *methods) Changes(ctx context.Context, r *reportingv1.ChangesRequest) (*reportingv1.ChangesResponse, error) {
	var host netip.Addr
	if len(r.Host) > 0 {
		var ok bool
		if host, ok = netip.AddrFromSlice(r.Host); !ok {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("a host has 4 or 16 bytes"))
		}
	}
	page, err := m.s.house.Changes(ctx, host, r.After, int(r.Limit))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.ChangesResponse{}
	for i := range page {
		out.Changes = append(out.Changes, reporting.ChangeToWire(&dossier.Change{Sequence: page[i].Sequence, Time: page[i].Time, Kind: page[i].Kind, Entry: page[i].Entry}))
	}
	return out, nil
}

// minuteLimit lets so many through a minute, whoever they are.
type minuteLimit struct {
	mu     sync.Mutex
	now    func() time.Time
	limit  int
	minute time.Time
	taken  int
}

func newMinuteLimit(limit int, now func() time.Time) *minuteLimit {
	return &minuteLimit{now: now, limit: limit}
}

func (b *minuteLimit) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.now().Truncate(time.Minute); !m.Equal(b.minute) {
		b.minute, b.taken = m, 0
	}
	b.taken++
	return b.taken <= b.limit
}
