package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
)

// Consumer makes flows of topics. Take, Checkpoint and Commit are for one
// goroutine; Sources may be called from any.
type Consumer struct {
	config Configuration
	file   string
	log    *slog.Logger
	now    func() time.Time
	name   string

	client *kgo.Client
	admin  *kadm.Client
	looked time.Time // when partitions were last looked for
	told   map[string]time.Time

	mu      sync.Mutex // guards all below
	feeds   []*feed
	pending []flow.Flow
	number  int64 // of the state that the store has taken in
	changed bool
	errors  uint64
	resume  map[string]map[int32]int64 // offsets committed, if the file is lost
}

// Dependencies of a consumer or forwarder.
type Dependencies struct {
	// File is how the names of a consumer's files begin, in which it keeps its
	// state; a forwarder has none.
	File string
	Log  *slog.Logger
}

// New prepares a consumer; Start starts it.
func New(config Configuration, d Dependencies) (*Consumer, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Consumer{config: config, file: d.File, log: d.Log, now: time.Now, told: map[string]time.Time{}}
	c.forgetAll()
	return c, nil
}

// forgetAll forgets all that was read.
func (c *Consumer) forgetAll() {
	c.feeds = nil
	for _, t := range c.config.Topics {
		c.feeds = append(c.feeds, newFeed(&c.config, t, func(f *flow.Flow) { c.pending = append(c.pending, *f) }))
	}
}

const (
	fetchBytes      = 16 << 20
	partitionBytes  = 1 << 20
	decompressBytes = 64 << 20
)

// Start goes on where the store is: at the state of the number that stored returns
// for the consumer's name; without one, at the offsets committed, or else at the
// beginning of the topics. That the cluster cannot be reached is not an error; it is
// tried again.
func (c *Consumer) Start(_ context.Context, stored func(name string) int64) error {
	id, err := c.readID()
	if err != nil {
		return err
	}
	c.name = "kafka " + id
	number := stored(c.name)
	options, err := c.config.clientOptions()
	if err != nil {
		return err
	}
	if c.client, err = kgo.NewClient(append(options, kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(partitionBytes), kgo.MaxConcurrentFetches(2),
		kgo.MaxDecompressBatchBytes(decompressBytes), kgo.BrokerMaxReadBytes(2*fetchBytes), kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...); err != nil {
		return err
	}
	c.admin = kadm.NewClient(c.client)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number = number
	if number > 0 {
		err := c.readCheckpoint(number)
		if err == nil {
			return nil
		}
		c.log.Warn("restore topics failed: reading continues at the committed offsets, so flows may be stored twice, and open conversations in two parts", "err", err)
		c.forgetAll()
	}
	c.resume = map[string]map[int32]int64{}
	return nil
}

// Name is that under which the store keeps the numbers of this consumer; others
// that write to the same store have other names.
func (c *Consumer) Name() string { return c.name }

// Stop ends the connections.
func (c *Consumer) Stop(context.Context) error {
	c.client.Close()
	return nil
}

// lookEvery is how often partitions that were added are looked for.
const lookEvery = time.Minute

// findPartitions finds the partitions of topics, and fetches from those that are new.
func (c *Consumer) findPartitions(ctx context.Context) error {
	if now := c.now(); now.Sub(c.looked).Abs() < lookEvery {
		return nil
	}
	if err := c.findCommitted(ctx); err != nil {
		return err
	}
	var names []string
	for _, f := range c.feeds {
		names = append(names, f.topic.Name)
	}
	found, err := c.admin.ListTopics(ctx, names...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	add := map[string]map[int32]kgo.Offset{}
	for _, f := range c.feeds {
		one := found[f.topic.Name]
		if one.Err != nil {
			c.noteError(f.topic.Name, one.Err)
			continue
		}
		add[f.topic.Name] = f.choosePartitions(c.now(), one.Partitions.Numbers(), c.resume[f.topic.Name])
	}
	c.client.AddConsumePartitions(add)
	c.looked = c.now()
	return nil
}

// findCommitted asks for the offsets that were committed, if there is no other
// state; until it is answered, nothing is read.
func (c *Consumer) findCommitted(ctx context.Context) error {
	if c.resume == nil || len(c.resume) > 0 {
		return nil
	}
	all, err := c.admin.FetchOffsets(ctx, c.config.Group)
	if err == nil {
		err = all.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	c.resume[""] = nil // it is answered
	all.Each(func(o kadm.OffsetResponse) {
		if c.resume[o.Topic] == nil {
			c.resume[o.Topic] = map[int32]int64{}
		}
		c.resume[o.Topic][o.Partition] = o.At
	})
	return nil
}

// choosePartitions returns the partitions that are to be fetched from and were not, with
// their offsets.
func (f *feed) choosePartitions(now time.Time, all []int32, committed map[int32]int64) map[int32]kgo.Offset {
	add := map[int32]kgo.Offset{}
	for _, n := range all {
		if len(f.topic.Partitions) > 0 && !slices.Contains(f.topic.Partitions, n) {
			continue
		}
		p := f.partitions[n]
		switch {
		case p == nil:
			p = &partition{next: max(0, committed[n])}
			p.fetched = p.next
			f.partitions[n] = p
		case !p.heard.IsZero():
			continue
		}
		p.heard = now
		if add[n] = kgo.NewOffset().AtStart(); p.next > 0 {
			add[n] = kgo.NewOffset().At(p.next)
		}
	}
	return add
}

// A turn of Take takes at most pollRecords messages, and waits at most pollWait
// for them.
const (
	pollRecords = 50_000
	pollWait    = 100 * time.Millisecond
	askWait     = 5 * time.Second
)

// Take hands the flows made of what has come to store, and reports whether
// more waits. Checkpoint must follow.
func (c *Consumer) Take(ctx context.Context, store func([]flow.Flow) error) (more bool, err error) {
	ask, cancel := context.WithTimeout(ctx, askWait)
	err = c.findPartitions(ask)
	cancel()
	if err != nil {
		c.mu.Lock()
		c.noteError("", err)
		c.mu.Unlock()
		return false, ctx.Err()
	}
	wait, cancel := context.WithTimeout(ctx, pollWait)
	fetches := c.client.PollRecords(wait, pollRecords)
	cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	now, got := c.now(), 0
	fetches.EachTopic(func(t kgo.FetchTopic) {
		at := slices.IndexFunc(c.feeds, func(f *feed) bool { return f.topic.Name == t.Topic })
		if at < 0 {
			return
		}
		t.EachPartition(func(p kgo.FetchPartition) {
			got += len(p.Records)
			c.feeds[at].queueMessages(now, &p)
		})
	})
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
			c.noteError(e.Topic, e.Err)
		}
	}
	for _, f := range c.feeds {
		before := f.counts.Messages
		f.takeQueued(now)
		c.changed = c.changed || f.counts.Messages != before
	}
	c.changed = c.changed || len(c.pending) > 0
	batch := c.pending
	if c.pending = c.pending[:0]; cap(batch) > 1<<16 {
		c.pending = nil
	}
	const most = 1 << 14
	for err == nil && len(batch) > 0 {
		n := min(most, len(batch))
		err = store(batch[:n])
		batch = batch[n:]
	}
	return got > 0, err
}

// noteError counts an error and logs it, each once a minute.
func (c *Consumer) noteError(topic string, err error) {
	c.errors++
	now, text := c.now(), topic+": "+shortenError(err)
	if now.Sub(c.told[text]).Abs() < time.Minute {
		return
	}
	if len(c.told) > 100 {
		clear(c.told)
	}
	c.told[text] = now
	c.log.Warn("read topics failed", "topic", topic, "err", shortenError(err))
}

// Checkpoint keeps the state that follows what Take handed over, if anything
// changed. The number is to be stored with those flows, in one commit.
func (c *Consumer) Checkpoint() (number int64, changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed {
		return c.number, false, nil
	}
	number, err = c.writeCheckpoint()
	return number, true, err
}

// Commit notes that the store has taken in a number, and commits the offsets to
// the cluster. Nothing depends on whether that succeeds, unless the files are
// lost.
func (c *Consumer) Commit(ctx context.Context, number int64) {
	c.mu.Lock()
	c.number, c.changed = number, false
	var offsets kadm.Offsets
	for _, f := range c.feeds {
		for n, p := range f.partitions {
			offsets.AddOffset(f.topic.Name, n, p.next, -1)
		}
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if err := c.admin.CommitAllOffsets(ctx, c.config.Group, offsets); err != nil {
		c.mu.Lock()
		c.noteError("", err)
		c.mu.Unlock()
	}
}

// TopicCounts is what was received of one topic.
type TopicCounts struct {
	Topic string
	Counts
	// Lag is how many messages wait in the cluster, as far as is known.
	Lag uint64
	// NetFlow, SFlow and Quality are sums over its exporters.
	NetFlow netflow.Counters
	SFlow   sflow.Counters
	Quality biflow.Quality
}

// Sources are the topics in the order of the configuration.
func (c *Consumer) Sources() (all []TopicCounts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.feeds {
		s := TopicCounts{Topic: f.topic.Name, Counts: f.counts, Lag: f.countLag()}
		for _, n := range f.netflow.Counters() {
			s.NetFlow.Add(n)
		}
		for _, n := range f.sflow.Counters() {
			s.SFlow.Add(n)
		}
		for _, q := range f.join.Qualities() {
			s.Quality.Add(&q)
		}
		all = append(all, s)
	}
	return all
}

// Errors counts what failed when the cluster was asked.
func (c *Consumer) Errors() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errors
}
