package decisions

import (
	"cmp"
	"context"
	"net/netip"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	nodev1 "dragnet/wire/node/v1"
)

// weakWarning is for a proposal that rests on weak evidence only.
const weakWarning = "this rests only on what a trap sent, or a signature learnt from it matches; a trap that was taken over can send anything"

// ProposeDecision implements nodev1connect.DecisionServiceHandler.
func (s *Server) ProposeDecision(ctx context.Context, q *nodev1.ProposeDecisionRequest) (*nodev1.ProposeDecisionResponse, error) {
	who, err := identifyCaller(ctx, q.Who)
	if err != nil {
		return nil, err
	}
	if err := checkReason(q.Why, "for those who are affected"); err != nil {
		return nil, err
	}
	p := dossier.Proposal{Who: who, Why: q.Why, TTL: q.For.AsDuration(), Findings: q.Findings}
	if q.Target != "" {
		if p.Target, err = parsePrefix(q.Target); err != nil {
			return nil, err
		}
	}
	weak, err := s.readFindings(ctx, &p)
	if err != nil {
		return nil, err
	}
	now, out := currentTime(), &nodev1.ProposeDecisionResponse{}
	if q.Signature != "" {
		if err := s.resetMatches(ctx, q, &p); err != nil {
			return nil, err
		}
		out.Warnings = append(out.Warnings, signatureWarning)
	}
	if !p.Target.IsValid() {
		return nil, refuseInput("name a target, a finding or a signature")
	}
	if weak {
		out.Warnings = append(out.Warnings, weakWarning)
	}
	var d dossier.Decision
	var refused error
	err = s.ledger.Judge(ctx, now, func(j *decide.Judge) error {
		d, refused = j.Propose(now, p)
		return nil // a refusal is kept, too
	})
	if err != nil {
		return nil, explainError(err)
	}
	if refused != nil {
		if d.ID == "" {
			return nil, refuseInput("%w", refused)
		}
		out.Refused = refused.Error()
	}
	out.Decision = decisionMessage(&d)
	s.log.Info("decision proposed", "decision", d.ID, "target", d.Target, "verdict", d.Verdict, "who", who)
	return out, nil
}

// signatureWarning is for a proposal to reset what a signature matches.
const signatureWarning = "a trap chooses what its signatures are learnt from; look at the signature, and at the findings that it made, before you approve"

// defaultMost is of how many senders connections are reset in an hour, unless the
// proposal says so.
const defaultMost = 10

// resetMatches sets a signature aside, and makes p a standing decision about it.
func (s *Server) resetMatches(ctx context.Context, q *nodev1.ProposeDecisionRequest, p *dossier.Proposal) error {
	aside, err := s.setAside(ctx, q.Signature)
	if err != nil {
		return explainError(err)
	}
	p.Standing = &dossier.Standing{Rule: dossier.RuleReset, Most: int(cmp.Or(q.Most, defaultMost)), Signature: aside}
	if q.Target == "" {
		p.Target = netip.MustParsePrefix("0.0.0.0/0") // every address, of both families
	}
	return nil
}

// maxFindings bounds the findings that one proposal names.
const maxFindings = 1000

// readFindings reads the findings that a proposal names: they give it a target if it
// has none, and it is weak if all of them are.
func (s *Server) readFindings(ctx context.Context, p *dossier.Proposal) (weak bool, err error) {
	if len(p.Findings) > maxFindings {
		return false, refuseInput("%d findings are named; at most %d may be", len(p.Findings), maxFindings)
	}
	weak = len(p.Findings) > 0
	for _, id := range p.Findings {
		f, err := s.ledger.Finding(ctx, id)
		if err != nil {
			return false, explainError(err)
		}
		if !p.Target.IsValid() {
			p.Target = netip.PrefixFrom(f.Addr, f.Addr.BitLen())
		}
		weak = weak && f.IsWeak()
	}
	return weak, nil
}

// ApproveDecision implements nodev1connect.DecisionServiceHandler.
func (s *Server) ApproveDecision(ctx context.Context, q *nodev1.ApproveDecisionRequest) (*nodev1.ApproveDecisionResponse, error) {
	d, err := s.changeDecision(ctx, "approved", q.Who, func(now flow.Time, who string) (dossier.Decision, error) {
		return s.ledger.Approve(ctx, now, q.Id, who)
	})
	if err != nil {
		return nil, err
	}
	return &nodev1.ApproveDecisionResponse{Decision: decisionMessage(&d)}, nil
}

// UndoDecision implements nodev1connect.DecisionServiceHandler.
func (s *Server) UndoDecision(ctx context.Context, q *nodev1.UndoDecisionRequest) (*nodev1.UndoDecisionResponse, error) {
	if err := checkReason(q.Why, ""); err != nil {
		return nil, err
	}
	d, err := s.changeDecision(ctx, "undone", q.Who, func(now flow.Time, who string) (dossier.Decision, error) {
		return s.ledger.Undo(ctx, now, q.Id, who, q.Why)
	})
	if err != nil {
		return nil, err
	}
	return &nodev1.UndoDecisionResponse{Decision: decisionMessage(&d)}, nil
}

func (s *Server) changeDecision(ctx context.Context, what, said string, change func(flow.Time, string) (dossier.Decision, error)) (dossier.Decision, error) {
	who, err := identifyCaller(ctx, said)
	if err != nil {
		return dossier.Decision{}, err
	}
	d, err := change(currentTime(), who)
	if err != nil {
		return d, explainError(err)
	}
	s.log.Info("decision "+what, "decision", d.ID, "target", d.Target, "verdict", d.Verdict, "who", who)
	return d, nil
}

// StopDecisions implements nodev1connect.DecisionServiceHandler.
func (s *Server) StopDecisions(ctx context.Context, q *nodev1.StopDecisionsRequest) (*nodev1.StopDecisionsResponse, error) {
	who, err := identifyCaller(ctx, q.Who)
	if err != nil {
		return nil, err
	}
	if err := checkReason(q.Why, ""); err != nil {
		return nil, err
	}
	if err := s.ledger.Stop(ctx, currentTime(), who, q.Why); err != nil {
		return nil, explainError(err)
	}
	s.log.Warn("all decisions are stopped", "who", who, "why", q.Why)
	return &nodev1.StopDecisionsResponse{}, nil
}

// ResumeDecisions implements nodev1connect.DecisionServiceHandler.
func (s *Server) ResumeDecisions(ctx context.Context, q *nodev1.ResumeDecisionsRequest) (*nodev1.ResumeDecisionsResponse, error) {
	who, err := identifyCaller(ctx, q.Who)
	if err != nil {
		return nil, err
	}
	if err := s.ledger.Resume(ctx); err != nil {
		return nil, explainError(err)
	}
	s.log.Warn("decisions are allowed again", "who", who)
	return &nodev1.ResumeDecisionsResponse{}, nil
}

// ListAllowances implements nodev1connect.DecisionServiceHandler.
func (s *Server) ListAllowances(ctx context.Context, _ *nodev1.ListAllowancesRequest) (*nodev1.ListAllowancesResponse, error) {
	all, err := s.ledger.Allowances(ctx, currentTime())
	if err != nil {
		return nil, explainError(err)
	}
	out := &nodev1.ListAllowancesResponse{}
	for i := range all {
		out.Allowances = append(out.Allowances, allowanceMessage(&all[i]))
	}
	return out, nil
}

// AddAllowance implements nodev1connect.DecisionServiceHandler.
func (s *Server) AddAllowance(ctx context.Context, q *nodev1.AddAllowanceRequest) (*nodev1.AddAllowanceResponse, error) {
	who, err := identifyCaller(ctx, q.Who)
	if err != nil {
		return nil, err
	}
	if err := checkReason(q.Why, "for the record"); err != nil {
		return nil, err
	}
	a := dossier.Allowance{Who: who, Why: q.Why}
	if a.Prefix, err = parsePrefix(q.Prefix); err != nil {
		return nil, err
	}
	now := currentTime()
	if q.For != nil {
		if d := q.For.AsDuration(); d <= 0 {
			return nil, refuseInput("the time is %v; want more than 0, or none for no end", d)
		} else {
			a.Until = now + flow.Time(min(d, maxAllowed))
		}
	}
	ended, err := s.ledger.AddAllowance(ctx, now, a)
	if err != nil {
		return nil, explainError(err)
	}
	a.Since = now
	s.log.Info("allow list extended", "prefix", a.Prefix, "who", who, "why", a.Why, "ended", len(ended))
	return &nodev1.AddAllowanceResponse{Allowance: allowanceMessage(&a), Ended: decisionMessages(ended)}, nil
}

// RemoveAllowance implements nodev1connect.DecisionServiceHandler.
func (s *Server) RemoveAllowance(ctx context.Context, q *nodev1.RemoveAllowanceRequest) (*nodev1.RemoveAllowanceResponse, error) {
	who, err := identifyCaller(ctx, q.Who)
	if err != nil {
		return nil, err
	}
	prefix, err := parsePrefix(q.Prefix)
	if err != nil {
		return nil, err
	}
	a, err := s.ledger.RemoveAllowance(ctx, currentTime(), prefix)
	if err != nil {
		return nil, explainError(err)
	}
	s.log.Warn("allow list shortened", "prefix", a.Prefix, "who", who)
	return &nodev1.RemoveAllowanceResponse{Allowance: allowanceMessage(&a)}, nil
}
