package channel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"dragnet/internal/spool"
	agentv1 "dragnet/wire/agent/v1"
)

// Bounds of one request with items.
const (
	batchItems = 512
	batchBytes = 2 << 20
)

// within is how long the node may take for one request.
const within = time.Minute

// sendAll sends what waits until ctx ends. After a failure it goes on with one
// item, so that one that the node cannot take holds up no others before it, and
// then with twice as many each time.
func (c *Client) sendAll(ctx context.Context) {
	batch, failures := batchItems, 0
	for ctx.Err() == nil {
		records, err := c.spool.Read(c.now(), batch, batchBytes)
		if err == nil && len(records) == 0 {
			select {
			case <-ctx.Done():
			case <-c.spool.Wake():
			}
			continue
		}
		if err == nil {
			err = c.send(ctx, records)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			batch, failures = min(2*batch, batchItems), 0
		default:
			c.deps.Log.Warn("send items failed; they wait on disk", "err", err)
			batch, failures = 1, failures+1
			if !c.retry.wait(ctx, failures) {
				return
			}
		}
	}
}

func (c *Client) send(ctx context.Context, records []spool.Record) error {
	id := c.spool.ID()
	m := &agentv1.SendItemsRequest{Spool: id[:]}
	last := records[len(records)-1].Sequence
	for _, r := range records {
		item := &agentv1.Item{}
		if err := proto.Unmarshal(r.Data, item); err != nil {
			return fmt.Errorf("record %d of the spool: %w", r.Sequence, err)
		}
		item.Sequence = r.Sequence
		m.Items = append(m.Items, item)
	}
	asked, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	got, err := c.node().SendItems(asked, m)
	if len(records) == 1 && isPermanent(err) {
		c.deps.Log.Error("item dropped, as the node can never accept it", "kind", m.Items[0].Kind, "sequence", last, "err", err)
		return c.spool.Acknowledge(last)
	}
	if err != nil {
		return err
	}
	for _, r := range got.Refusals {
		c.deps.Log.Warn("node refused an item", "sequence", r.Sequence, "err", r.Problem)
	}
	if got.Acknowledged < records[0].Sequence {
		return errors.New("the node answered but accepted no item")
	}
	// It may be beyond what was sent now, since more was sent before a crash.
	err = c.spool.Acknowledge(got.Acknowledged)
	if errors.Is(err, spool.ErrNotMade) {
		c.deps.Log.Error("spool was restored from an older copy; it continues under another name", "err", err)
		return c.spool.NewID()
	}
	return err
}

// isPermanent reports whether the node itself said that the request can never be
// taken. An answer that cannot be read says nothing.
func isPermanent(err error) bool {
	code := connect.CodeOf(err)
	return connect.IsWireError(err) && (code == connect.CodeInvalidArgument || code == connect.CodeResourceExhausted)
}
