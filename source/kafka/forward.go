package kafka

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"dragnet/flow"
	"dragnet/flow/protobuf"
)

// Forwarder writes flows to a topic. Its methods are safe for concurrent use.
type Forwarder struct {
	config Configuration
	log    *slog.Logger
	client *kgo.Client

	forwarded, dropped atomic.Uint64
	warned             atomic.Int64 // Unix seconds
}

// NewForwarder prepares a forwarder.
func NewForwarder(config Configuration, d Dependencies) (*Forwarder, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Forwarder{config: config, log: d.Log}, nil
}

// Start makes the client. That the cluster cannot be reached is not an error.
func (w *Forwarder) Start(context.Context) error {
	options, err := w.config.clientOptions()
	if err != nil {
		return err
	}
	w.client, err = kgo.NewClient(append(options, kgo.MaxBufferedRecords(w.config.Forward.MaxPending), kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		kgo.DefaultProduceTopic(w.config.Forward.Topic), kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(50*time.Millisecond))...)
	return err
}

// Stop writes what waits, within ctx.
func (w *Forwarder) Stop(ctx context.Context) error {
	err := w.client.Flush(ctx)
	w.client.Close()
	return err
}

// Add hands flows over; it does not wait. The key of a message is a hash of its
// flow, so a flow that is written twice, which happens when the node ends
// between writing and storing it, has the same key.
func (w *Forwarder) Add(batch []flow.Flow) {
	for i := range batch {
		value := protobuf.Append(make([]byte, 0, 192), &batch[i])
		key := sha256.Sum256(value)
		w.client.TryProduce(context.Background(), &kgo.Record{Key: key[:16], Value: value}, w.noteDelivery)
	}
}

func (w *Forwarder) noteDelivery(_ *kgo.Record, err error) {
	if err == nil {
		w.forwarded.Add(1)
		return
	}
	w.dropped.Add(1)
	if now, last := time.Now().Unix(), w.warned.Load(); now-last >= 60 && w.warned.CompareAndSwap(last, now) {
		w.log.Warn("flows not forwarded", "topic", w.config.Forward.Topic, "dropped", w.dropped.Load(), "err", shortenError(err))
	}
}

// flushWait is how long the store waits for the cluster.
const flushWait = 2 * time.Second

// Flush waits a moment until what was added is in the topic. What is not then
// waits on in memory, and is lost if the node ends.
func (w *Forwarder) Flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	_ = w.client.Flush(ctx)
}

// Forwarded flows are in the topic, Dropped were not written, Waiting may be.
func (w *Forwarder) Forwarded() uint64 { return w.forwarded.Load() }

// Dropped flows were not written, for lack of room or because the cluster refused.
func (w *Forwarder) Dropped() uint64 { return w.dropped.Load() }

// Waiting flows are neither.
func (w *Forwarder) Waiting() uint64 { return uint64(w.client.BufferedProduceRecords()) }

// Topic is that written to.
func (w *Forwarder) Topic() string { return w.config.Forward.Topic }
