package channel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/metric"
	"dragnet/internal/run"
	"dragnet/internal/spool"
	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/agent/v1/agentv1connect"
	"dragnet/wire/enrol"
)

// Configuration of a channel.
type Configuration struct {
	// State is the folder of the agent's certificate, last configuration and
	// spool, as 'dragnet-agent enrol' made it.
	State string `yaml:"state"`
	// SpoolBytes bounds what waits on the disk while the node is away; the
	// oldest go first.
	SpoolBytes int64 `yaml:"spool_bytes"`
	// SpoolAge is how long it may wait.
	SpoolAge time.Duration `yaml:"spool_age"`
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.State != "", "state", "is empty; name the folder that 'dragnet-agent enrol' made")
	p.Check(c.SpoolBytes >= 1<<20, "spool_bytes", "is %d; want at least 1048576", c.SpoolBytes)
	p.Check(c.SpoolAge >= time.Minute, "spool_age", "is %v; want at least 1m", c.SpoolAge)
	return p.Join()
}

// DefaultConfiguration keeps a week in 256 MiB.
func DefaultConfiguration() Configuration {
	return Configuration{State: "/var/lib/dragnet-agent", SpoolBytes: 256 << 20, SpoolAge: 7 * 24 * time.Hour}
}

// Document is the configuration of a role.
type Document struct {
	// Version is the node's name for this content.
	Version string
	// Format is the version of the body's format, which the role defines.
	Format uint32
	Body   []byte
}

// Item is a report, finding or capture for the node.
type Item struct {
	// Kind says what the body is, such as "guard.report", and Format which
	// format of it.
	Kind   string
	Format uint32
	Body   []byte
}

// MaxBody bounds the body of an item, in bytes.
const MaxBody = 1 << 20

// Dependencies of a client.
type Dependencies struct {
	Log *slog.Logger
	// Admin gets metrics, and a check that the node answers; it may be nil. It is
	// started after the channel.
	Admin *admin.Server
	// Role is the role that the agent must be enrolled for.
	Role string
	// Release is the program's, for people to read.
	Release string
	// Apply puts a document into use. It is called from one goroutine, and
	// first by Start, with the last document that was good. An error means that
	// the role cannot use it and keeps the previous one; the node is informed.
	// Nil leaves documents alone.
	Apply func(ctx context.Context, d Document) error
	// Retry is how long to wait after a first failure; later ones wait up to 60
	// times as long. 0 means a second.
	Retry time.Duration
}

// Client is an agent's end of the channel. Send and Status are safe for
// concurrent use.
type Client struct {
	config Configuration
	deps   Dependencies
	now    func() time.Time
	retry  backoff

	folder *enrol.Folder
	spool  *spool.Spool

	group *run.Group

	mu        sync.Mutex // guards all below
	status    Status
	client    agentv1connect.AgentServiceClient
	transport *http.Transport
}

// Status is the state of a channel.
type Status struct {
	Name, Node string
	// Connected says whether the node answered last; Problem is why not.
	Connected bool
	Problem   string
	// Version is the configuration in use, empty for none.
	Version string
	// Refused is a newer one that the role cannot use.
	Refused string
	// Waiting is the size of the spool's files, in bytes; Dropped counts the
	// items that its limits took.
	Waiting int64
	Dropped uint64
	// Until is when the certificate ends.
	Until time.Time
}

// New makes a client; Start starts it.
func New(config Configuration, deps Dependencies) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	first := cmp.Or(deps.Retry, time.Second)
	c := &Client{config: config, deps: deps, now: time.Now, retry: backoff{first, 60 * first}, group: run.NewGroup()}
	c.addMetrics(deps.Admin)
	return c, nil
}

// addMetrics registers what Status returns, and that the node answers as a
// condition of being ready.
func (c *Client) addMetrics(a *admin.Server) {
	m := metric.Under(a.Metrics(), "dragnet_channel_")
	m.GaugeFunc("connected", "1 if the node answered last, otherwise 0.", func() float64 {
		if c.Status().Connected {
			return 1
		}
		return 0
	})
	m.GaugeFunc("waiting_bytes", "Size of the spool of items for the node.", func() float64 { return float64(c.Status().Waiting) })
	m.CounterFunc("dropped_total", "Items dropped by the limits of the spool.", func() uint64 { return c.Status().Dropped })
	m.GaugeFunc("certificate_expiry_seconds", "When the certificate ends, in seconds since 1970.", func() float64 { return float64(c.Status().Until.Unix()) })
	a.AddReady(func(context.Context) error {
		if s := c.Status(); !s.Connected {
			return fmt.Errorf("the node %s does not answer: %s", s.Node, s.Problem)
		}
		return nil
	})
}

// Start opens the folder and the spool, applies the last good configuration,
// and talks to the node until Stop. It needs no node to be there.
func (c *Client) Start(ctx context.Context) (err error) {
	if c.folder, err = enrol.Open(c.config.State); err != nil {
		return err
	}
	m := c.folder.Member()
	if m.Role != c.deps.Role {
		return fmt.Errorf("%s: enrolled as %s, not as %s; enrol each role in a separate folder", c.config.State, m.Role, c.deps.Role)
	}
	limits := spool.Limits{Bytes: c.config.SpoolBytes, Age: c.config.SpoolAge}
	if c.spool, err = spool.Open(filepath.Join(c.config.State, "spool"), limits); err != nil {
		return err
	}
	for _, p := range c.spool.Problems() {
		c.deps.Log.Warn("spool is damaged", "err", p)
	}
	c.status = Status{Name: m.Name, Node: m.Node, Problem: "the node was not asked yet"}
	c.connect()
	if err := c.applyLast(ctx); err != nil {
		return errors.Join(err, c.spool.Close())
	}
	for _, f := range []func(context.Context){c.configure, c.sendAll, c.renew} {
		c.group.GoWithoutError(f)
	}
	return nil
}

// connect makes new connections from now on, with the certificate that there is
// now. Those that are in use end with what they are used for.
func (c *Client) connect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
	c.client, c.transport = dial(c.folder.Member().Node, c.folder.ClientTLS())
}

func (c *Client) node() agentv1connect.AgentServiceClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// Stop disconnects from the node. What was not sent stays on disk.
func (c *Client) Stop(ctx context.Context) error {
	if err := c.group.Stop(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transport.CloseIdleConnections()
	return c.spool.Close()
}

// Send hands items over for the node. When it returns without an error they
// are on the disk and will arrive, unless the spool's limits take them.
func (c *Client) Send(items ...Item) error {
	now := c.now()
	data := make([][]byte, len(items))
	for i, item := range items {
		if len(item.Body) > MaxBody || item.Kind == "" || len(item.Kind) > 64 {
			return fmt.Errorf("channel: an item of kind %.80q with %d bytes; want a kind of 1 to 64 bytes and at most %d", item.Kind, len(item.Body), MaxBody)
		}
		var err error
		m := &agentv1.Item{Kind: item.Kind, Format: item.Format, Time: timestamppb.New(now), Body: item.Body}
		if data[i], err = proto.Marshal(m); err != nil {
			return err
		}
	}
	return c.spool.Append(now, data...)
}

// Status returns the state of the channel.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Waiting, s.Dropped = c.spool.Waiting()
	_, s.Until = c.folder.Validity()
	return s
}

// noteContact remembers whether the node answered, and logs a change.
func (c *Client) noteContact(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	was, before := c.status.Connected, c.status.Problem
	c.status.Connected, c.status.Problem = err == nil, problem
	switch {
	case err == nil && !was:
		c.deps.Log.Info("connected to node", "node", c.status.Node, "as", c.status.Name)
	case err != nil && (was || before != problem):
		c.deps.Log.Warn("node does not answer; continuing without it", "node", c.status.Node, "configuration", c.status.Version, "err", err)
	}
}
