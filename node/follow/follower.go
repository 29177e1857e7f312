// Package follow follows growing logs into the node's store, keeps the store
// within its bounds, computes the standard keys for each new day's salts, and
// serves health checks and metrics on its own port.
//
// Nothing that was acknowledged is lost when it ends, however it ends: what was
// not committed is read again from the logs.
package follow

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
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
	"dragnet/source/collect"
	"dragnet/store"
)

// Configuration says which logs are followed.
type Configuration struct {
	// Logs are files and directories of Zeek conn logs, Suricata's eve.json,
	// Squid's access.log and captures. A directory stands for all it holds at
	// any depth.
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
	// Store says where the flows go.
	Store store.Configuration
	// Collector, if not nil, receives exports, which are stored too. The
	// follower starts and stops it.
	Collector *collect.Collector
	// Watcher, if not nil, sees the flows that are stored.
	Watcher Watcher
	// Epoch names the epoch of a day, whose salts the keys of new flows use;
	// nil takes the day itself.
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
	seen     map[string]stamp
	// taken counts the flows imported in this turn, rushed those since memory
	// was given back.
	taken, rushed uint64

	exports *exports // nil if nothing is collected

	ready    atomic.Bool
	lastTurn atomic.Int64 // Unix seconds of the last reading of the logs
}

// Watcher is what looks at flows on their way in.
type Watcher interface {
	// Prime may read what was stored before.
	Prime(ctx context.Context, stored store.Reader) error
	// Add sees flows, some of them again after a crash.
	Add(batch []flow.Flow)
	// Turn is called after each look at the logs.
	Turn(ctx context.Context, now time.Time) error
}

// stamp tells whether a file has changed since it was looked at.
type stamp struct {
	size int64
	mod  time.Time
}

// New makes a follower; Start starts it.
func New(config Configuration, d Dependencies) (*Follower, error) {
	if err := errors.Join(config.Validate(), d.Store.Validate()); err != nil {
		return nil, err
	}
	f := &Follower{
		config: config, deps: d, log: d.Log, now: time.Now, seen: map[string]stamp{},
		metrics: newMetrics(d.Admin.Metrics()), group: run.NewGroup(),
	}
	if d.Collector != nil {
		f.exports = &exports{Collector: d.Collector, lost: map[netip.Addr]uint64{}}
		f.exports.register(d.Admin.Metrics())
	}
	d.Admin.AddLive(f.checkLive)
	d.Admin.AddReady(f.checkReady)
	return f, nil
}

// Start opens the store and reads what the logs hold and what is added to them,
// until Stop, or until Failed returns why it cannot.
func (f *Follower) Start(ctx context.Context) (err error) {
	f.epoch = f.today()
	if f.place, err = ingest.OpenWriter(ctx, f.deps.Store.Place(), f.epoch); err != nil {
		return err
	}
	if err := f.prepare(ctx); err != nil {
		return errors.Join(err, f.place.Close())
	}
	if f.exports != nil {
		if err := f.exports.Start(ctx); err != nil {
			return errors.Join(err, f.place.Close())
		}
	}
	f.group.Go(f.run)
	return nil
}

// prepare makes the importer, and lets the watcher read what was stored before.
func (f *Follower) prepare(ctx context.Context) error {
	logs, err := f.place.Sources(ctx)
	if err != nil {
		return err
	}
	f.importer = ingest.NewImporter(logs, f.place)
	f.importer.Progress = func(n int) { f.metrics.read.Add(float64(n)) }
	if f.deps.Watcher == nil {
		return nil
	}
	f.importer.Flows = f.deps.Watcher.Add
	stored, err := ingest.OpenReader(ctx, f.deps.Store.Place())
	if err != nil {
		return err
	}
	return errors.Join(f.deps.Watcher.Prime(ctx, stored), stored.Close())
}

// Failed receives the error that ended the follower.
func (f *Follower) Failed() <-chan error { return f.group.Failed() }

// Log reads what was stored, from Start to Stop.
func (f *Follower) Log() flow.Log { return f.place.Log() }

// Stop commits what was read and closes the store. It waits no longer than ctx.
func (f *Follower) Stop(ctx context.Context) error {
	f.ready.Store(false)
	if err := f.group.Stop(ctx); err != nil {
		return err
	}
	return f.place.Close()
}

// today is the epoch whose keys are computed.
func (f *Follower) today() string {
	day := f.now().UTC().Format(time.DateOnly)
	if f.deps.Epoch != nil {
		return f.deps.Epoch(day)
	}
	return day
}

// run reads the logs until it is stopped; a turn that was started is finished.
func (f *Follower) run(ctx context.Context) error {
	tick := time.NewTicker(f.config.Every)
	defer tick.Stop()
	for {
		if err := f.turn(ctx); err != nil {
			return err
		}
		f.lastTurn.Store(f.now().Unix())
		f.ready.Store(true)
		if err := f.await(ctx, tick.C); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return f.endExports(context.WithoutCancel(ctx))
		}
	}
}

// await waits until the next turn is due, and takes exports that cannot wait.
func (f *Follower) await(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			return nil
		case <-f.exports.full():
			if err := f.takeExports(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	}
}

// turn imports what is new and looks after the store. A log that cannot be read
// is not the end; a store that cannot be written is.
func (f *Follower) turn(ctx context.Context) error {
	for _, path := range f.config.Logs {
		files, err := ingest.Files(path)
		if err != nil {
			f.complain(path, err)
			continue
		}
		for _, file := range files {
			if ctx.Err() != nil {
				return f.importer.Commit()
			}
			if err := f.follow(file); err != nil {
				return err
			}
		}
	}
	if err := f.takeExports(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := f.importer.Commit(); err != nil {
		return err
	}
	if f.deps.Watcher != nil {
		if err := f.deps.Watcher.Turn(ctx, f.now()); err != nil && ctx.Err() == nil {
			f.log.Error("detection", "err", err) // the logs go on being followed
		}
	}
	if err := f.rest(); err != nil {
		return err
	}
	return f.maintain(ctx)
}

// A node that has caught up gives back the memory that the rush took: when it
// has imported rush flows since, and less than a trickle in this turn.
const (
	rush    = 100_000
	trickle = 10_000
)

func (f *Follower) rest() error {
	now := f.taken
	f.taken, f.rushed = 0, f.rushed+now
	if now >= trickle || f.rushed < rush {
		return nil
	}
	f.rushed = 0
	if err := f.place.ReleaseMemory(); err != nil {
		return err
	}
	debug.FreeOSMemory()
	return nil
}

// follow imports what a file has grown by.
func (f *Follower) follow(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil // it was renamed since it was listed; its content is found again
	}
	at := stamp{info.Size(), info.ModTime()}
	if f.seen[file] == at {
		return nil
	}
	// A turn is short, and to interrupt it would save little.
	done, err := f.importer.Import(context.Background(), file)
	var broken *os.PathError
	switch {
	case errors.As(err, &broken) && !inside(f.deps.Store.Directory, broken.Path):
		f.complain(file, err)
		return nil
	case err != nil:
		return err
	case done.Status == ingest.Busy:
		f.log.Debug("left to another node", "file", file)
		return nil // to be looked at again, though it may not change
	case done.Status == ingest.Refused:
		f.complain(file, errors.New(done.Problem))
	case done.Flows > 0:
		f.log.Info("imported", "file", file, "status", done.Status, "flows", done.Flows, "skipped", done.Skipped)
	}
	f.taken += done.Flows
	f.metrics.imported.Add(float64(done.Flows))
	f.metrics.skipped.Add(float64(done.Skipped))
	f.seen[file] = at
	return nil
}

func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func (f *Follower) complain(path string, err error) {
	f.metrics.troubles.Inc()
	f.log.Warn("not imported", "path", path, "err", err)
}

// interrupted passes over an error that only says that the service is stopped:
// what it was doing goes on at the next start.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pruneEvery is how often retention looks for what is too old.
const pruneEvery = 10 * time.Minute

func (f *Follower) maintain(ctx context.Context) error {
	if now := f.now(); now.Sub(f.pruned).Abs() >= pruneEvery {
		f.pruned = now
		removed, err := f.place.Prune(ctx, f.deps.Store.Keep(), now)
		if err != nil {
			return interrupted(ctx, err)
		}
		for _, g := range removed {
			f.metrics.removed.Add(float64(g.Flows))
			f.log.Info("removed what is beyond retention", "flows", g.Flows, "from", g.From, "to", g.To)
		}
	}
	if day := f.today(); day != f.epoch {
		if err := f.place.Rotate(ctx, day); err != nil {
			return interrupted(ctx, err)
		}
		f.epoch = day
	}
	return f.measure(ctx)
}

// measure tells the metrics what is stored.
func (f *Follower) measure(ctx context.Context) error {
	cov, err := f.place.Coverage(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	size, err := f.place.Bytes(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	f.metrics.stored.Set(float64(cov.Flows))
	f.metrics.bytes.Set(float64(size))
	if cov.Flows > 0 {
		f.metrics.newest.Set(float64(cov.To) / float64(flow.Time(time.Second)))
	}
	return nil
}
