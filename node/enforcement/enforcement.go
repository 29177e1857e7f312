package enforcement

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dragnet/contain/guard"
	"dragnet/contain/sdn"
	"dragnet/daw"
	"dragnet/daw/faillog"
	"dragnet/daw/station"
	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/node/agents"
	"dragnet/node/notify"
)

// Dependencies of an enforcement.
type Dependencies struct {
	// Site holds our own networks: TakeFindings never proposes a block for one of
	// their hosts.
	Site flow.Site
	// Ledger keeps findings and decisions; its database must be open before Start.
	Ledger *ledger.Ledger
	// Station is the file of what the station has learnt; empty keeps nothing.
	Station string
	// Rules are those of the judge.
	Rules decide.Configuration
	// Agents receives guards' reports and sends policies; nil means no guards.
	Agents *agents.Registry
	// Notify sends a notice to people; it may be nil.
	Notify func(notify.Notice)
	Log    *slog.Logger
	// Admin gets the metrics; it may be nil.
	Admin *admin.Server
}

// Enforcement is safe for concurrent use.
type Enforcement struct {
	c       Configuration
	deps    Dependencies
	log     *slog.Logger
	metrics *metrics
	group   *run.Group

	mu        sync.Mutex // guards what follows
	station   *station.Station
	proposals []dossier.Proposal // waiting for the judge
	known     []dossier.Decision // sent to guards
	allow     []netip.Prefix
	faillogs  map[string]*drops // by guard
	receipts  []dossier.Receipt // not stored yet
	silent    map[string]bool
	rising    bool
	listed    map[string]bool // guards whose busiest sources were told since then

	saved     flow.Time         // when the station was; used by updateRegularly only
	published map[string][]byte // policies by guard; used by updateDecisions only
	started   bool
	again     flow.Time // when the standing decision may be proposed again; used by updateDecisions only
	firewalls *faillog.Receiver
	switches  []*sdn.Switch
}

// New makes an enforcement; Start starts it.
func New(c Configuration, d Dependencies) (*Enforcement, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Notify == nil {
		d.Notify = func(notify.Notice) {}
	}
	e := &Enforcement{
		c: c, deps: d, log: d.Log, metrics: newMetrics(d.Admin.Metrics()), group: run.NewGroup(), station: station.New(c.Station),
		faillogs: map[string]*drops{}, silent: map[string]bool{}, listed: map[string]bool{}, published: map[string][]byte{},
	}
	d.Admin.AddStatus(e.status)
	for _, a := range c.Agents {
		e.faillogs[a.Name] = newDrops(currentTime())
	}
	if d.Agents != nil {
		d.Agents.Handle(guard.ReportKind, agents.Handler{Roles: []string{"guard"}, Handle: e.takeReport})
	}
	var err error
	if e.switches, err = c.openSwitches(); err != nil {
		return nil, err
	}
	e.firewalls, err = faillog.New(c.Faillog, e.takeFailLog)
	return e, err
}

// Start migrates the ledger, then handles reports and has proposals judged until
// Stop.
func (e *Enforcement) Start(ctx context.Context) error {
	if err := e.deps.Ledger.Migrate(ctx); err != nil {
		return err
	}
	if err := e.SetRules(ctx, e.deps.Rules); err != nil {
		return err
	}
	e.loadStation()
	if err := e.updateDecisions(ctx, currentTime()); err != nil {
		return err
	}
	if e.c.Faillog.Listen != "" {
		conn, err := e.firewalls.Listen()
		if err != nil {
			return err
		}
		e.group.Go(func(ctx context.Context) error { return e.firewalls.Run(ctx, conn) })
	}
	e.group.Go(e.updateRegularly)
	for _, w := range e.switches {
		e.group.Go(func(ctx context.Context) error { return e.applyRegularly(ctx, w) })
	}
	return nil
}

// SetRules changes the rules of the judge, such as the allow list.
func (e *Enforcement) SetRules(ctx context.Context, rules decide.Configuration) error {
	return e.deps.Ledger.Configure(ctx, currentTime(), rules, "configuration")
}

// updateRegularly updates decisions at intervals. After a failure it tries again;
// guards keep their last policies.
func (e *Enforcement) updateRegularly(ctx context.Context) error {
	tick := time.NewTicker(e.c.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := e.updateDecisions(ctx, currentTime()); err != nil && ctx.Err() == nil {
			e.metrics.troubles.Inc()
			e.log.Error("update decisions failed", "err", err)
		}
		if now := currentTime(); now-e.saved > saveEvery {
			e.saved = now
			e.saveStation()
		}
	}
}

// Failed receives the error that ended the enforcement.
func (e *Enforcement) Failed() <-chan error { return e.group.Failed() }

// Stop ends the enforcement; guards keep their last policies, and switches their
// rules until the lease is over.
func (e *Enforcement) Stop(ctx context.Context) error {
	err := e.group.Stop(ctx)
	if e.started {
		e.saveStation()
	}
	return err
}

func currentTime() flow.Time { return flow.FromTime(time.Now()) }

// queueProposal queues a proposal for the judge's next update.
func (e *Enforcement) queueProposal(p dossier.Proposal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.proposals) < maxProposals {
		e.proposals = append(e.proposals, p)
	}
}

// maxProposals bounds the proposals that wait for the judge.
const maxProposals = 10_000

// findAgent returns the configured guard of a name.
func (e *Enforcement) findAgent(name string) (*Agent, error) {
	for i := range e.c.Agents {
		if e.c.Agents[i].Name == name {
			return &e.c.Agents[i], nil
		}
	}
	return nil, fmt.Errorf("guard %q is not among enforcement.agents of the node's configuration", name)
}

// addReport adds a report; the caller has authenticated the guard. If the report
// is old, its statements about the present are ignored.
func (e *Enforcement) addReport(b daw.AgentReport, old bool) error {
	if err := b.Validate(); err != nil {
		e.metrics.invalid.Inc()
		return err
	}
	a, err := e.findAgent(b.Agent)
	if err != nil {
		e.metrics.invalid.Inc()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.metrics.reports.Inc()
	if !b.Validated {
		b.Offenders, b.Persistent = nil, nil // anybody may have acted in their names
	}
	if !old && !e.station.Report(currentTime(), b.Agent, b.Report, ownOffenders(a, b.Offenders)) {
		e.metrics.invalid.Inc()
		e.log.Warn("report is inconsistent and was ignored", "agent", b.Agent)
	}
	e.listBusiest(a, b.Busiest)
	for _, p := range b.Persistent {
		if len(ownOffenders(a, []daw.Offender{p.Offender})) > 0 && len(e.proposals) < maxProposals {
			e.proposals = append(e.proposals, proposePersistent(b.Agent, p))
		}
	}
	if len(e.receipts) < maxReceipts {
		e.receipts = append(e.receipts, b.Receipts...)
	}
	return nil
}

// maxReceipts bounds the receipts that wait to be stored.
const maxReceipts = 100_000

// ownOffenders returns the offenders that a guard may report: sources it watches.
func ownOffenders(a *Agent, all []daw.Offender) []daw.Offender {
	kept := make([]daw.Offender, 0, len(all))
	for _, o := range all {
		if flow.Within(a.Scope.Sources, o.Addr) {
			kept = append(kept, o)
		}
	}
	return kept
}

func proposePersistent(agent string, p daw.Persistent) dossier.Proposal {
	return dossier.Proposal{
		Target: netip.PrefixFrom(p.Addr, p.Addr.BitLen()), Who: "guard " + agent, TTL: p.Next,
		Why: p.Why(),
	}
}

// makePolicy returns the policy for a guard. Call it with mu held.
func (e *Enforcement) makePolicy(a *Agent) daw.AgentPolicy {
	o := daw.AgentPolicy{Version: daw.MessageVersion, Scope: &a.Scope, Days: e.c.Days, Allow: e.allow, Decisions: []dossier.Decision{}}
	d := e.faillogs[a.Name]
	d.removeExpired(currentTime())
	o.FailLogs, o.FailLogsFrom = slices.Clone(d.logs), d.first
	o.Slow = e.rising
	if e.station.Alarm() {
		o.Days = min(e.c.Days, e.c.AlarmDays)
	}
	for _, d := range e.known {
		switch {
		case d.Standing != nil && d.Standing.Rule == dossier.RuleReset:
			// Those who match signatures get it with these.
		case d.Standing != nil:
			// Each agent gets an equal share of the total.
			share := *d.Standing
			share.Most /= len(e.c.Agents)
			d.Standing = &share
			if share.Most > 0 {
				o.Decisions = append(o.Decisions, d)
			}
		case isConcerned(a, d.Target):
			o.Decisions = append(o.Decisions, d)
		}
	}
	return o
}

// isConcerned reports whether a decision about target is for a guard.
func isConcerned(a *Agent, target netip.Prefix) bool {
	for _, s := range a.Scope.Sources {
		if s.Overlaps(target) {
			return true
		}
	}
	return false
}

// takeFailLog queues a firewall's drop for the guard of its source.
func (e *Enforcement) takeFailLog(l daw.FailLog) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.c.Agents {
		a := &e.c.Agents[i]
		if flow.Within(a.Scope.Sources, l.Src) && e.faillogs[a.Name].addDrop(currentTime(), l) {
			e.metrics.faillogs.Inc()
		}
	}
}
