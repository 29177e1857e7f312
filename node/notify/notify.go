// Package notify tells people and programs outside the node what it found and
// decided: by syslog, a webhook, and mail.
//
// A receiver that is slow or gone costs a bounded queue, never the node: what
// does not fit is dropped and counted, what fails is tried again for a while.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/internal/metric"
	"dragnet/node/enforcement"
)

// Configuration of the channels; one without an address is off.
type Configuration struct {
	// Kinds are what is told: any of finding, decision, alarm, trend, agent.
	Kinds []string `yaml:"kinds"`
	// Syslog is where notices go as RFC 5424.
	Syslog Syslog `yaml:"syslog"`
	// Webhook is where each notice is posted as JSON.
	Webhook Webhook `yaml:"webhook"`
	// Mail is where notices are mailed, those of a while in one message.
	Mail Mail `yaml:"mail"`
	// Queue is how many notices may wait for each channel.
	Queue int `yaml:"queue"`
	// Attempts is how often a notice is tried.
	Attempts int `yaml:"attempts"`
	// Pause is how long to wait after the first failure; it doubles with each.
	Pause time.Duration `yaml:"pause"`
}

// DefaultConfiguration tells nobody.
func DefaultConfiguration() Configuration {
	return Configuration{
		Kinds: kinds(), Syslog: Syslog{Facility: 13}, Webhook: Webhook{Timeout: 10 * time.Second},
		Mail: Mail{To: []string{}, Every: time.Minute, Timeout: 30 * time.Second}, Queue: 1000, Attempts: 6, Pause: time.Second,
	}
}

func kinds() []string { return []string{"finding", "decision", "alarm", "trend", "agent"} }

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	for i, k := range c.Kinds {
		if !slices.Contains(kinds(), k) {
			return fmt.Errorf("notify.kinds[%d]: %q is none of %v", i, k, kinds())
		}
	}
	switch {
	case c.Queue < 1 || c.Queue > 1_000_000:
		return errors.New("notify.queue must lie between 1 and 1000000 notices")
	case c.Attempts < 1 || c.Attempts > 20:
		return errors.New("notify.attempts must lie between 1 and 20")
	case c.Pause <= 0 || c.Pause > time.Hour:
		return errors.New("notify.pause must lie between 0 and 1h")
	}
	return errors.Join(c.Syslog.validate(), c.Webhook.validate(), c.Mail.validate())
}

// channel sends notices somewhere. An error that is permanent is not tried
// again.
type channel interface {
	name() string
	// batch is how long notices are collected before they are sent together.
	batch() time.Duration
	send(ctx context.Context, notices []enforcement.Notice) error
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

// Notifier is safe for concurrent use.
type Notifier struct {
	c                             Configuration
	log                           *slog.Logger
	queues                        []queue
	wg                            sync.WaitGroup
	stop                          context.CancelFunc
	sent, failed, dropped, waited *prometheus.CounterVec
}

// queue is what waits for one channel.
type queue struct {
	to      channel
	notices chan enforcement.Notice
}

// New prepares a notifier; Start begins.
func New(c Configuration, log *slog.Logger, registry prometheus.Registerer) (*Notifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := &Notifier{c: c, log: log}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	for _, to := range []channel{newSyslog(c.Syslog, host), newWebhook(c.Webhook), newMail(c.Mail, host)} {
		if to.name() != "" {
			n.queues = append(n.queues, queue{to, make(chan enforcement.Notice, c.Queue)})
		}
	}
	under := metric.Under(registry, "dragnet_notices_")
	n.sent = under.Counters("sent_total", "Notices that a receiver took.", "channel")
	n.failed = under.Counters("failed_total", "Notices given up after all attempts.", "channel")
	n.dropped = under.Counters("dropped_total", "Notices dropped because too many waited.", "channel")
	n.waited = under.Counters("retried_total", "Attempts to send that failed.", "channel")
	return n, nil
}

// Start begins to send.
func (n *Notifier) Start(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	for i := range n.queues {
		n.wg.Go(func() { n.run(running, &n.queues[i]) })
	}
	return nil
}

// Stop sends what waits, each notice once more, and ends; it waits no longer
// than ctx.
func (n *Notifier) Stop(ctx context.Context) error {
	n.stop()
	done := make(chan struct{})
	go func() { n.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tell queues a notice; it never waits.
func (n *Notifier) Tell(notice enforcement.Notice) {
	if !slices.Contains(n.c.Kinds, notice.Kind) {
		return
	}
	for i := range n.queues {
		select {
		case n.queues[i].notices <- notice:
		default:
			n.dropped.WithLabelValues(n.queues[i].to.name()).Inc()
		}
	}
}

// most is how many notices are sent together.
const most = 100

func (n *Notifier) run(ctx context.Context, q *queue) {
	for {
		select {
		case <-ctx.Done():
			n.flush(q, nil)
			return
		case first := <-q.notices:
			if left := n.deliver(ctx, q.to, q.collect(ctx, first)); len(left) > 0 {
				n.flush(q, left)
				return
			}
		}
	}
}

// collect waits for what comes together with the first.
func (q *queue) collect(ctx context.Context, first enforcement.Notice) []enforcement.Notice {
	all := []enforcement.Notice{first}
	wait := time.NewTimer(q.to.batch())
	defer wait.Stop()
	for q.to.batch() > 0 && len(all) < most {
		select {
		case next := <-q.notices:
			all = append(all, next)
		case <-wait.C:
			return all
		case <-ctx.Done():
			return all
		}
	}
	return all
}

// flush sends what is left at the end, first what was being sent.
func (n *Notifier) flush(q *queue, all []enforcement.Notice) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for {
		for len(all) < most && len(q.notices) > 0 && (q.to.batch() > 0 || len(all) == 0) {
			all = append(all, <-q.notices)
		}
		if len(all) == 0 {
			return
		}
		if err := q.to.send(ctx, all); err != nil {
			n.failed.WithLabelValues(q.to.name()).Add(float64(len(all)))
			n.log.Warn("notices are not sent at the end", "channel", q.to.name(), "notices", len(all), "err", err)
			return
		}
		n.sent.WithLabelValues(q.to.name()).Add(float64(len(all)))
		all = nil
	}
}

// deliver tries until it works or must be given up, and returns what is left
// when ctx ends before.
func (n *Notifier) deliver(ctx context.Context, to channel, notices []enforcement.Notice) (left []enforcement.Notice) {
	pause := n.c.Pause
	for attempt := 1; ; attempt++ {
		err := to.send(ctx, notices)
		if err == nil {
			n.sent.WithLabelValues(to.name()).Add(float64(len(notices)))
			return nil
		}
		if ctx.Err() != nil {
			return notices
		}
		var never permanent
		if attempt == n.c.Attempts || errors.As(err, &never) {
			n.failed.WithLabelValues(to.name()).Add(float64(len(notices)))
			n.log.Warn("notices are given up", "channel", to.name(), "notices", len(notices), "attempts", attempt, "err", err)
			return nil
		}
		n.waited.WithLabelValues(to.name()).Inc()
		select {
		case <-ctx.Done():
			return notices
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Hour)
	}
}
