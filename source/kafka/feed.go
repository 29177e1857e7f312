package kafka

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"dragnet/flow"
	"dragnet/flow/protobuf"
	"dragnet/source/akvorado"
	"dragnet/source/biflow"
	"dragnet/source/goflow2"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
)

// Counts of one topic; they only grow, also over restarts.
type Counts struct {
	// Messages were read, Malformed are those of which a part could not be used,
	// and Missing those that the cluster had removed before they were read.
	Messages, Malformed, Missing uint64
	// Restarts counts partitions that began again at a lower offset, since their
	// topic was made again or cut.
	Restarts uint64
	// Flows were made.
	Flows uint64
}

// feed is one topic: its messages become flows in the order of their times.
type feed struct {
	topic      Topic
	partitions map[int32]*partition
	// clock is the latest time of arrival; it does not go back.
	clock   flow.Time
	queued  int
	counts  Counts
	join    *biflow.Joiner
	netflow *netflow.Decoder
	sflow   *sflow.Decoder
	emit    func(*flow.Flow)
}

// partition is one of a topic.
type partition struct {
	// next is the offset of the first message that is not taken in, high that of
	// the next that will be written.
	next, high int64
	// fetched is the offset behind the last one queued.
	fetched int64
	queue   []arrival
	clock   flow.Time // of the last one queued
	heard   time.Time // when something of it was fetched
}

// arrival is a message and when it was written to its topic, which does not go
// back within a partition.
type arrival struct {
	at     flow.Time
	record *kgo.Record
}

func newFeed(c *Configuration, t Topic, emit func(*flow.Flow)) *feed {
	f := &feed{topic: t, partitions: map[int32]*partition{}, clock: flow.MinTime, netflow: netflow.New(c.NetFlow), sflow: sflow.New(c.SFlow)}
	f.emit = func(one *flow.Flow) {
		f.counts.Flows++
		emit(one)
	}
	f.join = biflow.New(c.Join, f.emit)
	return f
}

// queueMessages takes messages that were fetched from a partition.
func (f *feed) queueMessages(now time.Time, fp *kgo.FetchPartition) {
	p := f.partitions[fp.Partition]
	if p == nil {
		return
	}
	if len(fp.Records) > 0 && fp.Records[0].Offset < p.fetched && fp.HighWatermark < p.fetched {
		f.counts.Restarts++
		p.fetched, p.high = fp.Records[0].Offset, fp.HighWatermark
	}
	p.high, p.heard = max(p.high, fp.HighWatermark), now
	for _, r := range fp.Records {
		if r.Offset < p.fetched {
			continue
		}
		// Offsets that no longer exist were removed; others that are left out
		// held no message, but the mark of a transaction.
		if lost := min(r.Offset, fp.LogStartOffset) - p.fetched; lost > 0 && p.fetched > 0 {
			f.counts.Missing += uint64(lost)
		}
		p.fetched = r.Offset + 1
		// A time that a producer invented must not carry that of others away.
		at := flow.FromTime(r.Timestamp)
		if latest := flow.FromTime(now); at <= 0 || at > latest {
			at = latest
		}
		p.clock = max(p.clock, at)
		p.queue = append(p.queue, arrival{p.clock, r})
		f.queued++
	}
	p.high = max(p.high, p.fetched)
}

// maxQueued bounds the messages of a topic that wait for others with earlier
// times; patience is how long they wait for a partition of which nothing comes.
const (
	maxQueued = 100_000
	patience  = 10 * time.Second
)

// takeQueued takes in queued messages, of all partitions in the order of time: the
// two directions of a conversation may be in different ones. Those that could be
// preceded by one that is not fetched yet wait, within bounds.
func (f *feed) takeQueued(now time.Time) {
	until, caught := flow.MaxTime, true
	for _, p := range f.partitions {
		if p.fetched >= p.high {
			continue
		}
		caught = false
		if len(p.queue) > 0 {
			until = min(until, p.clock)
		} else if now.Sub(p.heard) < patience && f.queued < maxQueued {
			until = flow.MinTime
		}
	}
	for f.queued > 0 {
		first, second := (*partition)(nil), flow.Time(math.MaxInt64)
		for _, p := range f.partitions {
			switch {
			case len(p.queue) == 0:
			case first == nil || p.queue[0].at < first.queue[0].at:
				if first != nil {
					second = first.queue[0].at
				}
				first = p
			default:
				second = min(second, p.queue[0].at)
			}
		}
		if first.queue[0].at > until && f.queued < maxQueued {
			return
		}
		f.takeUntil(first, second)
	}
	if caught {
		f.clock = max(f.clock, flow.FromTime(now))
		f.join.Advance(f.clock)
	}
}

// takeUntil takes in the messages of p that are not later than at, at least one.
func (f *feed) takeUntil(p *partition, at flow.Time) {
	n := 0
	for n == 0 || n < len(p.queue) && p.queue[n].at <= at {
		a := &p.queue[n]
		f.clock = max(f.clock, a.at)
		f.takeMessage(a.record.Value)
		p.next = a.record.Offset + 1
		*a = arrival{}
		n++
	}
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil
	}
	f.queued -= n
}

// takeMessage makes flows of a message.
func (f *feed) takeMessage(b []byte) {
	f.counts.Messages++
	if f.decodeMessage(b) != nil {
		f.counts.Malformed++
	}
}

func (f *feed) decodeMessage(b []byte) error {
	switch f.topic.Format {
	case formatGoflow2:
		return goflow2.Read(b, func(_ flow.Time, r *biflow.Record) { f.join.Add(f.clock, r) })
	case formatAkvorado:
		d, err := akvorado.Parse(b)
		if err != nil {
			return err
		}
		add := func(r *biflow.Record) { f.join.Add(f.clock, r) }
		if sflow.Is(d.Data) && d.Decoder != akvorado.NetFlow {
			return f.sflow.Decode(f.clock, d.From, d.Data, add)
		}
		return f.netflow.Decode(f.clock, d.From, d.Data, add)
	}
	var one flow.Flow
	if err := protobuf.Parse(b, &one); err != nil {
		return err
	}
	f.emit(&one)
	return nil
}

// countLag returns how many messages are not taken in yet, as far as is known.
func (f *feed) countLag() (n uint64) {
	for _, p := range f.partitions {
		n += uint64(max(0, p.high-p.next))
	}
	return n
}
