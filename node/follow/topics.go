package follow

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/flow"
	"dragnet/node/sensors"
	"dragnet/source/collect"
	"dragnet/source/kafka"
)

func (f *Follower) startTopics(ctx context.Context) error {
	if w := f.deps.Forwarder; w != nil {
		if err := w.Start(ctx); err != nil {
			return err
		}
	}
	if c := f.deps.Consumer; c != nil {
		return c.Start(ctx, f.importer.Number)
	}
	return nil
}

// turns bounds how long topics keep the logs waiting.
const turns = 50

// takeTopics stores what has come in topics. What is committed together is the
// flows and the number of the state that follows them.
func (f *Follower) takeTopics(ctx context.Context) error {
	c := f.deps.Consumer
	if c == nil {
		return nil
	}
	for range turns {
		more, err := c.Take(ctx, func(batch []flow.Flow) error {
			f.importedNow += uint64(len(batch))
			f.metrics.imported.Add(float64(len(batch)))
			return f.importer.Add(context.WithoutCancel(ctx), batch)
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		number, changed, err := c.Checkpoint()
		if err != nil {
			return err
		}
		if changed {
			if err := f.importer.AddNumbered(context.WithoutCancel(ctx), c.Name(), number, nil); err != nil {
				return err
			}
			if err := f.importer.Commit(); err != nil {
				return err
			}
			c.Commit(context.WithoutCancel(ctx), number)
		}
		if !more || ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// endWait is how long an end waits for a cluster.
const endWait = 5 * time.Second

// endTopics ends the connections; what was read goes on at the next start.
func (f *Follower) endTopics(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	if c := f.deps.Consumer; c != nil {
		if err := c.Stop(ctx); err != nil {
			f.log.Error("stop reading topics failed", "err", err)
		}
	}
	if w := f.deps.Forwarder; w != nil {
		if err := w.Stop(ctx); err != nil {
			f.log.Error("forward waiting flows failed", "flows", w.Waiting(), "err", err)
		}
	}
}

// topicSources are the topics read, and that written to.
func (f *Follower) topicSources() (all []sensors.Source) {
	if f.deps.Consumer != nil {
		for _, s := range f.deps.Consumer.Sources() {
			lost := (&collect.Counters{NetFlow: s.NetFlow, SFlow: s.SFlow, Quality: s.Quality}).Causes()
			maps.Copy(lost, sensors.Nonzero(map[string]uint64{
				"messages_malformed": s.Malformed, "messages_removed_before_read": s.Missing, "partitions_restarted": s.Restarts, "messages_waiting": s.Lag,
			}))
			all = append(all, sensors.Source{Kind: "topic", Name: s.Topic, Flows: s.Flows, Sampling: s.Quality.Sampling, Lost: lost})
		}
	}
	if w := f.deps.Forwarder; w != nil {
		all = append(all, sensors.Source{Kind: "forward", Name: w.Topic(), Flows: w.Forwarded(), Lost: sensors.Nonzero(map[string]uint64{"flows_dropped": w.Dropped(), "flows_waiting": w.Waiting()})})
	}
	return all
}

// registerTopics registers the metrics of topics. The label topic has values from
// the configuration only.
func (f *Follower) registerTopics(r prometheus.Registerer) {
	counter := func(name, help string, labels prometheus.Labels, value func() uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "dragnet_kafka_" + name, Help: help, ConstLabels: labels}, func() float64 { return float64(value()) }))
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() uint64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dragnet_kafka_" + name, Help: help, ConstLabels: labels}, func() float64 { return float64(value()) }))
	}
	if c := f.deps.Consumer; c != nil {
		counter("errors_total", "Requests to the cluster that failed.", nil, c.Errors)
		for i, s := range c.Sources() {
			topic := prometheus.Labels{"topic": s.Topic}
			of := func(value func(*kafka.TopicCounts) uint64) func() uint64 {
				return func() uint64 { return value(&c.Sources()[i]) }
			}
			counter("messages_total", "Messages read.", topic, of(func(s *kafka.TopicCounts) uint64 { return s.Messages }))
			counter("malformed_total", "Messages of which a part could not be used.", topic, of(func(s *kafka.TopicCounts) uint64 { return s.Malformed }))
			counter("removed_total", "Messages that the cluster removed before they were read.", topic, of(func(s *kafka.TopicCounts) uint64 { return s.Missing }))
			counter("flows_total", "Flows made of messages.", topic, of(func(s *kafka.TopicCounts) uint64 { return s.Flows }))
			gauge("lag", "Messages that wait in the cluster.", topic, of(func(s *kafka.TopicCounts) uint64 { return s.Lag }))
		}
	}
	if w := f.deps.Forwarder; w != nil {
		topic := prometheus.Labels{"topic": w.Topic()}
		counter("forwarded_total", "Flows written to the topic.", topic, w.Forwarded)
		counter("forward_dropped_total", "Flows not written for lack of room, or because the cluster refused them.", topic, w.Dropped)
	}
}
