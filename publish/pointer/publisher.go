package pointer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/anacrolix/torrent/bencode"
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/flow"
	"dragnet/internal/run"
	"dragnet/publish/mirror"
	"dragnet/wire/identity"
)

// again is how often an item is put though nothing changed: nodes forget items
// after two hours (BEP 44).
const again = 30 * time.Minute

// patience bounds one walk through the table.
const patience = time.Minute

// Publisher keeps the item of a key up to date. Start and Stop are for one
// goroutine.
type Publisher struct {
	config Configuration
	key    *identity.Key
	log    *slog.Logger
	nodes  prometheus.Gauge
	group  *run.Group
	table  *table
	due    chan struct{}
	head   atomic.Pointer[mirror.Head]
}

// Dependencies of a publisher.
type Dependencies struct {
	Key *identity.Key // signs the item
	Log *slog.Logger
	// Nodes is set to how many nodes have the newest item.
	Nodes prometheus.Gauge
}

// New makes a publisher; Start starts it.
func New(c Configuration, d Dependencies) *Publisher {
	return &Publisher{config: c, key: d.Key, log: d.Log, nodes: d.Nodes, group: run.NewGroup(), due: make(chan struct{}, 1)}
}

// Start opens a socket.
func (p *Publisher) Start(context.Context) (err error) {
	if p.table, err = openTable(&p.config); err != nil {
		return err
	}
	p.group.GoWithoutError(p.follow)
	return nil
}

// Stop closes it. The item stays in the table for up to two hours.
func (p *Publisher) Stop(ctx context.Context) error {
	err := p.group.Stop(ctx)
	if p.table != nil {
		p.table.close()
	}
	return err
}

// Update puts the head of a new publication into the table soon. It never waits.
func (p *Publisher) Update(h *mirror.Head) {
	p.head.Store(h)
	select {
	case p.due <- struct{}{}:
	default:
	}
}

func (p *Publisher) follow(ctx context.Context) {
	timer := time.NewTicker(again)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.due:
		case <-timer.C:
		}
		if h := p.head.Load(); h != nil {
			n, err := p.publish(ctx, h)
			p.nodes.Set(float64(n))
			if err != nil && ctx.Err() == nil {
				p.log.Warn("put publication into the distributed hash table failed; trying again with the next one", "err", err)
			}
		}
	}
}

// publish puts an item whose sequence number is the time of the publication in
// milliseconds: unlike a count, it grows though our files were lost.
func (p *Publisher) publish(ctx context.Context, h *mirror.Head) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := json.Marshal(Pointer{Version, *h, p.config.Mirrors})
	if err != nil || len(text) > maxText {
		return 0, fmt.Errorf("the item has %d bytes, %w", len(text), err)
	}
	value, err := bencode.Marshal(string(text))
	if err != nil {
		return 0, err
	}
	i := &item{sequence: sequenceOf(h.Time), text: string(text)}
	i.signature = p.key.SignItem([]byte(salt), i.sequence, value)
	_, closest, err := p.table.walkTo(ctx, p.key.Public())
	if err != nil {
		return 0, err
	}
	n := p.table.put(ctx, p.key.Public(), i, closest)
	if n == 0 {
		return 0, fmt.Errorf("none of the %d nearest nodes took the item", closest.Len())
	}
	return n, nil
}

func sequenceOf(t flow.Time) int64 { return t.Time().UnixMilli() }
