// Package decisions lets operators see what a node found and decided, and change
// its decisions and its allow list: it joins the ledger with the node's
// interface. Each change is recorded with who made it.
package decisions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/user"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/api"
	"dragnet/node/centre"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// Server implements nodev1connect.DecisionServiceHandler and FindingServiceHandler
// over a ledger. Without a connection, as on a data directory, each request must
// say who makes it.
type Server struct {
	ledger   *ledger.Ledger
	setAside func(ctx context.Context, signature string) (string, error)
	log      *slog.Logger
}

// Dependencies of a server; the caller opens and closes them.
type Dependencies struct {
	Ledger *ledger.Ledger
	// SetAside makes the copy of a signature that a decision can name, and returns
	// its name (centre.SetAside).
	SetAside func(ctx context.Context, signature string) (string, error)
	Log      *slog.Logger
}

// NewServer makes a server.
func NewServer(d Dependencies) *Server { return &Server{d.Ledger, d.SetAside, d.Log} }

// Services returns the two services for an api.Server.
func (s *Server) Services() []api.Service {
	decisions, handleDecisions := nodev1connect.NewDecisionServiceHandler(s, api.HandlerOptions()...)
	findings, handleFindings := nodev1connect.NewFindingServiceHandler(s, api.HandlerOptions()...)
	return []api.Service{
		{Path: decisions, Handler: handleDecisions, Access: api.Operators},
		{Path: findings, Handler: handleFindings, Access: api.Operators},
	}
}

// Bounds of a list.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

func limitOf(asked uint32) int { return min(int(cmp.Or(asked, defaultLimit)), maxLimit) }

// maxText bounds what a request gives as a name or a reason, in bytes.
const maxText = 1000

// maxAllowed bounds how long an entry of the allow list lasts that has an end.
const maxAllowed = 100 * 365 * 24 * time.Hour

// identifyCaller returns who makes a request, for the record: the owner of the
// certificate; else said, or the user at the other end of the socket.
func identifyCaller(ctx context.Context, said string) (string, error) {
	peer := api.PeerOf(ctx)
	switch {
	case len(said) > maxText:
		return "", refuseInput("who is longer than %d bytes", maxText)
	case peer.Name != "" && said != "" && said != peer.Name:
		return "", refuseInput("the certificate belongs to %s, who cannot act as %q: leave out --who", peer.Name, said)
	case peer.Name != "":
		return peer.Name, nil
	case said != "":
		return said, nil
	case peer.Local:
		uid := strconv.FormatUint(uint64(peer.UID), 10)
		if u, err := user.LookupId(uid); err == nil {
			return u.Username, nil
		}
		return "uid " + uid, nil
	}
	return "", refuseInput("say who does this, for the record")
}

// checkReason bounds why something is done. It may be left out unless it says for whom
// it is.
func checkReason(why, forWhom string) error {
	switch {
	case forWhom != "" && (why == "" || len(why) > maxText):
		return refuseInput("say why, %s, in at most %d bytes", forWhom, maxText)
	case len(why) > maxText:
		return refuseInput("why is longer than %d bytes", maxText)
	}
	return nil
}

func refuseInput(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// explainError gives errors of the ledger and the judge their code.
func explainError(err error) error {
	code := connect.CodeUnavailable
	switch {
	case errors.Is(err, ledger.ErrUnknown), errors.Is(err, decide.ErrUnknown), errors.Is(err, centre.ErrUnknown):
		code = connect.CodeNotFound
	case errors.Is(err, decide.ErrAllowed), errors.Is(err, decide.ErrBudget), errors.Is(err, decide.ErrStopped), errors.Is(err, decide.ErrOver), errors.Is(err, ledger.ErrConfigured):
		code = connect.CodeFailedPrecondition
	}
	return connect.NewError(code, err)
}

func currentTime() flow.Time { return flow.FromTime(time.Now()) }

// parsePrefix reads an address or a prefix. One with host bits is refused: who writes
// 192.0.2.7/24 may mean the host.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, refuseInput("%.100q is neither an address nor a prefix such as 203.0.113.0/28", text)
	}
	if p != p.Masked() {
		return p, refuseInput("%s has host bits set; write %s for the prefix, or %s for the address", text, p.Masked(), p.Addr())
	}
	return p, nil
}

// ListFindings implements nodev1connect.FindingServiceHandler.
func (s *Server) ListFindings(ctx context.Context, q *nodev1.ListFindingsRequest) (*nodev1.ListFindingsResponse, error) {
	all, err := s.ledger.Findings(ctx, q.Host, limitOf(q.Limit))
	if err != nil {
		return nil, explainError(err)
	}
	out := &nodev1.ListFindingsResponse{}
	for i := range all {
		out.Findings = append(out.Findings, findingMessage(&all[i]))
	}
	return out, nil
}

// GetFinding implements nodev1connect.FindingServiceHandler.
func (s *Server) GetFinding(ctx context.Context, q *nodev1.GetFindingRequest) (*nodev1.GetFindingResponse, error) {
	f, err := s.ledger.Finding(ctx, q.Id)
	if err != nil {
		return nil, explainError(err)
	}
	return &nodev1.GetFindingResponse{Finding: findingMessage(&f)}, nil
}

// ListDecisions implements nodev1connect.DecisionServiceHandler.
func (s *Server) ListDecisions(ctx context.Context, q *nodev1.ListDecisionsRequest) (*nodev1.ListDecisionsResponse, error) {
	all, err := s.ledger.Decisions(ctx, dossier.Verdict(q.Verdict), limitOf(q.Limit))
	if err != nil {
		return nil, explainError(err)
	}
	out := &nodev1.ListDecisionsResponse{Decisions: decisionMessages(all)}
	at, who, why, err := s.ledger.Stopped(ctx)
	if err != nil {
		return nil, explainError(err)
	}
	if who != "" {
		out.Stopped = stepMessage(dossier.Step{Time: at, Who: who, Verdict: dossier.Stopped, Why: why})
	}
	return out, nil
}

// GetDecision implements nodev1connect.DecisionServiceHandler.
func (s *Server) GetDecision(ctx context.Context, q *nodev1.GetDecisionRequest) (*nodev1.GetDecisionResponse, error) {
	d, err := s.ledger.Decision(ctx, q.Id)
	if err != nil {
		return nil, explainError(err)
	}
	receipts, err := s.ledger.Receipts(ctx, q.Id)
	if err != nil {
		return nil, explainError(err)
	}
	return &nodev1.GetDecisionResponse{Decision: decisionMessage(&d), Receipts: receiptMessages(receipts)}, nil
}
