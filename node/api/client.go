package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"dragnet/internal/hint"
	"dragnet/wire/enrol"
	"dragnet/wire/node/v1/nodev1connect"
)

// Client is an operator's connection to a node.
type Client struct {
	Flows     nodev1connect.FlowServiceClient
	Store     nodev1connect.StoreServiceClient
	Question  nodev1connect.QuestionServiceClient
	Members   nodev1connect.MemberServiceClient
	Findings  nodev1connect.FindingServiceClient
	Decisions nodev1connect.DecisionServiceClient
	Status    nodev1connect.StatusServiceClient

	http *http.Transport
}

// IsAddress reports whether s is the address of a node rather than a path.
func IsAddress(s string) bool {
	return strings.HasPrefix(s, "unix://") || strings.HasPrefix(s, "https://")
}

// OperatorFolder is where an operator's certificate for the node at address is
// kept by default.
func OperatorFolder(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "dragnet", "nodes", strings.ReplaceAll(u.Host, ":", "_")), nil
}

// maxAnswer bounds one message of an answer, in bytes: a testimony may be large.
const maxAnswer = 1 << 30

// Dial makes a client of the node at address: unix:///PATH for its Unix socket,
// or https://HOST:PORT, for which folder holds the operator's certificate;
// empty means OperatorFolder. Nothing is sent yet.
func Dial(address, folder string) (*Client, error) {
	t := &http.Transport{TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true}
	base := address
	switch {
	case strings.HasPrefix(address, "unix://"):
		path := strings.TrimPrefix(address, "unix://")
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%s: want three slashes and a path, such as unix:///run/dragnet/node.sock", address)
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		base = "http://node" // never resolved
	case strings.HasPrefix(address, "https://"):
		var err error
		if folder == "" {
			if folder, err = OperatorFolder(address); err != nil {
				return nil, err
			}
		}
		f, err := enrol.Open(folder)
		if errors.Is(err, enrol.ErrNotEnrolled) {
			return nil, hint.Add(fmt.Errorf("%w at %s", enrol.ErrNotEnrolled, address), "redeem a token that 'dragnet agent token' printed there: dragnet operator enrol %s TOKEN", address)
		}
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig, t.ForceAttemptHTTP2 = f.ClientTLS(), true
	default:
		return nil, fmt.Errorf("%q is not the address of a node: want unix:///PATH or https://HOST:PORT", address)
	}
	c, options := &http.Client{Transport: t}, connect.WithReadMaxBytes(maxAnswer)
	return &Client{
		Flows:     nodev1connect.NewFlowServiceClient(c, base, options),
		Store:     nodev1connect.NewStoreServiceClient(c, base, options),
		Question:  nodev1connect.NewQuestionServiceClient(c, base, options),
		Members:   nodev1connect.NewMemberServiceClient(c, base, options),
		Findings:  nodev1connect.NewFindingServiceClient(c, base, options),
		Decisions: nodev1connect.NewDecisionServiceClient(c, base, options),
		Status:    nodev1connect.NewStatusServiceClient(c, base, options),
		http:      t,
	}, nil
}

// Close ends the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }
