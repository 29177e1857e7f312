package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"dragnet/daw"
	"dragnet/wire/channel"
)

// What a guard sends its node, and receives from it, on the agents' channel:
// JSON.
const (
	ReportKind   = "guard.report"
	ReportFormat = 1
	PolicyFormat = 1
)

// Channel is the station of a node, reached by the channel of the agents: reports
// wait in a spool while it cannot be reached, and policies arrive as the role's
// configuration.
type Channel struct {
	client *channel.Client

	mu     sync.Mutex // guards policy
	policy *daw.AgentPolicy
}

// NewChannel prepares a channel for an enrolled agent; call Start to run it. It
// sets the role and what is applied.
func NewChannel(c channel.Configuration, d channel.Dependencies) (*Channel, error) {
	s := &Channel{}
	d.Role, d.Apply = "guard", s.applyPolicy
	var err error
	s.client, err = channel.New(c, d)
	return s, err
}

// Start connects to the node in the background; the node need not be reachable
// yet.
func (s *Channel) Start(ctx context.Context) error { return s.client.Start(ctx) }

// Stop closes the connection; reports not yet sent stay on disk.
func (s *Channel) Stop(ctx context.Context) error { return s.client.Stop(ctx) }

func (s *Channel) applyPolicy(_ context.Context, d channel.Document) error {
	if d.Format != PolicyFormat {
		return fmt.Errorf("station policy has format %d; this guard knows %d", d.Format, PolicyFormat)
	}
	var o daw.AgentPolicy
	if err := json.Unmarshal(d.Body, &o); err != nil {
		return fmt.Errorf("station policy: %w", err)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = &o
	return nil
}

// maxReceipts is how many receipts are kept of a report that is too long for
// one item.
const maxSentReceipts = 1000

// Exchange queues a report and returns the latest policy received. An error
// means that the node cannot be reached; the report stays queued.
func (s *Channel) Exchange(_ context.Context, b daw.AgentReport) (daw.AgentPolicy, error) {
	b.Receipts = b.Receipts[:min(len(b.Receipts), maxSentReceipts)]
	body, err := json.Marshal(b)
	if err != nil {
		return daw.AgentPolicy{}, fmt.Errorf("encode report: %w", err)
	}
	if err := s.client.Send(channel.Item{Kind: ReportKind, Format: ReportFormat, Body: body}); err != nil {
		return daw.AgentPolicy{}, err
	}
	if status := s.client.Status(); !status.Connected {
		return daw.AgentPolicy{}, fmt.Errorf("station at %s: %s", status.Node, status.Problem)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policy == nil {
		return daw.AgentPolicy{}, errors.New("the station has no policy for this agent: name it in 'enforcement.agents' there")
	}
	return *s.policy, nil
}
