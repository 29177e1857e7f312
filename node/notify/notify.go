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
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/metric"
	"dragnet/internal/run"
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

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for i, k := range c.Kinds {
		p.Check(slices.Contains(kinds(), k), fmt.Sprintf("kinds[%d]", i), "%q is none of %v", k, kinds())
	}
	p.Check(c.Queue >= 1 && c.Queue <= 1_000_000, "queue", "is %d; want 1 to 1000000 notices", c.Queue)
	p.Check(c.Attempts >= 1 && c.Attempts <= 20, "attempts", "is %d; want 1 to 20", c.Attempts)
	p.Check(c.Pause > 0 && c.Pause <= time.Hour, "pause", "is %v; want above 0 and at most 1h", c.Pause)
	p.Section("syslog", c.Syslog.Validate())
	p.Section("webhook", c.Webhook.Validate())
	p.Section("mail", c.Mail.Validate())
	return p.Join()
}

// Notice is something that people should learn of.
type Notice struct {
	Time flow.Time `json:"time"`
	// Kind is "finding", "decision", "alarm", "trend" or "agent".
	Kind string `json:"kind"`
	Text string `json:"text"`
	// Finding and Decision are what it is about, if it is about one.
	Finding  *dossier.Finding  `json:"finding,omitempty"`
	Decision *dossier.Decision `json:"decision,omitempty"`
}

// channel sends notices somewhere. An error that is permanent is not tried
// again.
type channel interface {
	name() string
	// batch is how long notices are collected before they are sent together.
	batch() time.Duration
	send(ctx context.Context, notices []Notice) error
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

// Notifier is safe for concurrent use.
type Notifier struct {
	c                             Configuration
	log                           *slog.Logger
	queues                        []queue
	group                         *run.Group
	sent, failed, dropped, waited *prometheus.CounterVec
}

// queue is what waits for one channel.
type queue struct {
	to      channel
	notices chan Notice
}

// New makes a notifier; Start starts it. The admin server gets the metrics; it may
// be nil.
func New(c Configuration, log *slog.Logger, a *admin.Server) (*Notifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := &Notifier{c: c, log: log, group: run.NewGroup()}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	for _, to := range []channel{newSyslog(c.Syslog, host), newWebhook(c.Webhook), newMail(c.Mail, host)} {
		if to.name() != "" {
			n.queues = append(n.queues, queue{to, make(chan Notice, c.Queue)})
		}
	}
	under := metric.Under(a.Metrics(), "dragnet_notices_")
	n.sent = under.Counters("sent_total", "Notices that a receiver took.", "channel")
	n.failed = under.Counters("failed_total", "Notices given up after all attempts.", "channel")
	n.dropped = under.Counters("dropped_total", "Notices dropped because too many waited.", "channel")
	n.waited = under.Counters("retried_total", "Attempts to send that failed.", "channel")
	return n, nil
}

// Start begins to send.
func (n *Notifier) Start(context.Context) error {
	for i := range n.queues {
		n.group.Go(func(ctx context.Context) error { n.run(ctx, &n.queues[i]); return nil })
	}
	return nil
}

// Stop sends what waits, each notice once more, and ends; it waits no longer
// than ctx.
func (n *Notifier) Stop(ctx context.Context) error {
	return n.group.Stop(ctx)
}

// Notify queues a notice; it never waits.
func (n *Notifier) Notify(notice Notice) {
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
func (q *queue) collect(ctx context.Context, first Notice) []Notice {
	all := []Notice{first}
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
func (n *Notifier) flush(q *queue, all []Notice) {
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
func (n *Notifier) deliver(ctx context.Context, to channel, notices []Notice) (left []Notice) {
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
