package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/tlog"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/wire"
	"dragnet/wire/exchange"
	"dragnet/wire/reporting"
	reportingv1 "dragnet/wire/reporting/v1"
	"dragnet/wire/treehead"
)

// methods are what callers may do.
type methods struct {
	s          *Service
	objections *minuteLimit
}

// code translates an error of the core. An error that is not the caller's fault
// is logged, and the caller learns only that one happened.
func (m *methods) code(err error) error {
	for _, known := range []struct {
		err  error
		code connect.Code
	}{
		{clearinghouse.ErrQuery, connect.CodeInvalidArgument}, {clearinghouse.ErrCursor, connect.CodeInvalidArgument},
		{clearinghouse.ErrInvitation, connect.CodePermissionDenied}, {clearinghouse.ErrRewritten, connect.CodeFailedPrecondition}, {treehead.ErrHead, connect.CodeInvalidArgument}, {clearinghouse.ErrObjection, connect.CodeInvalidArgument}, {clearinghouse.ErrCrowded, connect.CodeResourceExhausted},
		{clearinghouse.ErrStopping, connect.CodeUnavailable}, {context.Canceled, connect.CodeCanceled}, {context.DeadlineExceeded, connect.CodeDeadlineExceeded},
	} {
		if errors.Is(err, known.err) {
			return connect.NewError(known.code, err)
		}
	}
	m.s.metrics.failures.Inc()
	m.s.log.Error("request failed", "err", err)
	return connect.NewError(connect.CodeInternal, errors.New("the clearinghouse failed on this request"))
}

func (m *methods) SubmitReports(ctx context.Context, r *reportingv1.SubmitReportsRequest) (*reportingv1.SubmitReportsResponse, error) {
	if len(r.Envelopes) > reporting.MaxSubmitted {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%d envelopes at once; at most %d", len(r.Envelopes), reporting.MaxSubmitted))
	}
	outcomes, err := m.s.core.Submit(ctx, r.Envelopes)
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.SubmitReportsResponse{}
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

func (m *methods) WithdrawReport(ctx context.Context, r *reportingv1.WithdrawReportRequest) (*reportingv1.WithdrawReportResponse, error) {
	found, err := m.s.core.Withdraw(ctx, r.Envelope)
	if clearinghouse.Refusal(err) {
		return nil, connect.NewError(connect.CodePermissionDenied, err)
	}
	if err != nil {
		return nil, m.code(err)
	}
	if !found {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("report not found among yours: it was never made, or is no longer kept"))
	}
	return &reportingv1.WithdrawReportResponse{}, nil
}

func (m *methods) SubmitObjection(ctx context.Context, r *reportingv1.SubmitObjectionRequest) (*reportingv1.SubmitObjectionResponse, error) {
	prefix, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("prefix %.100q: want such as 198.51.100.7/32", r.Prefix))
	}
	if err := clearinghouse.CheckObjection(prefix, r.Reason, r.Contact); err != nil {
		return nil, m.code(err)
	}
	network := ""
	if at, ok := exchange.PeerAddress(ctx); ok {
		network = flow.NetworkOf(at, 24, 48).String()
	}
	if !m.objections.allow(network) {
		return nil, connect.NewError(connect.CodeResourceExhausted, clearinghouse.ErrCrowded)
	}
	name, err := m.s.core.Object(ctx, prefix, r.Reason, r.Contact, network)
	if err != nil {
		return nil, m.code(err)
	}
	m.s.metrics.objections.Inc()
	return &reportingv1.SubmitObjectionResponse{Objection: name}, nil
}

// JoinCommunity implements reportingv1connect.ClearinghouseServiceHandler.
func (m *methods) JoinCommunity(ctx context.Context, r *reportingv1.JoinCommunityRequest) (*reportingv1.JoinCommunityResponse, error) {
	var secret [16]byte
	key, ok := exchange.Peer(ctx)
	if !ok || len(r.Invitation) != len(secret) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("want an invitation of 16 bytes, over a connection with the key that is to be a member's"))
	}
	member, state, err := m.s.core.Join(ctx, [16]byte(r.Invitation), key)
	if err != nil {
		m.s.metrics.refusedJoins.Inc()
		return nil, m.code(err)
	}
	out := &reportingv1.JoinCommunityResponse{Member: member, State: reportingv1.JoinState_JOIN_STATE_WAITING}
	if state == clearinghouse.InvitationAdmitted {
		out.State = reportingv1.JoinState_JOIN_STATE_ADMITTED
	}
	return out, nil
}

// maxProof bounds the hashes of a proof: twice the bits of a size.
const maxProof = 128

// CosignHead implements reportingv1connect.ClearinghouseServiceHandler.
func (m *methods) CosignHead(ctx context.Context, r *reportingv1.CosignHeadRequest) (*reportingv1.CosignHeadResponse, error) {
	key, ok := exchange.Peer(ctx)
	if !ok || len(r.Head) > treehead.MaxHead || len(r.Proof) > maxProof {
		return nil, connect.NewError(connect.CodeInvalidArgument, treehead.ErrHead)
	}
	proof := make(tlog.TreeProof, len(r.Proof))
	for i, hash := range r.Proof {
		if len(hash) != tlog.HashSize {
			return nil, connect.NewError(connect.CodeInvalidArgument, treehead.ErrHead)
		}
		proof[i] = tlog.Hash(hash)
	}
	last, lastHead, fresh, err := m.s.core.SeeHead(ctx, key, r.Head, r.From, proof)
	if errors.Is(err, clearinghouse.ErrRewritten) {
		m.s.log.Warn("a member's record does not continue what it showed before", "key", key, "entries", last)
	}
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.CosignHeadResponse{Last: last, LastHead: lastHead}
	if fresh {
		if out.Head, err = treehead.Cosign(r.Head, key, m.s.key); err != nil {
			return nil, m.code(err)
		}
	}
	return out, nil
}

func (m *methods) GetRoster(context.Context, *reportingv1.GetRosterRequest) (*reportingv1.GetRosterResponse, error) {
	bundle := m.s.keeper.Bundle()
	if bundle == nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("no roster yet"))
	}
	return &reportingv1.GetRosterResponse{Bundle: bundle}, nil
}

const maxMasks = 1000

func (m *methods) ListSalts(ctx context.Context, r *reportingv1.ListSaltsRequest) (*reportingv1.ListSaltsResponse, error) {
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
	epochs, err := m.s.core.Epochs(ctx, int(r.Days))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.ListSaltsResponse{}
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
func parseSelection(s *reportingv1.Selection) (q clearinghouse.EntryQuery, err error) {
	if s.GetHosts() != "" {
		if q.Hosts, err = netip.ParsePrefix(s.Hosts); err != nil {
			return q, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("hosts %.100q: want a prefix such as 198.51.100.0/24", s.Hosts))
		}
	}
	q.Group, q.Pattern, q.MinConfidence = s.GetGroup(), s.GetPattern(), int(s.GetMinConfidence())
	if q.Since, err = wire.FlowTimeOrZero(s.GetSince()); err == nil {
		q.Before, err = wire.FlowTimeOrZero(s.GetBefore())
	}
	if err != nil {
		err = connect.NewError(connect.CodeInvalidArgument, err)
	}
	return q, err
}

func (m *methods) ListEntries(ctx context.Context, r *reportingv1.ListEntriesRequest) (*reportingv1.ListEntriesResponse, error) {
	q, err := parseSelection(r.Selection)
	if err != nil {
		return nil, err
	}
	page, next, err := m.s.core.Entries(ctx, q, r.Cursor, int(min(r.PageSize, 1<<20)))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.ListEntriesResponse{NextCursor: next}
	for i := range page {
		out.Entries = append(out.Entries, reporting.EntryToWire(&page[i]))
	}
	return out, nil
}

func (m *methods) ListGroups(ctx context.Context, r *reportingv1.ListGroupsRequest) (*reportingv1.ListGroupsResponse, error) {
	q, err := parseSelection(r.Selection)
	if err != nil {
		return nil, err
	}
	page, next, err := m.s.core.Groups(ctx, q, r.Cursor, int(min(r.PageSize, 1<<20)))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.ListGroupsResponse{NextCursor: next}
	for i := range page {
		out.Groups = append(out.Groups, reporting.GroupToWire(&page[i]))
	}
	return out, nil
}

func (m *methods) ListChanges(ctx context.Context, r *reportingv1.ListChangesRequest) (*reportingv1.ListChangesResponse, error) {
	var host netip.Addr
	if r.Host != "" {
		var err error
		if host, err = netip.ParseAddr(r.Host); err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("host %.100q is not an IP address", r.Host))
		}
	}
	page, err := m.s.core.Changes(ctx, host, r.After, int(min(r.PageSize, 1<<20)))
	if err != nil {
		return nil, m.code(err)
	}
	out := &reportingv1.ListChangesResponse{}
	for i := range page {
		out.Changes = append(out.Changes, reporting.ChangeToWire(&dossier.Change{Sequence: page[i].Sequence, Time: page[i].Time, Kind: page[i].Kind, Entry: page[i].Entry}))
	}
	return out, nil
}

// minuteLimit admits limit calls a minute of all callers together, and of one network a
// third of them.
type minuteLimit struct {
	mu     sync.Mutex
	now    func() time.Time
	limit  int
	minute time.Time
	taken  int
	of     map[string]int // by network; at most limit entries
}

func newMinuteLimit(limit int, now func() time.Time) *minuteLimit {
	return &minuteLimit{now: now, limit: limit}
}

func (b *minuteLimit) allow(network string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.now().Truncate(time.Minute); !m.Equal(b.minute) {
		b.minute, b.taken, b.of = m, 0, map[string]int{}
	}
	if b.taken >= b.limit || b.of[network] >= max(b.limit/3, 1) {
		return false // and counts for nothing
	}
	b.taken++
	b.of[network]++
	return true
}
