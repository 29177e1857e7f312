package enforcement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/daw"
	"dragnet/daw/faillog"
	"dragnet/daw/station"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
)

// Response is safe for concurrent use.
type Response struct {
	c       Configuration
	docket  *ledger.Ledger
	log     *slog.Logger
	notify  func(Notice)
	metrics *metrics

	mu        sync.Mutex // guards what follows
	station   *station.Station
	proposals []dossier.Proposal // that wait for the judge
	known     []dossier.Decision // that agents must know of
	allow     []netip.Prefix
	faillogs  map[string]*drops // by agent
	receipts  []dossier.Receipt // not kept yet
	silent    map[string]bool
	rising    bool

	// Documents, if set before Start, is where orders for enrolled agents go.
	Documents Documents
	published map[string][]byte // by agent; turn's alone

	again     flow.Time // when the standing decision may be proposed again; turn's alone
	firewalls *faillog.Receiver
	server    *http.Server
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

// Notice is something people should hear of.
type Notice struct {
	Time flow.Time `json:"time"`
	// Kind is "finding", "decision", "alarm", "trend" or "agent".
	Kind string `json:"kind"`
	Text string `json:"text"`
	// Finding and Decision are what it is about, if it is.
	Finding  *dossier.Finding  `json:"finding,omitempty"`
	Decision *dossier.Decision `json:"decision,omitempty"`
}

// New prepares a response; Start begins. notify may be nil.
func New(c Configuration, d *ledger.Ledger, log *slog.Logger, registry prometheus.Registerer, notify func(Notice)) (*Response, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Response{c: c, docket: d, log: log, notify: notify, metrics: newMetrics(registry), station: station.New(c.Alarm), faillogs: map[string]*drops{}, silent: map[string]bool{}, published: map[string][]byte{}}
	for _, a := range c.Agents {
		r.faillogs[a.Name] = newDrops(clock())
	}
	if notify == nil {
		r.notify = func(Notice) {}
	}
	var err error
	r.firewalls, err = faillog.New(c.Faillog, r.dropped)
	return r, err
}

// Start begins to hear agents and firewalls, and to have proposals judged.
func (r *Response) Start(ctx context.Context) error {
	if err := r.turn(ctx, clock()); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	if err := r.listen(running); err != nil {
		stop()
		return err
	}
	r.wg.Go(func() {
		tick := time.NewTicker(r.c.Every)
		defer tick.Stop()
		for {
			select {
			case <-running.Done():
				return
			case <-tick.C:
			}
			if err := r.turn(running, clock()); err != nil && running.Err() == nil {
				r.metrics.troubles.Inc()
				r.log.Error("decisions are not up to date", "err", err)
			}
		}
	})
	return nil
}

func clock() flow.Time { return flow.FromTime(time.Now()) }

func (r *Response) listen(ctx context.Context) error {
	if r.c.Faillog.Listen != "" {
		conn, err := r.firewalls.Listen()
		if err != nil {
			return err
		}
		r.wg.Go(func() {
			if err := r.firewalls.Run(ctx, conn); err != nil {
				r.log.Error("drop logs are no longer received", "err", err)
			}
		})
	}
	if r.c.Socket == "" {
		return nil
	}
	listener, err := openSocket(r.c.Socket)
	if err != nil {
		return err
	}
	r.server = &http.Server{Handler: r.handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
	r.wg.Go(func() { r.serve(listener) })
	return nil
}

func (r *Response) serve(l net.Listener) {
	if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		r.log.Error("agents are no longer heard", "err", err)
	}
}

// Stop ends the response; agents go on with their last orders.
func (r *Response) Stop(ctx context.Context) error {
	r.stop()
	var err error
	if r.server != nil {
		err = r.server.Shutdown(ctx)
	}
	r.wg.Wait()
	return err
}

// Propose has the judge decide on a proposal at the next turn.
func (r *Response) Propose(p dossier.Proposal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.proposals) < maxProposals {
		r.proposals = append(r.proposals, p)
	}
}

// maxProposals bounds what waits for the judge.
const maxProposals = 10_000

// agent is the configured one of that name.
func (r *Response) agent(name string) (*Agent, error) {
	for i := range r.c.Agents {
		if r.c.Agents[i].Name == name {
			return &r.c.Agents[i], nil
		}
	}
	return nil, fmt.Errorf("agent %q is not among station.agents of the node's configuration", name)
}

// Exchange takes an agent's bulletin and gives its orders. Who asks must be
// known to be that agent.
func (r *Response) Exchange(_ context.Context, b daw.AgentReport) (daw.AgentPolicy, error) {
	return r.exchange(b, false)
}

// exchange is Exchange; of an old bulletin, what it says about the present is
// left out.
func (r *Response) exchange(b daw.AgentReport, old bool) (daw.AgentPolicy, error) {
	if err := b.Validate(); err != nil {
		r.metrics.nonsense.Inc()
		return daw.AgentPolicy{}, err
	}
	a, err := r.agent(b.Agent)
	if err != nil {
		r.metrics.nonsense.Inc()
		return daw.AgentPolicy{}, err
	}
	now := clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metrics.bulletins.Inc()
	if !old && !r.station.Report(now, b.Agent, b.Report, own(a, b.Offenders)) {
		r.metrics.nonsense.Inc()
		r.log.Warn("a report contradicts itself and is not used", "agent", b.Agent)
	}
	for _, p := range b.Persistent {
		if len(own(a, []daw.Offender{p.Offender})) > 0 && len(r.proposals) < maxProposals {
			r.proposals = append(r.proposals, persistent(b.Agent, p))
		}
	}
	if len(r.receipts) < maxReceipts {
		r.receipts = append(r.receipts, b.Receipts...)
	}
	return r.orders(a), nil
}

// maxReceipts bounds the receipts that wait to be kept.
const maxReceipts = 100_000

// own are the offenders that an agent may accuse: sources it watches.
func own(a *Agent, all []daw.Offender) []daw.Offender {
	kept := make([]daw.Offender, 0, len(all))
	for _, o := range all {
		if flow.Within(a.Scope.Sources, o.Addr) {
			kept = append(kept, o)
		}
	}
	return kept
}

func persistent(agent string, p daw.Persistent) dossier.Proposal {
	return dossier.Proposal{
		Target: netip.PrefixFrom(p.Addr, p.Addr.BitLen()), Who: "guard " + agent, TTL: p.Next,
		Why: fmt.Sprintf("%s was at its limit of failing connections on %d days in a row", p.Addr, p.Days),
	}
}

// orders are what an agent is to know. It is called with mu held.
func (r *Response) orders(a *Agent) daw.AgentPolicy {
	o := daw.AgentPolicy{Version: daw.MessageVersion, Scope: &a.Scope, Days: r.c.Days, Allow: r.allow, Decisions: []dossier.Decision{}}
	d := r.faillogs[a.Name]
	d.expire(clock())
	o.FailLogs, o.FailLogsFrom = slices.Clone(d.logs), d.first
	if r.station.Alarm() {
		o.Days = min(r.c.Days, r.c.AlarmDays)
	}
	for _, d := range r.known {
		switch {
		case d.Standing != nil:
			// Each agent gets an equal share of what all may hold together.
			share := *d.Standing
			share.Most /= len(r.c.Agents)
			d.Standing = &share
			if share.Most > 0 {
				o.Decisions = append(o.Decisions, d)
			}
		case touches(a, d.Target):
			o.Decisions = append(o.Decisions, d)
		}
	}
	return o
}

func touches(a *Agent, target netip.Prefix) bool {
	for _, s := range a.Scope.Sources {
		if s.Overlaps(target) {
			return true
		}
	}
	return false
}

// dropped takes a firewall's drop for the agent of its source.
func (r *Response) dropped(l daw.FailLog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.c.Agents {
		a := &r.c.Agents[i]
		if flow.Within(a.Scope.Sources, l.Src) && r.faillogs[a.Name].add(clock(), l) {
			r.metrics.faillogs.Inc()
		}
	}
}
