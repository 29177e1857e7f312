package query

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"dragnet/flow"
	"dragnet/node/api"
	"dragnet/store"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// Server answers operators' requests about the flows of a log; it implements
// nodev1connect.FlowServiceHandler.
type Server struct {
	open Open
	gate *api.Gate
}

// NewServer serves the log that open opens; gate bounds the requests that read at
// a time.
func NewServer(open Open, gate *api.Gate) *Server { return &Server{open, gate} }

// Service returns the server for an api.Server.
func (s *Server) Service() api.Service {
	path, handler := nodev1connect.NewFlowServiceHandler(s, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: handler, Access: api.Operators}
}

// MaxPage bounds the flows of a page.
const MaxPage = 10_000

// withLog runs f on the log once the gate admits the request.
func (s *Server) withLog(ctx context.Context, f func(store.Reader) error) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	log, err := s.open(ctx)
	if err != nil {
		return connect.NewError(connect.CodeUnavailable, err)
	}
	err = errors.Join(f(log), log.Close())
	switch {
	case err == nil || ctx.Err() != nil:
		return errors.Join(ctx.Err())
	case errors.Is(err, ErrTooMany):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

func invalidArgument(err error) error { return connect.NewError(connect.CodeInvalidArgument, err) }

func problemTexts(cov flow.Coverage) (out []string) {
	for _, p := range cov.Problems {
		out = append(out, p.String())
	}
	return out
}

// ListFlows implements nodev1connect.FlowServiceHandler.
func (s *Server) ListFlows(ctx context.Context, q *nodev1.ListFlowsRequest) (*nodev1.ListFlowsResponse, error) {
	selection, page := q.Selection, Page{Last: q.Last}
	if q.Cursor != "" {
		if q.Last || q.Selection != nil && !proto.Equal(q.Selection, &nodev1.Selection{}) {
			return nil, invalidArgument(errors.New("a cursor holds selection and direction; leave them out beside it"))
		}
		var err error
		if selection, page, err = decodeCursor(q.Cursor); err != nil {
			return nil, invalidArgument(err)
		}
	}
	if page.Limit = int(min(q.PageSize, MaxPage)); page.Limit == 0 {
		page.Limit = 100
	}
	chosen, err := readSelection(selection)
	if err != nil {
		return nil, invalidArgument(err)
	}
	out := &nodev1.ListFlowsResponse{}
	err = s.withLog(ctx, func(log store.Reader) error {
		rows, next, cov, err := List(ctx, log, chosen, page)
		if err != nil {
			return err
		}
		for i := range rows {
			out.Flows = append(out.Flows, rows[i].Message())
		}
		out.Problems = problemTexts(cov)
		out.NextCursor, err = encodeCursor(selection, next)
		return err
	})
	return out, err
}

// batch is the number of flows in a message of a stream.
const batch = 512

// StreamFlows implements nodev1connect.FlowServiceHandler.
func (s *Server) StreamFlows(ctx context.Context, q *nodev1.StreamFlowsRequest, stream *connect.ServerStream[nodev1.StreamFlowsResponse]) error {
	chosen, err := readSelection(q.Selection)
	if err != nil {
		return invalidArgument(err)
	}
	return s.withLog(ctx, func(log store.Reader) error {
		m := &nodev1.StreamFlowsResponse{}
		cov, err := Each(ctx, log, chosen, func(r *ListedFlow) error {
			if m.Flows = append(m.Flows, r.Message()); len(m.Flows) < batch {
				return nil
			}
			err := stream.Send(m)
			m = &nodev1.StreamFlowsResponse{}
			return err
		})
		if err != nil {
			return err
		}
		m.Problems = problemTexts(cov)
		return stream.Send(m)
	})
}

// CountFlows implements nodev1connect.FlowServiceHandler.
func (s *Server) CountFlows(ctx context.Context, q *nodev1.CountFlowsRequest) (*nodev1.CountFlowsResponse, error) {
	chosen, err := readSelection(q.Selection)
	if err == nil {
		err = CheckGrouping(q.By)
	}
	if err != nil {
		return nil, invalidArgument(err)
	}
	out := &nodev1.CountFlowsResponse{}
	err = s.withLog(ctx, func(log store.Reader) error {
		tallies, cov, err := Count(ctx, log, chosen, q.By, int(q.Top))
		for i := range tallies {
			out.Tallies = append(out.Tallies, tallies[i].Message())
		}
		out.Problems = problemTexts(cov)
		return err
	})
	return out, err
}
