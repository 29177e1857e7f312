// Package follow follows growing logs into the node's store, keeps the store
// within its bounds, computes the standard keys for each new day's salts, and
// serves health checks and metrics on its own port.
//
// It loses nothing that was acknowledged, however it ends: what was not committed
// is read again from the logs.
package follow

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/conf"
	"dragnet/internal/run"
	"dragnet/node/ingest"
	"dragnet/node/sensors"
	"dragnet/source/collect"
	"dragnet/source/kafka"
	"dragnet/store"
)

// Configuration names the logs to follow.
type Configuration struct {
	// Logs are files and directories of logs, flow files and captures, of any
	// format that 'dragnet flow import' reads. A directory means all it
	// holds at any depth.
	Logs []string `yaml:"logs"`
	// Every is the interval at which the logs are read.
	Every time.Duration `yaml:"every"`
}

// DefaultConfiguration follows no logs.
func DefaultConfiguration() Configuration {
	return Configuration{Logs: []string{}, Every: 5 * time.Second}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Every >= 100*time.Millisecond && c.Every <= time.Hour, "every", "is %v; want 100ms to 1h", c.Every)
	return p.Join()
}

// Dependencies of a follower.
type Dependencies struct {
	// Store is where flows are stored.
	Store store.Configuration
	// Collector, if not nil, receives exports, which are stored too. The
	// follower starts and stops it.
	Collector *collect.Collector
	// Sensors, if not nil, have flows that are stored too. It is started and
	// stopped elsewhere.
	Sensors *sensors.Intake
	// Consumer, if not nil, reads topics, whose flows are stored too; Forwarder,
	// if not nil, writes all flows that are stored to one. The follower starts and
	// stops both.
	Consumer  *kafka.Consumer
	Forwarder *kafka.Forwarder
	// Sources, if not empty, is the file that records what was received of
	// each source, and what was lost.
	Sources string
	// Watcher, if not nil, sees the flows that are stored.
	Watcher Watcher
	// Epoch returns the epoch of a day, whose salts the keys of new flows use; if
	// nil, the epoch is the day.
	Epoch func(day string) string
	Log   *slog.Logger
	// Admin gets the metrics and health checks; it may be nil.
	Admin *admin.Server
}

// Follower follows logs. Its methods are not safe for concurrent use.
type Follower struct {
	config  Configuration
	deps    Dependencies
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	group   *run.Group

	place    store.Writer
	importer *ingest.Importer
	epoch    string
	pruned   time.Time
	seen     map[string]fileState
	// importedNow counts the flows imported in this reading, imported those since
	// memory was released.
	importedNow, imported uint64
	newest                flow.Time // stored, at the last reading; 0 before one

	exports *exports // nil if nothing is collected
	said    []byte   // what is in the file of sources

	ready    atomic.Bool
	lastRead atomic.Int64 // Unix seconds of the last reading of the logs
}

// Watcher sees flows as they are stored.
type Watcher interface {
	// Prime may read the flows that are stored already.
	Prime(ctx context.Context, stored store.Reader) error
	// Add is called with new flows; after a crash, with some of them again.
	Add(batch []flow.Flow)
	// Tick is called after each reading of the logs.
	Tick(ctx context.Context, now time.Time) error
}

// fileState shows whether a file has changed since it was read.
type fileState struct {
	size int64
	mod  time.Time
}

// New makes a follower; Start starts it.
func New(config Configuration, d Dependencies) (*Follower, error) {
	if err := errors.Join(config.Validate(), d.Store.Validate()); err != nil {
		return nil, err
	}
	f := &Follower{
		config: config, deps: d, log: d.Log, now: time.Now, seen: map[string]fileState{},
		metrics: newMetrics(d.Admin.Metrics()), group: run.NewGroup(),
	}
	if d.Collector != nil {
		f.exports = &exports{Collector: d.Collector}
		f.exports.registerMetrics(d.Admin.Metrics())
	}
	f.registerTopics(d.Admin.Metrics())
	d.Admin.AddLive(f.checkLive)
	d.Admin.AddReady(f.checkReady)
	return f, nil
}

// Start opens the store, and reads the logs and whatever is added to them until
// Stop, or until it fails (see Failed).
func (f *Follower) Start(ctx context.Context) (err error) {
	f.epoch = f.currentEpoch()
	if f.place, err = ingest.OpenWriter(ctx, f.deps.Store.Place(), f.epoch); err != nil {
		return err
	}
	if err := f.prepareImporter(ctx); err != nil {
		return errors.Join(err, f.place.Close())
	}
	if err := f.startTopics(ctx); err != nil {
		return errors.Join(err, f.place.Close())
	}
	if f.exports != nil {
		if err := f.exports.Start(ctx); err != nil {
			return errors.Join(err, f.place.Close())
		}
		f.exports.noteLosses() // those of earlier runs were reported
	}
	f.group.Go(f.readRegularly)
	return nil
}

// prepareImporter makes the importer, and lets the watcher read the stored flows.
func (f *Follower) prepareImporter(ctx context.Context) error {
	logs, err := f.place.Sources(ctx)
	if err != nil {
		return err
	}
	f.importer = ingest.NewImporter(logs, f.place)
	f.importer.Progress = func(n int) { f.metrics.read.Add(float64(n)) }
	if w := f.deps.Forwarder; w != nil {
		f.importer.Flows = w.Add
		f.importer.Committing = func() { w.Flush(context.Background()) }
	}
	if f.deps.Watcher == nil {
		return nil
	}
	forward := f.importer.Flows
	f.importer.Flows = func(batch []flow.Flow) {
		f.deps.Watcher.Add(batch)
		if forward != nil {
			forward(batch)
		}
	}
	stored, err := ingest.OpenReader(ctx, f.deps.Store.Place())
	if err != nil {
		return err
	}
	return errors.Join(f.deps.Watcher.Prime(ctx, stored), stored.Close())
}

// Failed receives the error that ended the follower.
func (f *Follower) Failed() <-chan error { return f.group.Failed() }

// Log reads the stored flows; it works from Start to Stop.
func (f *Follower) Log() flow.Log { return f.place.Log() }

// Stop commits what was read and closes the store, waiting at most until ctx ends.
func (f *Follower) Stop(ctx context.Context) error {
	f.ready.Store(false)
	if err := f.group.Stop(ctx); err != nil {
		return err
	}
	return f.place.Close()
}

// currentEpoch returns the epoch whose keys are computed.
func (f *Follower) currentEpoch() string {
	day := f.now().UTC().Format(time.DateOnly)
	if f.deps.Epoch != nil {
		return f.deps.Epoch(day)
	}
	return day
}

// readRegularly reads the logs at intervals until it is stopped. It completes a
// reading that has started.
func (f *Follower) readRegularly(ctx context.Context) error {
	tick := time.NewTicker(f.config.Every)
	defer tick.Stop()
	for {
		if err := f.readLogs(ctx); err != nil {
			return err
		}
		f.lastRead.Store(f.now().Unix())
		f.ready.Store(true)
		if err := f.waitForTick(ctx, tick.C); err != nil {
			return err
		}
		if ctx.Err() != nil {
			err := f.endExports(context.WithoutCancel(ctx))
			f.endTopics(context.WithoutCancel(ctx))
			f.saveSources(context.WithoutCancel(ctx))
			return err
		}
	}
}

// waitForTick waits for the next tick, and stores exports that cannot wait.
func (f *Follower) waitForTick(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			return nil
		case <-f.exports.nearlyFull():
			if err := f.takeExports(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	}
}

// readLogs imports what is new in the logs and maintains the store. An unreadable
// log is skipped; a store that cannot be written to is an error.
func (f *Follower) readLogs(ctx context.Context) error {
	for _, path := range f.config.Logs {
		files, err := ingest.Files(path)
		if err != nil {
			f.warnNotImported(path, err)
			continue
		}
		for _, file := range files {
			if ctx.Err() != nil {
				return f.importer.Commit()
			}
			if err := f.importFile(file); err != nil {
				return err
			}
		}
	}
	if err := f.takeExports(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := f.takeSensors(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := f.takeTopics(ctx); err != nil {
		return err
	}
	if err := f.importer.Commit(); err != nil {
		return err
	}
	f.saveSources(ctx)
	if f.deps.Watcher != nil {
		if err := f.deps.Watcher.Tick(ctx, f.now()); err != nil && ctx.Err() == nil {
			f.log.Error("detection failed", "err", err) // continue with the logs
		}
	}
	if err := f.releaseMemory(); err != nil {
		return err
	}
	return f.maintainStore(ctx)
}

// A node that has caught up releases the memory that importing took: once it has
// imported releaseAfter flows since the last release, and fewer than
// caughtUpBelow in this reading.
const (
	releaseAfter  = 100_000
	caughtUpBelow = 10_000
)

func (f *Follower) releaseMemory() error {
	now := f.importedNow
	f.importedNow, f.imported = 0, f.imported+now
	if now >= caughtUpBelow || f.imported < releaseAfter {
		return nil
	}
	f.imported = 0
	if err := f.place.ReleaseMemory(); err != nil {
		return err
	}
	debug.FreeOSMemory()
	return nil
}

// importFile imports what was added to a file.
func (f *Follower) importFile(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil // renamed since it was listed; it is found under its new name
	}
	at := fileState{info.Size(), info.ModTime()}
	if f.seen[file] == at {
		return nil
	}
	// An import is short, so interrupting it would save little.
	done, err := f.importer.Import(context.Background(), file)
	var broken *os.PathError
	switch {
	case errors.As(err, &broken) && !isInside(f.deps.Store.Directory, broken.Path):
		f.warnNotImported(file, err)
		return nil
	case err != nil:
		return err
	case done.Status == ingest.Busy:
		f.log.Debug("file is imported by another node", "file", file)
		return nil // try again, even if the file does not change
	case done.Status == ingest.Refused:
		f.warnNotImported(file, errors.New(done.Problem))
	case done.Flows > 0:
		f.log.Info("file imported", "file", file, "status", done.Status, "flows", done.Flows, "skipped", done.Skipped)
	}
	f.importedNow += done.Flows
	f.metrics.imported.Add(float64(done.Flows))
	f.metrics.skipped.Add(float64(done.Skipped))
	f.seen[file] = at
	return nil
}

func isInside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func (f *Follower) warnNotImported(path string, err error) {
	f.metrics.troubles.Inc()
	f.log.Warn("file not imported", "path", path, "err", err)
}

// ignoreInterruption returns nil if ctx has ended: what was interrupted continues
// at the next start.
func ignoreInterruption(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pruneEvery is how often flows beyond retention are removed.
const pruneEvery = 10 * time.Minute

func (f *Follower) maintainStore(ctx context.Context) error {
	if now := f.now(); now.Sub(f.pruned).Abs() >= pruneEvery {
		f.pruned = now
		removed, err := f.place.Prune(ctx, f.deps.Store.Keep(), now)
		if err != nil {
			return ignoreInterruption(ctx, err)
		}
		for _, g := range removed {
			f.metrics.removed.Add(float64(g.Flows))
			f.log.Info("flows beyond retention removed", "flows", g.Flows, "from", g.From, "to", g.To)
		}
	}
	if day := f.currentEpoch(); day != f.epoch {
		if err := f.place.Rotate(ctx, day); err != nil {
			return ignoreInterruption(ctx, err)
		}
		f.epoch = day
	}
	return f.updateMetrics(ctx)
}

// updateMetrics sets the metrics of what is stored.
func (f *Follower) updateMetrics(ctx context.Context) error {
	cov, err := f.place.Coverage(ctx)
	if err != nil {
		return ignoreInterruption(ctx, err)
	}
	size, err := f.place.Bytes(ctx)
	if err != nil {
		return ignoreInterruption(ctx, err)
	}
	f.metrics.stored.Set(float64(cov.Flows))
	f.metrics.bytes.Set(float64(size))
	if cov.Flows > 0 {
		f.metrics.newest.Set(float64(cov.To) / float64(flow.Time(time.Second)))
		if f.newest != 0 && cov.To > f.newest { // what the first reading found is history
			f.metrics.lag.Observe(f.now().Sub(cov.To.Time()).Seconds())
		}
		f.newest = cov.To
	}
	return nil
}
