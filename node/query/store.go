package query

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/node/api"
	"dragnet/node/ingest"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
	"dragnet/wire"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// StoreServer answers operators' requests about a store; it implements
// nodev1connect.StoreServiceHandler.
type StoreServer struct {
	place, report string
	gate          *api.Gate
}

// NewStoreServer serves the data directory, or the database, at place; report is the
// file in which the node says what it received of sources.
func NewStoreServer(place, report string, gate *api.Gate) *StoreServer {
	return &StoreServer{place, report, gate}
}

// Service returns the server for an api.Server.
func (s *StoreServer) Service() api.Service {
	path, handler := nodev1connect.NewStoreServiceHandler(s, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: handler, Access: api.Operators}
}

// DescribeStore implements nodev1connect.StoreServiceHandler.
func (s *StoreServer) DescribeStore(ctx context.Context, _ *nodev1.DescribeStoreRequest) (*nodev1.DescribeStoreResponse, error) {
	store, err := ingest.OpenReader(ctx, s.place)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	defer store.Close() // nothing was written
	cov, err := store.Coverage(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	out := &nodev1.DescribeStoreResponse{Flows: cov.Flows, Skipped: cov.Skipped}
	size, err := store.Bytes(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	out.Bytes = uint64(size)
	if cov.Flows > 0 {
		out.From, out.To = wire.Timestamp(cov.From), wire.Timestamp(cov.To)
	}
	return out, nil
}

// CheckStore implements nodev1connect.StoreServiceHandler.
func (s *StoreServer) CheckStore(ctx context.Context, _ *nodev1.CheckStoreRequest) (*nodev1.CheckStoreResponse, error) {
	if clickhouse.Is(s.place) {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this node stores flows in ClickHouse, which checks its own files: run CHECK TABLE flows there"))
	}
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := disk.Check(ctx, s.place, nil)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	out := &nodev1.CheckStoreResponse{}
	for _, f := range found {
		out.Damages = append(out.Damages, &nodev1.Damage{File: f.File, Problem: f.Problem, Flows: uint64(f.Flows), Advice: f.Advice})
	}
	return out, nil
}

// ListSources implements nodev1connect.StoreServiceHandler.
func (s *StoreServer) ListSources(ctx context.Context, _ *nodev1.ListSourcesRequest) (*nodev1.ListSourcesResponse, error) {
	all, err := Sources(ctx, s.place, s.report)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	out := &nodev1.ListSourcesResponse{}
	for _, one := range all {
		m := &nodev1.Source{Kind: one.Kind, Name: one.Name, Flows: one.Flows, Lost: one.Lost, Sampling: one.Sampling}
		if !one.At.IsZero() {
			m.At = timestamppb.New(one.At)
		}
		out.Sources = append(out.Sources, m)
	}
	return out, nil
}
