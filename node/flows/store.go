package flows

import (
	"context"

	"connectrpc.com/connect"

	"dragnet/api"
	"dragnet/store/disk"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// StoreServer answers operators' requests about a data directory; it implements
// nodev1connect.StoreServiceHandler.
type StoreServer struct {
	dir  string
	gate *api.Gate
}

// NewStoreServer looks after the data directory dir.
func NewStoreServer(dir string, gate *api.Gate) *StoreServer { return &StoreServer{dir, gate} }

// Service is how the server is served.
func (s *StoreServer) Service() api.Service {
	path, handler := nodev1connect.NewStoreServiceHandler(s, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: handler, Access: api.Operators}
}

// DescribeStore implements nodev1connect.StoreServiceHandler.
func (s *StoreServer) DescribeStore(context.Context, *nodev1.DescribeStoreRequest) (*nodev1.DescribeStoreResponse, error) {
	store, err := disk.Open(s.dir)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	defer store.Close()
	cov := store.Coverage()
	out := &nodev1.DescribeStoreResponse{Flows: cov.Flows, Bytes: uint64(store.Bytes()), Skipped: cov.Skipped}
	if cov.Flows > 0 {
		out.From, out.To = stamp(cov.From), stamp(cov.To)
	}
	return out, nil
}

// CheckStore implements nodev1connect.StoreServiceHandler.
func (s *StoreServer) CheckStore(ctx context.Context, _ *nodev1.CheckStoreRequest) (*nodev1.CheckStoreResponse, error) {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := disk.Check(ctx, s.dir, nil)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	out := &nodev1.CheckStoreResponse{}
	for _, f := range found {
		out.Damages = append(out.Damages, &nodev1.Damage{File: f.File, Problem: f.Problem, Flows: uint64(f.Flows), Advice: f.Advice})
	}
	return out, nil
}
