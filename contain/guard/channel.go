package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"dragnet/daw"
	"dragnet/wire/channel"
)

// What a guard sends its node, and is told, on the agents' channel: JSON.
const (
	BulletinKind   = "guard.bulletin"
	BulletinFormat = 1
	OrdersFormat   = 1
)

// Channel is a station elsewhere, reached by the channel of the agents:
// bulletins wait in a spool while it is away, and orders come as the role's
// configuration.
type Channel struct {
	client *channel.Client

	mu     sync.Mutex // guards orders
	orders *daw.Orders
}

// NewChannel prepares a channel for an enrolled agent; Start begins.
func NewChannel(c channel.Configuration, release string, log *slog.Logger) (*Channel, error) {
	s := &Channel{}
	var err error
	s.client, err = channel.New(c, channel.Dependencies{Log: log, Role: "guard", Release: release, Apply: s.apply})
	return s, err
}

// Start begins to talk with the node, which need not be there.
func (s *Channel) Start(ctx context.Context) error { return s.client.Start(ctx) }

// Stop ends the talk; what waits goes on waiting on the disk.
func (s *Channel) Stop(ctx context.Context) error { return s.client.Stop(ctx) }

func (s *Channel) apply(_ context.Context, d channel.Document) error {
	if d.Format != OrdersFormat {
		return fmt.Errorf("orders of format %d; this guard knows %d", d.Format, OrdersFormat)
	}
	var o daw.Orders
	if err := json.Unmarshal(d.Body, &o); err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = &o
	return nil
}

// Of a bulletin that is too long for an item, these many receipts are kept.
const maxSentReceipts = 1000

// Exchange hands a bulletin over and returns the last orders that came. An
// error says that the node is away; the bulletin waits for it.
func (s *Channel) Exchange(_ context.Context, b daw.Bulletin) (daw.Orders, error) {
	b.Receipts = b.Receipts[:min(len(b.Receipts), maxSentReceipts)]
	body, err := json.Marshal(b)
	if err != nil {
		return daw.Orders{}, fmt.Errorf("bulletin: %w", err)
	}
	if err := s.client.Send(channel.Item{Kind: BulletinKind, Format: BulletinFormat, Body: body}); err != nil {
		return daw.Orders{}, err
	}
	if status := s.client.Status(); !status.Connected {
		return daw.Orders{}, fmt.Errorf("station at %s: %s", status.Node, status.Problem)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orders == nil {
		return daw.Orders{}, errors.New("the station has no orders for this agent: name it in 'station.agents' there")
	}
	return *s.orders, nil
}
