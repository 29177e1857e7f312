package witnesses

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/node/api"
	"dragnet/node/hunt"
	"dragnet/store"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// Server lets the node's operator ask the node's log; it implements
// nodev1connect.QuestionServiceHandler. Other organisations ask ask/witness/endpoint,
// under a policy.
type Server struct {
	config hunt.Configuration
	open   func(context.Context) (store.Reader, error)
	gate   *api.Gate
}

// NewServer answers from the store that open opens. It uses config's Witness
// and Silent.
func NewServer(config hunt.Configuration, open func(context.Context) (store.Reader, error), gate *api.Gate) *Server {
	return &Server{config, open, gate}
}

// Service returns the server for an api.Server.
func (s *Server) Service() api.Service {
	path, handler := nodev1connect.NewQuestionServiceHandler(s, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: handler, Access: api.Operators}
}

// AnswerQuestion implements nodev1connect.QuestionServiceHandler.
func (s *Server) AnswerQuestion(ctx context.Context, q *nodev1.AnswerQuestionRequest) (*nodev1.AnswerQuestionResponse, error) {
	if !name.MatchString(q.Name) {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%.80q is not a witness's name; want letters, digits, '.', '_' and '-', at most 63", q.Name))
	}
	var question dossier.Question
	if err := question.UnmarshalBinary(q.Question); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	log, err := s.open(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	defer log.Close() // nothing was written
	w, err := witness.New(s.config.Witness, q.Name, log, s.config.Silent)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	sealed, cov, err := w.Answer(ctx, q.Question)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	out := &nodev1.AnswerQuestionResponse{Testimony: sealed}
	for _, p := range cov.Problems {
		out.Problems = append(out.Problems, p.String())
	}
	return out, nil
}
