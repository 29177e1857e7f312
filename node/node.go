// Package node is an organisation's node: it stores what the organisation saw,
// looks for attackers in it, acts on them within the judge's rules, and answers
// questions about it. This file joins the parts; each does its work in its own
// package.
package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/ask/witness/endpoint"
	"dragnet/decide/ledger"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/node/agents"
	"dragnet/node/api"
	"dragnet/node/bouncers"
	"dragnet/node/centre"
	"dragnet/node/decisions"
	"dragnet/node/detection"
	"dragnet/node/enforcement"
	"dragnet/node/follow"
	"dragnet/node/hunt"
	"dragnet/node/hunt/witnesses"
	"dragnet/node/layout"
	"dragnet/node/notify"
	"dragnet/node/query"
	"dragnet/node/sensors"
	"dragnet/node/subscribe"
	"dragnet/source/collect"
	"dragnet/source/kafka"
	"dragnet/store/clickhouse"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// Node is an organisation's node. Start, Reload and Stop are called from one
// goroutine.
type Node struct {
	config  Configuration
	program run.Program
	parts   run.Parts // in the order in which they need each other

	admin       *admin.Server
	enforcement *enforcement.Enforcement
	witness     *endpoint.Service // nil if questions are not answered
	api         *api.Server
}

// readersAtOnce bounds the requests that read flows at a time, each of which may
// use all cores.
const readersAtOnce = 2

// New makes a node; Start starts it.
func New(c Configuration, p run.Program) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := &Node{config: c, program: p}
	dir := c.Directory()
	log := func(part string) *slog.Logger { return logging.Component(p.Log, part) }
	var err error
	if n.admin, err = admin.New(c.Admin, p.Release, p.Commit, log("admin")); err != nil {
		return nil, err
	}
	gate := api.NewGate(readersAtOnce)
	stored := query.NewStoreServer(c.Store.Place(), dir.Sources(), gate)
	n.admin.AddStatus(stored.StoreStatus)
	n.admin.AddStatus(stored.SourcesStatus)
	db := c.Database()
	n.admin.AddStatus(db.Status)
	registry := agents.New(agents.Dependencies{DB: db, Authority: dir.Authority(), Log: log("agents")})
	notifier, err := notify.New(c.Notify, notify.Dependencies{Log: log("notify"), Admin: n.admin})
	if err != nil {
		return nil, err
	}
	if n.enforcement, err = enforcement.New(c.Enforcement, enforcement.Dependencies{
		Site: c.Site, Ledger: ledger.New(db), Station: dir.Station(), Rules: c.Decide, Agents: registry, Notify: notifier.Notify, Log: log("enforcement"), Admin: n.admin,
	}); err != nil {
		return nil, err
	}
	n.admin.AddStatus(registry.Status)
	captures, err := centre.New(c.Centre, centre.Dependencies{DB: db, Agents: registry, Findings: n.enforcement, Log: log("centre"), Admin: n.admin})
	if err != nil {
		return nil, err
	}
	detection, err := detection.New(c.Detection, detection.Dependencies{Site: c.Site, Findings: n.enforcement, Log: log("detection"), Admin: n.admin})
	if err != nil {
		return nil, err
	}
	var collector *collect.Collector // nil if no exporter is named
	if !c.Collect.Off() {
		if collector, err = collect.New(c.Collect, collect.Dependencies{File: dir.Templates(), Log: log("collect")}); err != nil {
			return nil, err
		}
	}
	var epochs *endpoint.Epochs // nil if there is no clearinghouse
	if c.Witness.Clearinghouse.URL != "" {
		if epochs, err = endpoint.OpenEpochs(dir.Epochs()); err != nil {
			return nil, err
		}
	}
	intake := sensors.New(sensors.Dependencies{DB: db, Agents: registry})
	following := follow.Dependencies{Store: c.Store, Collector: collector, Sensors: intake, Sources: dir.Sources(), Watcher: detection, Log: log("follow"), Admin: n.admin}
	if c.Kafka.Reads() {
		if following.Consumer, err = kafka.New(c.Kafka, kafka.Dependencies{File: dir.Kafka(), Log: log("kafka")}); err != nil {
			return nil, err
		}
	}
	if c.Kafka.Forwards() {
		if following.Forwarder, err = kafka.NewForwarder(c.Kafka, kafka.Dependencies{Log: log("kafka")}); err != nil {
			return nil, err
		}
	}
	if notifier.WantsFlows() {
		following.Watcher = watchers{detection, notifier}
	}
	if epochs != nil {
		following.Epoch = epochs.Name
	}
	follower, err := follow.New(c.Follow, following)
	if err != nil {
		return nil, err
	}
	n.parts = run.Parts{dataDirectory{dir}, db, registry, intake, notifier, n.enforcement, captures, detection, follower}
	if !c.Witness.Off() {
		if n.witness, err = endpoint.New(c.Witness, endpoint.Dependencies{
			Site: c.Site, Log: follower.Log, DB: db, Key: dir.WitnessKey(), Held: dir.Roster(), Epochs: epochs, Logger: log("witness"), Admin: n.admin,
		}); err != nil {
			return nil, err
		}
		n.parts = append(n.parts, n.witness)
	}
	if err := n.addFeeds(c, ledger.New(db), log); err != nil {
		return nil, err
	}
	if c.API.Socket == "" {
		c.API.Socket = dir.Socket()
	}
	if n.api, err = api.New(c.API, api.Dependencies{
		Log: log("api"), Admin: n.admin, TLS: registry.ServerTLS(c.API.ServerNames()), Member: registry.FindMember,
		Services: slices.Concat(readServices(&c, stored, gate), []api.Service{registry.Service(), registry.Operators().Service(), n.statusService()},
			decisions.NewServer(decisions.Dependencies{
				Ledger: ledger.New(db), Log: log("decisions"),
				SetAside: func(ctx context.Context, signature string) (string, error) {
					return centre.SetAside(ctx, db, signature)
				},
			}).Services()),
	}); err != nil {
		return nil, err
	}
	n.parts = append(n.parts, n.api, n.admin)
	return n, nil
}

// addFeeds adds what follows a clearinghouse's publications, and what hands the
// node's decisions to bouncers.
func (n *Node) addFeeds(c Configuration, book *ledger.Ledger, log func(string) *slog.Logger) error {
	if c.Subscribe.URL != "" {
		if c.Subscribe.Directory == "" {
			c.Subscribe.Directory = filepath.Join(c.Store.Directory, "feed")
		}
		s, err := subscribe.New(c.Subscribe, subscribe.Dependencies{Ledger: book, Log: log("subscribe")})
		if err != nil {
			return err
		}
		n.parts = append(n.parts, s)
	}
	if c.Bouncers.Listen != "" {
		b, err := bouncers.New(c.Bouncers, bouncers.Dependencies{Ledger: book, Log: log("bouncers")})
		if err != nil {
			return err
		}
		n.parts = append(n.parts, b)
	}
	return nil
}

// statusService returns the service that says whether all is well.
func (n *Node) statusService() api.Service {
	path, handler := nodev1connect.NewStatusServiceHandler(statusServer{n, time.Now()}, api.HandlerOptions()...)
	return api.Service{Path: path, Handler: handler, Access: api.Operators}
}

type statusServer struct {
	node    *Node
	started time.Time
}

// GetStatus implements nodev1connect.StatusServiceHandler.
func (s statusServer) GetStatus(ctx context.Context, _ *nodev1.GetStatusRequest) (*nodev1.GetStatusResponse, error) {
	out := &nodev1.GetStatusResponse{Release: s.node.program.Release, Commit: s.node.program.Commit, Started: timestamppb.New(s.started)}
	for _, x := range s.node.admin.Statuses(ctx) {
		out.Parts = append(out.Parts, &nodev1.PartStatus{Part: x.Part, Level: string(x.Level), Text: x.Text, Hint: x.Hint})
	}
	return out, nil
}

// readServices returns the services that read stored flows.
func readServices(c *Configuration, stored *query.StoreServer, gate *api.Gate) []api.Service {
	open := query.OpenPlace(c.Store.Place())
	own := hunt.Configuration{Witness: c.Witness.Limits, Silent: c.Site.Silent}
	return []api.Service{
		query.NewServer(open, gate).Service(),
		stored.Service(),
		witnesses.NewServer(own, open, gate).Service(),
	}
}

// watchers sees flows as detection does, and sends them.
type watchers struct {
	*detection.Detection
	notifier *notify.Notifier
}

// Add implements follow.Watcher.
func (w watchers) Add(batch []flow.Flow) {
	w.Detection.Add(batch)
	w.notifier.NotifyFlows(batch)
}

// dataDirectory is the part that creates the data directory.
type dataDirectory struct{ layout.Directory }

// Start creates the directory.
func (d dataDirectory) Start(context.Context) error { return d.Create() }

// Stop does nothing.
func (dataDirectory) Stop(context.Context) error { return nil }

// Start starts the parts; when one cannot start, those before it are stopped.
func (n *Node) Start(ctx context.Context) error {
	if err := n.parts.Start(ctx); err != nil {
		return err
	}
	n.warnOfOldFiles()
	n.program.Log.Info("node started", "store", clickhouse.Redact(n.config.Store.Place()), "logs", n.config.Follow.Logs,
		"admin", n.admin.Address(), "socket", n.api.Socket(), "api", n.api.Address())
	return nil
}

// warnOfOldFiles logs the files of earlier versions that are no longer read.
func (n *Node) warnOfOldFiles() {
	old := filepath.Join(n.config.Store.Directory, "docket.db")
	if _, err := os.Stat(old); err == nil {
		n.program.Log.Warn("file of an earlier version is no longer read; keep it as the record of questions asked before", "file", old)
	}
}

// Failed receives the error of the first part that failed.
func (n *Node) Failed() <-chan error { return n.parts.Failed() }

// Stop stops the parts, in the opposite order.
func (n *Node) Stop(ctx context.Context) error { return n.parts.Stop(ctx) }

// Reload applies the parts of c that a running node can change: the rules of the
// judge with their allow list, the roster, and the log level. It logs what was
// applied, and which changed keys need a restart.
func (n *Node) Reload(ctx context.Context, c Configuration) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if n.program.Level != nil {
		n.program.Level.Set(c.Logging.Level)
	}
	if n.witness != nil {
		n.witness.ReloadRoster()
	}
	if err := n.enforcement.SetRules(ctx, c.Decide); err != nil {
		return err
	}
	n.program.Log.Info("configuration reloaded", "allow", c.Decide.Allow, "level", c.Logging.Level, "roster", c.Witness.Roster.File)
	old := n.config
	old.Decide, old.Logging.Level = c.Decide, c.Logging.Level
	run.LogRestart(n.program.Log, conf.ChangedKeys(old, c))
	return nil
}
