package agents

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/node/api"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// Members is the interface for operators: over HTTP through Service, or within
// the program by its methods.
type Members struct{ r *Registry }

// Operators returns the interface for operators.
func (r *Registry) Operators() Members { return Members{r} }

// Service serves m to operators.
func (m Members) Service() api.Service {
	path, handler := nodev1connect.NewMemberServiceHandler(m, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: handler, Access: api.Operators}
}

// ListMembers implements nodev1connect.MemberServiceHandler.
func (m Members) ListMembers(ctx context.Context, q *nodev1.ListMembersRequest) (*nodev1.ListMembersResponse, error) {
	after, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil {
		return nil, withCode(fmt.Errorf("%w: invalid cursor; use one from the page before", ErrWrong))
	}
	size := int(min(q.PageSize, 1000))
	if size == 0 {
		size = 100
	}
	all, err := m.r.ListMembers(ctx, string(after), size+1)
	if err != nil {
		return nil, withCode(err)
	}
	out := &nodev1.ListMembersResponse{}
	if len(all) > size {
		all = all[:size]
		out.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(all[size-1].Name))
	}
	for _, a := range all {
		out.Members = append(out.Members, &nodev1.Member{
			Name: a.Name, Role: a.Role, Host: a.Host, Release: a.Program,
			Enrolled: timestampOf(a.Enrolled), Revoked: timestampOf(a.Revoked), Seen: timestampOf(a.Seen), Until: timestampOf(a.Until),
			Configuration: a.Configuration, Problem: a.Problem, WaitingBytes: a.Waiting, Dropped: a.Dropped,
			Received: a.Received, Refused: a.Refused, Missed: a.Missed,
		})
	}
	return out, nil
}

func timestampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// MakeToken implements nodev1connect.MemberServiceHandler.
func (m Members) MakeToken(ctx context.Context, q *nodev1.MakeTokenRequest) (*nodev1.MakeTokenResponse, error) {
	life := q.Life.AsDuration()
	token, err := m.r.NewToken(ctx, q.Name, q.Role, life)
	if err != nil {
		return nil, withCode(err)
	}
	m.r.log.Info("token made", "name", q.Name, "role", q.Role, "by", api.PeerOf(ctx).String())
	return &nodev1.MakeTokenResponse{Token: token.String()}, nil
}

// RevokeMember implements nodev1connect.MemberServiceHandler.
func (m Members) RevokeMember(ctx context.Context, q *nodev1.RevokeMemberRequest) (*nodev1.RevokeMemberResponse, error) {
	if err := m.r.Revoke(ctx, q.Name); err != nil {
		return nil, withCode(err)
	}
	m.r.log.Info("member revoked", "name", q.Name, "by", api.PeerOf(ctx).String())
	return &nodev1.RevokeMemberResponse{}, nil
}

// ConfigureRole implements nodev1connect.MemberServiceHandler.
func (m Members) ConfigureRole(ctx context.Context, q *nodev1.ConfigureRoleRequest) (*nodev1.ConfigureRoleResponse, error) {
	if q.Role == api.OperatorRole {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("operators have no configuration; name the role of an agent"))
	}
	version, err := m.r.Configure(ctx, q.Role, q.Name, q.Format, q.Body)
	if err != nil {
		return nil, withCode(err)
	}
	m.r.log.Info("configuration set", "role", q.Role, "name", q.Name, "version", version, "by", api.PeerOf(ctx).String())
	return &nodev1.ConfigureRoleResponse{Version: version}, nil
}
