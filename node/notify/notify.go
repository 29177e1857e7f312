// Package notify sends findings and decisions to people and programs outside the
// node: by syslog, a webhook, and mail; and these and flows as events of OCSF to a
// file, a webhook, and syslog.
//
// A slow or absent receiver costs a bounded queue and never stops the node: what
// does not fit is dropped and counted, what fails is retried for a while.
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
	// Kinds are the notices to send: any of finding, decision, alarm, trend, agent.
	Kinds []string `yaml:"kinds"`
	// Syslog sends notices in the format of RFC 5424.
	Syslog Syslog `yaml:"syslog"`
	// OCSF sends findings, decisions and flows in the form that collectors of
	// security events take.
	OCSF OCSF `yaml:"ocsf"`
	// Webhook posts each notice as JSON.
	Webhook Webhook `yaml:"webhook"`
	// Mail sends notices by mail, several in one message.
	Mail Mail `yaml:"mail"`
	// Queue bounds the notices that wait for each channel.
	Queue int `yaml:"queue"`
	// Attempts is how often the node tries to send a notice.
	Attempts int `yaml:"attempts"`
	// Pause is the wait after the first failure; it doubles with each further one.
	Pause time.Duration `yaml:"pause"`
}

// DefaultConfiguration sends nothing, since it names no receiver.
func DefaultConfiguration() Configuration {
	return Configuration{
		Kinds: noticeKinds(), Syslog: Syslog{Facility: 13}, Webhook: Webhook{Timeout: 10 * time.Second},
		OCSF: defaultOCSF(), Mail: Mail{To: []string{}, Every: time.Minute, Timeout: 30 * time.Second}, Queue: 1000, Attempts: 6, Pause: time.Second,
	}
}

func noticeKinds() []string { return []string{"finding", "decision", "alarm", "trend", "agent"} }

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for i, k := range c.Kinds {
		p.Check(slices.Contains(noticeKinds(), k), fmt.Sprintf("kinds[%d]", i), "%q; want one of %v", k, noticeKinds())
	}
	p.Check(c.Queue >= 1 && c.Queue <= 1_000_000, "queue", "is %d; want 1 to 1000000 notices", c.Queue)
	p.Check(c.Attempts >= 1 && c.Attempts <= 20, "attempts", "is %d; want 1 to 20", c.Attempts)
	p.Check(c.Pause > 0 && c.Pause <= time.Hour, "pause", "is %v; want above 0 and at most 1h", c.Pause)
	p.Section("syslog", c.Syslog.Validate())
	p.Section("webhook", c.Webhook.Validate())
	p.Section("mail", c.Mail.Validate())
	p.Section("ocsf", c.OCSF.Validate())
	return p.Join()
}

// Notice is an event that people should know of.
type Notice struct {
	Time flow.Time `json:"time"`
	// Kind is "finding", "decision", "alarm", "trend", "agent", or "flow", which
	// has no Text.
	Kind string `json:"kind"`
	Text string `json:"text"`
	// Finding and Decision are the subject, if there is one.
	Finding  *dossier.Finding  `json:"finding,omitempty"`
	Decision *dossier.Decision `json:"decision,omitempty"`
	Flow     *flow.Flow        `json:"-"`
}

// channel sends notices to one receiver. An error that is permanent is not
// retried.
type channel interface {
	name() string
	// collectFor is how long notices are collected before they are sent together.
	collectFor() time.Duration
	send(ctx context.Context, notices []Notice) error
}

// permanent is an error that a retry does not change.
type permanent struct{ error }

// Notifier is safe for concurrent use.
type Notifier struct {
	c                              Configuration
	log                            *slog.Logger
	queues                         []queue
	group                          *run.Group
	sent, failed, dropped, retried *prometheus.CounterVec
}

// queue holds the notices for one channel.
type queue struct {
	to      channel
	notices chan Notice
	// kinds are those that the channel gets, most how many are sent together.
	kinds []string
	most  int
}

// Dependencies of a notifier.
type Dependencies struct {
	Log   *slog.Logger
	Admin *admin.Server // gets the metrics; may be nil
}

// New makes a notifier; Start starts it.
func New(c Configuration, d Dependencies) (*Notifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := &Notifier{c: c, log: d.Log, group: run.NewGroup()}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	for _, to := range []channel{newSyslog(c.Syslog, host), newWebhook(c.Webhook), newMail(c.Mail, host)} {
		if to.name() != "" {
			n.queues = append(n.queues, queue{to, make(chan Notice, c.Queue), c.Kinds, most})
		}
	}
	n.queues = append(n.queues, c.OCSF.queues(host)...)
	under := metric.Under(d.Admin.Metrics(), "dragnet_notices_")
	n.sent = under.Counters("sent_total", "Notices that a receiver accepted.", "channel")
	n.failed = under.Counters("failed_total", "Notices given up after all attempts.", "channel")
	n.dropped = under.Counters("dropped_total", "Notices dropped because too many waited.", "channel")
	n.retried = under.Counters("retried_total", "Attempts to send that failed.", "channel")
	return n, nil
}

// Start starts sending.
func (n *Notifier) Start(context.Context) error {
	for i := range n.queues {
		n.group.GoWithoutError(func(ctx context.Context) { n.serveQueue(ctx, &n.queues[i]) })
	}
	return nil
}

// Stop tries once to send each notice that waits, and stops; it waits at most
// until ctx ends.
func (n *Notifier) Stop(ctx context.Context) error {
	return n.group.Stop(ctx)
}

// Notify queues a notice; it never blocks.
func (n *Notifier) Notify(notice Notice) {
	for i := range n.queues {
		if !slices.Contains(n.queues[i].kinds, notice.Kind) {
			continue
		}
		select {
		case n.queues[i].notices <- notice:
		default:
			n.dropped.WithLabelValues(n.queues[i].to.name()).Inc()
		}
	}
}

// most bounds the notices of a mail.
const most = 100

func (n *Notifier) serveQueue(ctx context.Context, q *queue) {
	for {
		select {
		case <-ctx.Done():
			n.flushQueue(q, nil)
			return
		case first := <-q.notices:
			if left := n.deliverNotices(ctx, q.to, q.collectBatch(ctx, first)); len(left) > 0 {
				n.flushQueue(q, left)
				return
			}
		}
	}
}

// collectBatch collects the notices that follow first within the channel's time.
func (q *queue) collectBatch(ctx context.Context, first Notice) []Notice {
	all := []Notice{first}
	wait := time.NewTimer(q.to.collectFor())
	defer wait.Stop()
	for q.to.collectFor() > 0 && len(all) < q.most {
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

// flushQueue sends what is left when the notifier stops, beginning with all.
func (n *Notifier) flushQueue(q *queue, all []Notice) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for {
		for len(all) < q.most && len(q.notices) > 0 && (q.to.collectFor() > 0 || len(all) == 0) {
			all = append(all, <-q.notices)
		}
		if len(all) == 0 {
			return
		}
		if err := q.to.send(ctx, all); err != nil {
			n.failed.WithLabelValues(q.to.name()).Add(float64(len(all)))
			n.log.Warn("notices not sent before stopping", "channel", q.to.name(), "notices", len(all), "err", err)
			return
		}
		n.sent.WithLabelValues(q.to.name()).Add(float64(len(all)))
		all = nil
	}
}

// deliverNotices retries until the notices are sent or the attempts are used up.
// It returns the notices that are left if ctx ends before.
func (n *Notifier) deliverNotices(ctx context.Context, to channel, notices []Notice) (left []Notice) {
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
			n.log.Warn("sending notices failed", "channel", to.name(), "notices", len(notices), "attempts", attempt, "err", err)
			return nil
		}
		n.retried.WithLabelValues(to.name()).Inc()
		select {
		case <-ctx.Done():
			return notices
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Hour)
	}
}
