package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"dragnet/daw"
)

// StationClient receives a guard's reports and returns policies.
type StationClient interface {
	Exchange(ctx context.Context, b daw.AgentReport) (daw.AgentPolicy, error)
}

// Socket is a station on this machine, reached through its Unix socket. The
// permissions of the socket file decide who may connect.
type Socket struct {
	path   string
	client *http.Client
}

// exchangePath is the path at which a station accepts reports.
const exchangePath = "/v1/exchange"

// maxPolicy bounds the size of a policy.
const maxPolicy = 64 << 20

// NewSocket is a station that listens on the socket at path.
func NewSocket(path string) *Socket {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Socket{path, &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}, Timeout: 30 * time.Second}}
}

// Exchange sends a report and returns the policy in the response.
func (s *Socket) Exchange(ctx context.Context, b daw.AgentReport) (daw.AgentPolicy, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return daw.AgentPolicy{}, fmt.Errorf("encode report: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://station"+exchangePath, bytes.NewReader(body))
	if err != nil {
		return daw.AgentPolicy{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(request)
	if err != nil {
		return daw.AgentPolicy{}, fmt.Errorf("station at %s: %w", s.path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxPolicy+1))
	switch {
	case err != nil:
		return daw.AgentPolicy{}, fmt.Errorf("station at %s: %w", s.path, err)
	case len(text) > maxPolicy:
		return daw.AgentPolicy{}, fmt.Errorf("station at %s: policy is longer than %d bytes", s.path, maxPolicy)
	case answer.StatusCode != http.StatusOK:
		return daw.AgentPolicy{}, fmt.Errorf("station at %s: %s: %s", s.path, answer.Status, bytes.TrimSpace(text[:min(len(text), 500)]))
	}
	var o daw.AgentPolicy
	if err := json.Unmarshal(text, &o); err != nil {
		return daw.AgentPolicy{}, fmt.Errorf("station at %s: invalid policy: %w", s.path, err)
	}
	return o, nil
}
